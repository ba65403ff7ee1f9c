"""The loops over a recorded run: the same seed and configuration give the same edits, candidates, choices, rewards."""

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import hub_mirror
import pytest
from recorded_crew import RecordedCrew, configured

from seal_ray import models
from seal_ray.config import Config, ModelSection
from seal_ray.errors import BudgetSpent, ConfigError, CoverageError, DataError, InfraError, Interrupted
from seal_ray.events import BudgetReached, RunEnded, RunStarted
from seal_ray.loops import adapt, evaluation, probe, resuming, rounds, stream, study
from seal_ray.loops.explore import explore
from seal_ray.loops.exploring.plan import Plan
from seal_ray.loops.history import Round, Run
from seal_ray.loops.rounds import run_rounds
from seal_ray.loops.session import Session, once
from seal_ray.storage.ledger import Ledger

ROOT = Path(__file__).parents[2]
RECORDED = ROOT / "tests/recorded/v0.1.0"

Going = Callable[..., Round]


@pytest.fixture(autouse=True)
def at_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)  # the recorded configuration names its data from there


@pytest.fixture(scope="module")
def recorded() -> Run:
    return Run(str(RECORDED / "run"))


def go(config: Config, crew: Any, monkeypatch: pytest.MonkeyPatch, **more: Any) -> Round:
    """The first round, with this crew."""
    monkeypatch.setattr(rounds, "update", crew.update)
    with Session(config, hire=lambda *_: crew, **more) as session:
        run_rounds(session)
    return Run(config.run.uri).round(1)


def patience(looks: int = 60_000) -> Callable[[], bool]:
    """Asks a run to stop that looks this often and comes to no end."""
    left = iter(range(looks))
    return lambda: next(left, None) is None


# its answer is "two hundred and twelve": one word, since numbers are read in words, and a wrong answer looks otherwise
IN_WORDS = "tavik-island-2f8de48bca#0"


def rounded(estimate: dict[str, float]) -> dict[str, float]:
    """Without the last digits: what sums and inverts matrices does so in another order on another processor."""
    return {name: float(f"{value:.12g}") for name, value in estimate.items()}


def content(found: Round) -> dict[str, Any]:
    """What must not change from version to version; records as sets, for they come in any order."""
    return {
        "tasks": found.tasks,
        "version": found.version,
        "edits": {e.id: e for e in found.edits},
        "candidates": {c.id: c for c in found.candidates},
        "trials": {t.candidate: t for t in found.trials},
        "verdicts": {v.id: (v.correct, None if v.question == IN_WORDS else v.score) for v in found.verdicts},
        "rewards": {r["edit"]: (rounded(r["value"]), rounded(r["raw"])) for r in (found.rewards or {})["rewards"]},
        "arms": (found.rewards or {})["arms"],
        "choices": found.choices,
        "made": (found.update or {})["version"],
    }


@pytest.mark.parametrize("overlap", [False, True], ids=["in turn", "side by side"])
def test_a_recorded_round_comes_out_as_it_was(
    recorded: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, overlap: bool
) -> None:
    crew = RecordedCrew(recorded, overlap=overlap)
    found = go(configured(recorded, tmp_path / "run"), crew, monkeypatch)
    assert found.committed and content(found) == content(recorded.round(1))
    for prompt, edit in crew.asked:
        assert (prompt.prompt_ids, prompt.seed) == (edit.prompt_ids, edit.seed)
    assert len(crew.tried) == len(crew.recorded.keys() & {c.id for c in found.candidates})


def test_a_driver_that_has_no_weights_names_everything_as_one_that_has(
    recorded: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # a cluster elsewhere; on one of its own this machine computes, and fetches at once
    address = "placement.address=head:6379"
    tiny = Path(models.fetch(ModelSection(name="builtin:tiny")))
    with hub_mirror.serve(tiny, "some/model") as (url, asked):
        hub = [address, "model.name=some/model", f"model.mirror={url}", f"model.cache={tmp_path}"]
        crew = RecordedCrew(recorded)
        found = go(configured(recorded, tmp_path / "run", *hub), crew, monkeypatch)
    assert {job.model.revision for job in crew.jobs} == {hub_mirror.COMMIT}, "the branch may move on meanwhile"
    assert not [path for path in asked if path.endswith(".safetensors")]
    assert found.committed and content(found) == content(recorded.round(1))


def test_a_run_goes_on_with_the_commit_that_it_began_with(recorded: Run, tmp_path: Path) -> None:
    """Its hub's branch moves on while it is stopped."""
    tiny = Path(models.fetch(ModelSection(name="builtin:tiny")))
    moved = Path(shutil.copytree(tiny, tmp_path / "moved"))
    (moved / "added.json").write_text("{}")

    def begun_with(url: str, *more: str) -> tuple[str, str]:
        asks = [
            "placement.address=head:6379",
            "model.name=some/model",
            f"model.cache={tmp_path}",
            f"model.mirror={url}",
        ]
        crew: Any = RecordedCrew(recorded)
        with Session(configured(recorded, tmp_path / "run", *asks, *more), hire=lambda *_: crew) as session:
            return session.model.revision, session.base

    first = (hub_mirror.COMMIT, models.digest_of(tiny))
    with hub_mirror.serve(tiny, "some/model") as (url, _):
        assert begun_with(url) == first
    with hub_mirror.serve(moved, "some/model", commit="f" * 40) as (url, _):
        assert begun_with(url) == first and begun_with(url) == first
        asked_for = begun_with(url, f"model.revision={'f' * 40}")
        assert asked_for == ("f" * 40, models.digest_of(moved))


def test_a_run_is_gone_on_with_by_the_command_that_began_it(
    recorded: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configured(recorded, tmp_path / "run")
    with pytest.raises(Interrupted):
        go(config, RecordedCrew(recorded), monkeypatch, stop=lambda: True, command="run")
    with pytest.raises(ConfigError, match="begun by seal-ray run, and this is seal-ray study") as raised:
        go(config, RecordedCrew(recorded), monkeypatch, command="study")
    assert "run.uri" in raised.value.hint
    with pytest.raises(Interrupted):  # who does not say which command it is may look, and changes nothing of that
        go(config, RecordedCrew(recorded), monkeypatch, stop=lambda: True)
    with pytest.raises(ConfigError, match="begun by seal-ray run"):
        go(config, RecordedCrew(recorded), monkeypatch, command="study")
    assert go(config, RecordedCrew(recorded), monkeypatch, command="run").committed


def test_a_run_that_does_not_say_who_began_it_is_gone_on_with(
    recorded: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configured(recorded, tmp_path / "run")
    with monkeypatch.context() as older:
        note = Session._note
        older.setattr(Session, "_note", lambda session: {k: v for k, v in note(session).items() if k != "command"})  # type: ignore[union-attr]
        with pytest.raises(Interrupted):
            go(config, RecordedCrew(recorded), monkeypatch, stop=lambda: True, command="run")
    assert "command" not in Ledger(config.run.uri).note()
    assert go(config, RecordedCrew(recorded), monkeypatch, command="run").committed


def test_each_command_says_which_it_is_and_probe_and_adapt_share_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    class Begun(Exception):
        pass

    def begin(config: Config, *, command: str = "", **_: Any) -> Any:
        raise Begun(command)

    commands: dict[str, tuple[ModuleType, Callable[[Config], Any]]] = {
        "run": (rounds, rounds.run),
        "evaluate": (evaluation, lambda config: evaluation.evaluate(config, ["untrained"])),
        "study": (study, study.study),
        "stream": (stream, stream.stream),
        "probe": (probe, probe.probe),
        "adapt": (adapt, adapt.adapt),
    }
    said: dict[str, str] = {}
    for name, (module, call) in commands.items():
        monkeypatch.setattr(module, "Session", begin)
        with pytest.raises(Begun) as begun:
            call(Config())
        (said[name],) = begun.value.args
    shared = dict.fromkeys(("probe", "adapt"), "probe or adapt")
    assert said == {name: name for name in commands} | shared
    resuming.refuse_other_command({"command": said["probe"]}, said["adapt"], "runs/x")


def test_a_run_does_not_go_on_with_other_files_of_its_model(
    recorded: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configured(recorded, tmp_path / "run")
    crew = RecordedCrew(recorded)
    go(config, crew, monkeypatch)
    told = models.whole(config.model)
    more = configured(recorded, tmp_path / "run", "run.rounds=2")
    with monkeypatch.context() as patch:
        patch.setattr(models, "whole", lambda *_: dataclasses.replace(told, digest="0" * 64))
        with pytest.raises(ConfigError, match=r"version 1 of the run stands on") as raised:
            go(more, crew, monkeypatch)
    assert "model.revision" in raised.value.hint
    pinned = configured(recorded, tmp_path / "run", "model.revision=v1")  # of a builtin it means nothing
    assert go(pinned, crew, monkeypatch).committed


def test_what_needs_no_edit_is_tried_while_the_samplers_start(
    recorded: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    crew = RecordedCrew(recorded, overlap=True)
    alone = {c.id for c in recorded.round(1).candidates if c.kind != "edit"}
    crew.slow_start = len(alone)
    found = go(configured(recorded, tmp_path / "run"), crew, monkeypatch, stop=patience())
    assert {a.candidate.id for a in crew.tried[: len(alone)]} == alone
    assert content(found) == content(recorded.round(1))


def test_a_round_whose_edits_are_lost_stops_loudly_and_a_resume_samples_them(
    recorded: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, crew = configured(recorded, tmp_path / "run"), RecordedCrew(recorded)
    crew.lose = {recorded.round(1).tasks[0].id}
    with pytest.raises(CoverageError, match="candidates have a verdict"):
        go(config, crew, monkeypatch, stop=patience())
    assert content(go(config, RecordedCrew(recorded), monkeypatch)) == content(recorded.round(1))


def test_drift_is_measured_on_texts_that_nothing_is_learned_from(
    recorded: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    crew = RecordedCrew(recorded)
    config = configured(recorded, tmp_path / "run")
    monkeypatch.setattr(rounds, "update", crew.update)
    with Session(config, hire=lambda *_: crew) as session:  # type: ignore[arg-type,return-value]
        run_rounds(session)
        (job,) = crew.jobs
        shown = [session.tokenizer.decode([*text.prompt_ids, *text.ids]) for text in job.probe]
        kept_back = session.domain.tasks("validation")
        assert len(shown) == len(kept_back) > 0
        assert all(task.data["context"] in text for task, text in zip(kept_back, shown, strict=True))


def test_what_the_ledger_has_is_not_done_again(recorded: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped after every few trials, the round is put together from pieces, each done once."""
    config, tried = configured(recorded, tmp_path / "run"), []
    for _ in range(40):
        crew = RecordedCrew(recorded)
        try:
            found = go(config, crew, monkeypatch, stop=lambda crew=crew: len(crew.tried) >= 3)
        except Interrupted:
            tried += [a.candidate.id for a in crew.tried]
            continue
        break
    else:
        raise AssertionError("it never ends")
    tried += [a.candidate.id for a in crew.tried]
    assert len(tried) == len(set(tried)) == len(found.candidates)
    assert content(found) == content(recorded.round(1))


def test_a_run_that_is_done_asks_for_no_crew(recorded: Run, tmp_path: Path) -> None:
    shutil.copytree(RECORDED / "run", tmp_path / "run")

    def nobody(*_: Any) -> Any:
        raise AssertionError("a cluster was asked for")

    heard: list[Any] = []
    with Session(configured(recorded, tmp_path / "run"), hire=nobody, listeners=[heard.append]) as session:
        run_rounds(session)
    assert [type(e) for e in heard] == [RunStarted, RunEnded] and heard[-1].outcome == "done"


def test_what_only_has_to_be_graded_asks_for_no_crew(recorded: Run, tmp_path: Path) -> None:
    shutil.copytree(RECORDED / "run", tmp_path / "run")
    shutil.rmtree(tmp_path / "run/rounds/0002/verdicts")

    def nobody(*_: Any) -> Any:
        raise AssertionError("a cluster was asked for")

    found = recorded.round(2)
    assert found.version
    with Session(configured(recorded, tmp_path / "run"), hire=nobody, stop=patience()) as session:
        section = session.config
        plan = Plan(found.tasks, found.version, section.sampling.edits, section.inner.repeats, True, salt=2)
        exploration = explore(session, session.open_round(2), plan)
    assert exploration.done and exploration.coverage() == 1
    again = Run(str(tmp_path / "run")).round(2)
    assert {v.id: v.correct for v in again.verdicts} == {v.id: v.correct for v in found.verdicts}


def test_once_computes_once_and_remembers_what_was_put(recorded: Run, tmp_path: Path) -> None:
    shutil.copytree(RECORDED / "run", tmp_path / "run")
    computed: list[int] = []

    def compute() -> dict[str, object]:
        computed.append(1)
        return {"pair": (1, 2.5), "empty": None}

    for _ in range(2):
        with Session(configured(recorded, tmp_path / "run"), hire=lambda *_: RecordedCrew(recorded)) as session:  # type: ignore[arg-type,return-value]
            assert [once(session.ledger.round(2), "own.json", compute) for _ in range(2)] == [
                {"pair": [1, 2.5], "empty": None}
            ] * 2
    assert computed == [1]


def test_a_session_that_can_not_be_whole_leaves_nothing_open(
    recorded: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = tmp_path / "scratch"
    made.mkdir()
    monkeypatch.setenv("TMPDIR", str(made))
    monkeypatch.setattr("tempfile.tempdir", None)

    def no_cluster(*_: Any) -> Any:
        raise InfraError("no cluster")

    config = configured(recorded, tmp_path / "run")
    with pytest.raises(InfraError, match="no cluster"):
        Session(config, hire=no_cluster)
    assert not (tmp_path / "run" / "run.json").exists(), "a run was begun that nothing can drive"
    with pytest.raises(DataError, match="no file nowhere"):
        Session(configured(recorded, tmp_path / "run", "domain.data=nowhere.json"), hire=no_cluster)
    assert list(made.iterdir()) == []


def test_a_spent_budget_ends_the_run_and_says_so(
    recorded: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configured(recorded, tmp_path / "run", "run.budget.hours=1e-9")
    heard: list[Any] = []
    with pytest.raises(BudgetSpent, match="hours"):
        go(config, RecordedCrew(recorded), monkeypatch, listeners=[heard.append])
    assert [type(e) for e in heard][-2:] == [BudgetReached, RunEnded] and heard[-1].outcome == "BudgetSpent"
    more = configured(recorded, tmp_path / "run", "run.budget.hours=1")
    assert go(more, RecordedCrew(recorded), monkeypatch).committed


def test_a_contradiction_is_refused_before_a_run_begins_and_not_when_one_goes_on(recorded: Run, tmp_path: Path) -> None:
    config = configured(recorded, tmp_path / "run", "sampling.temperature=0")
    crew: Any = RecordedCrew(recorded)
    with pytest.raises(ConfigError, match="same edit"):
        Session(config, hire=lambda *_: crew)
    assert not (tmp_path / "run" / "run.json").exists()
    Ledger(config.run.uri).create(config.model_dump(mode="json"), {}, config.run.seed)
    with Session(config, hire=lambda *_: crew) as session:
        assert session.resumed
