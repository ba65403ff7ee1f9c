"""The commands that look after a run's record: words for people, JSON for programs, exit codes for scripts."""

import json
from pathlib import Path

import pytest
from ledger_samples import committed, flip, only, segment, trial
from recorded_run import record

from seal_ray import cli
from seal_ray.cli.opening import given_storage
from seal_ray.cli.start import _files
from seal_ray.commands import probe, regrade, terminal
from seal_ray.config import StorageSection
from seal_ray.errors import ConfigError
from seal_ray.loops.history import Run
from seal_ray.records import Failure, Verdict, digest
from seal_ray.storage.flags import as_typed, flags
from seal_ray.storage.ledger import Ledger
from seal_ray.storage.recorded import recorded_settings
from seal_ray.storage.store import Store


def call(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    code = cli.app(list(words), standalone_mode=False)
    return code or 0, capsys.readouterr().out


def test_verify_names_damage_in_words_and_as_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = committed(tmp_path)
    assert call(capsys, "verify", str(run)) == (0, f"{run} is whole\n")
    broken = only(run / "rounds/0002", "trials/*.jsonl")
    flip(broken, 0.5)
    code, said = call(capsys, "verify", str(run))
    assert code == 3 and "damaged: " in said and "is not whole: one object is missing or damaged" in said
    assert "Problem(" not in said
    code, said = call(capsys, "verify", str(run), "--json")
    (problem,) = json.loads(said)["problems"]
    assert code == 3 and problem["path"] == str(broken.relative_to(run)) and problem["grave"] is True


def test_a_harmless_finding_is_told_and_is_no_failure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = committed(tmp_path)
    Ledger(str(run)).acquire("the next")
    segment(Store(str(run)), "rounds/0003/trials/e000001-00000009.jsonl", trial("late"))
    code, said = call(capsys, "verify", str(run))
    assert code == 0 and "late, harmless: " in said and "is whole (1 harmless finding" in said
    assert json.loads(call(capsys, "verify", str(run), "--json")[1])["whole"] is True


@pytest.mark.parametrize("broken", [True, False])
def test_verify_reads_on_where_the_first_page_is_damaged_or_gone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], broken: bool
) -> None:
    run = committed(tmp_path)
    if broken:
        flip(run / "run.json", 0.5)
    else:
        (run / "run.json").unlink()
    (run / "rounds/0001/tasks.json").unlink()
    code, said = call(capsys, "verify", str(run), "--json")
    assert code == 3 and {p["path"] for p in json.loads(said)["problems"]} == {"run.json", "rounds/0001/tasks.json"}


def test_gc_says_what_can_go_and_what_went(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = committed(tmp_path)
    (run / ".probe-1").write_bytes(b"x" * 2000)
    code, said = call(capsys, "gc", str(run))
    assert code == 0 and ".probe-1  2.0 kB  left behind by a trial write" in said
    assert said.endswith("can go: 1 objects, 2.0 kB; nothing is deleted without --delete\n")
    assert json.loads(call(capsys, "gc", str(run), "--json")[1])["waste"][0]["size"] == 2000
    assert "deleted: " in call(capsys, "gc", str(run), "--delete")[1] and not (run / ".probe-1").exists()


def test_delete_says_what_it_did_and_what_it_could_not(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = committed(tmp_path)
    Store(str(run)).write("notes.txt", b"no text of it")
    code, said = call(capsys, "delete", str(run), "--task", "t")
    assert code == 0 and "records taken out of" in said and "these weights may have been trained on it" in said
    assert "Deletion(" not in said and "--purge" not in said
    assert json.loads(call(capsys, "delete", str(run), "--task", "t", "--json")[1])["records"] == 0


# how a run is reached


def a_run(folder: Path, **storage: object) -> str:
    ledger = Ledger(str(folder))
    ledger.create({"storage": StorageSection().model_dump(mode="json") | storage}, {}, 0)
    ledger.close()
    return str(folder)


def test_a_command_writes_as_the_run_does(tmp_path: Path) -> None:
    uri = a_run(tmp_path, encryption="aws:kms", kms_key="key", region="eu-west-1", profile="team", retries=8)
    settings = recorded_settings(uri, StorageSection())
    told = (settings.encryption, settings.kms_key, settings.region, settings.profile)
    assert told == ("aws:kms", "key", "eu-west-1", "team")
    assert recorded_settings(uri, StorageSection(profile="mine", endpoint="http://a")).profile == "mine"
    with pytest.raises(ConfigError, match="there is no run at"):
        recorded_settings(str(tmp_path / "elsewhere"), StorageSection())


def test_the_hints_after_a_run_name_the_flags_that_reach_it() -> None:
    assert flags(StorageSection()) == ""
    settings = StorageSection(endpoint="http://localhost:1", region="eu-west-1", profile="my team", encryption="AES256")
    assert flags(settings) == " --endpoint http://localhost:1 --storage region=eu-west-1 --storage 'profile=my team'"


def test_every_command_on_a_run_takes_its_storage_keys(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    uri = str(committed(tmp_path))
    for words in (["verify", uri], ["gc", uri], ["delete", uri, "--task", "t"]):
        assert call(capsys, *words, "--storage", "region=eu-west-1", "--storage", "timeout=5")[0] == 0
    for command in ("status", "inspect", "report", "lineage", "approve", "reject", "rollback", "export", "regrade"):
        assert "--storage" in call(capsys, command, "--help")[1]
    with pytest.raises(ConfigError, match="did you mean region"):
        cli.app(["verify", uri, "--storage", "regoin=x"], standalone_mode=False)


def test_what_is_given_now_counts_also_where_it_is_the_default(tmp_path: Path) -> None:
    uri = a_run(tmp_path, region="eu-west-1", profile="team", timeout=7.0)
    given = given_storage("", ["profile=''", "timeout=30"])
    settings = recorded_settings(uri, given)
    assert (settings.profile, settings.timeout, settings.region) == ("", 30.0, "eu-west-1")


def test_a_storage_key_without_a_value_is_told_as_what_it_was_given_as() -> None:
    with pytest.raises(ConfigError, match=r"--storage profile: no value.*--storage region=") as caught:
        given_storage("", ["profile"])
    assert "--set" not in str(caught.value)


def test_a_run_is_named_as_a_shell_takes_it(tmp_path: Path) -> None:
    storage = StorageSection(endpoint="http://localhost:1")
    assert as_typed("s3://bucket/run", StorageSection()) == "s3://bucket/run"
    assert as_typed("runs/my docs-d16acc", storage) == "'runs/my docs-d16acc' --endpoint http://localhost:1"
    record(str(tmp_path / "my run"))
    run = Run(str(tmp_path / "my run"), storage)
    assert f"seal-ray report '{run.uri}' --endpoint http://localhost:1\n" in _files(run)
    held = terminal.status(run) | {"held": 2}
    assert f"`seal-ray approve '{run.uri}' --endpoint http://localhost:1`" in terminal.show_status(held, storage)
    with pytest.raises(ConfigError, match=r"status '.*/my run' --endpoint http://localhost:1 --json"):
        terminal.inspect(run, task="none")


def test_an_open_round_gets_all_of_a_candidates_verdicts_or_none(tmp_path: Path) -> None:
    record(str(tmp_path), commit=False)
    run = Run(str(tmp_path))
    (round_,) = run.rounds()
    trial = next(t for t in round_.trials if not t.failure and len(t.answers) > 1)
    down = Failure("judge", "no reply", "infra")
    asked = [a.question for a in trial.answers]
    found = [Verdict(trial.candidate, q, "judge", True, 1.0) for q in asked]
    lost = Verdict(trial.candidate, asked[-1], "judge", None, None, down)
    assert regrade._fill(run, round_, [*found[:-1], lost])["new"] == 0
    assert regrade._fill(run, round_, found)["new"] == len(asked)


def test_a_regrade_that_wrote_no_folder_names_none() -> None:
    told = {"uri": "runs/x", "grader": "lexical", "dollars": 0.0, "folder": None}
    rounds = [{"round": 1, "open": True, "verdicts": 4, "new": 4, "failed": 0}]
    assert "these are in" not in regrade.show({**told, "rounds": rounds})


@pytest.mark.parametrize("kind", ["probe", "adapt"])
def test_documents_are_one_run_with_a_slash_behind_them_or_without(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    plain, slash = (probe.configured(source, [], kind=kind).run.uri for source in ("docs", "docs/"))
    assert plain == slash
    older = f"runs/{kind}-docs-{digest('docs/')[:6]}"
    (tmp_path / older).mkdir(parents=True)
    assert probe.configured("docs/", [], kind=kind).run.uri == older, "one that was begun goes on"
    assert probe.configured("docs", [], kind=kind).run.uri == plain
