"""What a person sees: the end of a run, a status that is watched, the first page of help, and nothing that acts."""

import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from ledger_samples import trial
from made_events import make
from recorded_run import record
from two_versions import RECORDED, two_versions
from typer.testing import CliRunner, Result

from seal_ray import cli
from seal_ray.cli import COMMANDS, look
from seal_ray.commands import example
from seal_ray.events import RunStarted, Warned
from seal_ray.loops.history import Run
from seal_ray.redaction import logger
from seal_ray.storage.ledger import Ledger
from seal_ray.storage.store import Store
from seal_ray.text import first_line, one_line, printable

HOSTILE = "\x1b]0;owned\x07\x9b2J\u202eabc"
CONTROLS = [*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x202E]


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    place = str(tmp_path_factory.mktemp("run") / "run")
    record(place)
    return place


def test_what_controls_a_terminal_is_written_out_and_everything_else_stays() -> None:
    for code in CONTROLS:
        shown = printable(f"a{chr(code)}b")
        if chr(code) in "\n\t":
            assert shown == f"a{chr(code)}b"
        else:
            assert shown.isprintable() and shown.startswith("a\\") and shown.endswith("b") and f"{code:02x}" in shown
    for text in ("Zürich 東京 🧑‍🚀 שלום", "quotes \"'`<>&", ""):
        assert printable(text) == text
    assert one_line(" one\r\n two\x1b]0;title\x07 ") == "one\\x0d two\\x1b]0;title\\x07"
    assert one_line("x" * 1000, 10) == "x" * 9 + "…"
    assert first_line(ValueError("\n what \n more")) == "what"
    assert first_line("") == "" and first_line(ValueError()) == "ValueError"


def test_no_command_lets_a_models_text_act_on_the_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recorded_run.HOSTILE", HOSTILE)
    record(str(tmp_path / "run"))
    words = ["inspect", str(tmp_path / "run"), "--task", "harbour-1-0"]
    out = CliRunner().invoke(cli.app, words).output
    assert "\\x1b]0;owned\\x07\\x9b2J\\u202eabc" in out
    assert printable(out) == out
    out = CliRunner().invoke(cli.app, [*words, "--json"]).output
    assert printable(out) == out and any(HOSTILE in edit["text"] for edit in json.loads(out)["edits"])


def test_no_error_and_no_log_line_acts_on_the_terminal(
    uri: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sys, "argv", ["seal-ray", "--debug", "inspect", uri, "--task", HOSTILE])
    with pytest.raises(SystemExit):
        cli.main()
    said = capsys.readouterr().err
    assert "\\x1b]0;owned\\x07\\x9b2J\\u202eabc is in no round" in said and printable(said) == said
    logger("seal_ray.test_terminal").warning("a model said %s", HOSTILE)
    assert "a model said \\x1b]0;owned\\x07" in caplog.text and printable(caplog.text) == caplog.text


def test_whatever_is_printed_is_made_harmless_where_it_is_printed() -> None:
    """But for words of our own, and for what a program reads."""
    root = Path(cli.__file__).parents[1]
    prints = re.compile(r"typer\.s?echo\(|\bprint\(|sys\.(stdout|stderr)\.write\(")
    lines = [
        f"{file.relative_to(root)}: {line.strip()}"
        for file in sorted(root.rglob("*.py"))
        for line in file.read_text().splitlines()
        if prints.search(line) and not file.is_relative_to(root / "sandbox/inside")
    ]
    bare = [line for line in lines if not re.search(r"printable\(|one_line\(", line)]
    assert [line.partition(": ")[0] for line in bare] == [
        "cli/__init__.py",  # the version
        "cli/exits.py",  # that a restart would end in the same way
        "cli/look.py",  # clears the screen
        "domains/math/symbols.py",  # to the process that asked
        "domains/math/symbols.py",
    ], bare


def test_a_run_ends_with_one_passage_its_best_edit_and_the_answers_before_and_after(uri: str) -> None:
    run = Run(uri)
    text = example.show(run)
    found = run.round(1)
    task = next(t for t in found.tasks if t.data["title"] in text)
    rewards = [r for r in (found.rewards or {})["rewards"] if r["task"] == task.id]
    best = max(rewards, key=lambda r: r["value"]["mean"])
    edit = next(e for e in found.edits if e.id == best["edit"])
    assert f"  | {edit.text.splitlines()[-1][:50]}" in text
    (asked,) = [q["question"] for q in task.data["questions"] if q["question"] in text]
    assert f"asked without the passage: {asked} (Odo Marsh)" in text
    assert re.search(r"^  before: \w.*\n  after:  \w", text, re.MULTILINE)
    assert re.search(r"became [\d.e+]+ times likelier a token", text)


def test_a_run_without_a_committed_round_has_no_example(tmp_path: Path) -> None:
    record(str(tmp_path), commit=False)
    assert example.show(Run(str(tmp_path))) == ""


def test_the_first_page_of_help_places_every_command_once() -> None:
    page = CliRunner().invoke(cli.app, ["--help"]).output
    sections = re.findall(r"^(\w[\w ]*):\n((?:  .*\n)+)", page, re.MULTILINE)
    shown = {title.lower(): re.findall(r"^  (\w+)", body, re.MULTILINE) for title, body in sections}
    assert {want: shown[want] for want in COMMANDS} == {w: [c.__name__ for c in own] for w, own in COMMANDS.items()}
    assert "other" not in shown and "..." not in page.split("Options")[1]


def test_inspect_looks_in_every_round_or_in_the_one_that_is_named(tmp_path: Path) -> None:
    uri = str(tmp_path)
    record(uri, rounds=3, commit=False)

    def inspect(*words: str) -> Result:
        return CliRunner().invoke(cli.app, ["inspect", uri, "--task", *words])

    for number in (1, 2, 3):  # the last one is not committed
        assert f"round {number}, task harbour-{number}-0" in inspect(f"harbour-{number}-0").output
    assert "round 1, task harbour-1-0" in inspect("harbour-1-0", "--round", "1").output
    assert "task harbour-1-0 is not in round 2 of" in str(inspect("harbour-1-0", "--round", "2").exception)
    help_ = {c: " ".join(CliRunner().invoke(cli.app, [c, "--help"]).output.split()) for c in ("inspect", "export")}
    assert "0: in every round" in help_["inspect"] and "0: the current one" in help_["export"]


def test_no_usage_brackets_what_may_be_left_out_twice() -> None:
    for command in ("run", "doctor", "init"):
        usage = CliRunner().invoke(cli.app, [command, "--help"]).output.partition("\n")[0]
        assert re.search(r" \[(CONFIG|PATH)\]$", usage), usage


def test_a_status_that_is_watched_ends_when_nobody_drives_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = str(tmp_path)
    record(uri)
    ledger = Ledger(uri)
    ledger.acquire("somebody")
    ledger.events(make(RunStarted))
    ledger.flush()
    looks: list[float] = []

    def sleep(seconds: float) -> None:
        looks.append(seconds)
        if len(looks) == 2:
            ledger.close()

    monkeypatch.setattr("seal_ray.cli.look.time.sleep", sleep)
    monkeypatch.setattr("seal_ray.cli.look._on_terminal", lambda: True)
    out = CliRunner().invoke(cli.app, ["status", uri, "--watch", "--every", "7"]).output
    assert looks == [7.0, 7.0]
    assert out.count("driven by somebody") == 2 and out.count("nobody drives it") == 1
    assert out.count(look.CLEAR) == 3 and out.startswith(look.CLEAR)


def test_a_status_that_is_watched_reads_what_has_come_and_nothing_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = str(tmp_path)
    record(uri, rounds=3, commit=False)
    ledger = Ledger(uri)
    ledger.acquire("somebody")
    part = ledger.round(3)
    trials, candidates = part.records("trials"), part.records("candidates")
    tasks = part.get("tasks.json")
    assert tasks
    looks: list[Counter[str]] = [Counter()]
    read = Store.read

    def counting(store: Store, path: str) -> bytes:
        looks[-1][path] += 1
        return read(store, path)

    def sleep(_: float) -> None:
        with monkeypatch.context() as uncounted:
            uncounted.setattr(Store, "read", read)
            match len(looks):
                case 1:
                    part.append("trials", trial("late", "harbour-3-0"))
                    ledger.events(make(Warned, message="a late warning"))
                    ledger.flush()
                case 2:
                    part.append("trials", trial("later", "harbour-3-0"))
                    part.commit({"version": tasks["version"], "decision": "accept"})
                case _:
                    ledger.close()
        looks.append(Counter())

    monkeypatch.setattr("seal_ray.cli.look.time.sleep", sleep)
    monkeypatch.setattr(Store, "read", counting)
    out = CliRunner().invoke(cli.app, ["status", uri, "--watch"], catch_exceptions=False).output
    counts = re.findall(r"round 3 \((.+)\): .* (\d+) of (\d+) candidates tried", out)
    assert [(state, int(tried) - len(trials)) for state, tried, _ in counts] == [
        ("open", 0), ("open", 1), ("committed, accept", 2), ("committed, accept", 2),
    ]  # fmt: skip
    assert {int(of) for _, _, of in counts} == {len(candidates)} and "a late warning" in out
    again = sum(looks, Counter())
    segments = {path: times for path, times in again.items() if path.endswith(".jsonl")}
    assert len(segments) > 10 and set(segments.values()) == {1}
    whole = [{p for p in look if p.startswith(("run.json", "rounds/0001/", "rounds/0002/"))} for look in looks]
    assert whole[0] and not any(whole[1:])
    assert not any(p.startswith("rounds/") for p in looks[3])


def test_quiet_says_how_a_run_did_and_nothing_of_how_it_went(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A run that is done already: no machine is asked for, and going on with it is still an event."""
    uri = str(tmp_path / "run")
    two_versions(uri, tmp_path)
    sets = ["--set", f"run.uri={uri}", "--set", "run.rounds=2", "--set", "observe.ray_metrics=false"]
    said: list[tuple[str, str]] = []
    for words in (["--quiet"], ["--set", "observe.progress=plain"]):
        monkeypatch.setattr("sys.argv", ["seal-ray", "run", str(RECORDED / "job.yaml"), *sets, *words])
        with pytest.raises(SystemExit):
            cli.main()
        out, err = capfd.readouterr()
        said.append((out, err))
    (table, nothing), (same, progress) = said
    assert table.lstrip().startswith("round  closed book") and f"the run is in {uri}" in table
    assert (nothing, table) == ("", same) and "run ended: done" in progress


def test_a_shell_gets_its_completion() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from seal_ray.cli import main; main()"],
        env={"_SEAL_RAY_COMPLETE": "complete_bash", "COMP_WORDS": "seal-ray st", "COMP_CWORD": "1", "PATH": "/usr/bin"}
        | {"PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "status" in done.stdout.split(), done.stderr


@pytest.mark.parametrize("debug", [False, True])
def test_what_libraries_say_is_for_debugging(debug: bool) -> None:
    code = (
        "import sys, warnings\n"
        "from typer.testing import CliRunner\n"
        "from seal_ray import cli\n"
        "CliRunner().invoke(cli.app, sys.argv[1:])\n"
        "from tqdm import tqdm\n"
        "list(tqdm([1, 2], desc='shards'))\n"
        "warnings.warn('an accelerator was not found')\n"
    )
    words = [*(["--debug"] if debug else []), "validate", "nowhere.yaml"]
    env = {"PATH": "/usr/bin", "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", code, *words], env=env, capture_output=True, text=True, timeout=60)
    assert ("shards" in done.stderr and "accelerator" in done.stderr) == debug, done.stderr
    assert bool(done.stderr) == debug
