"""What a configuration says to `adapt`: which passages are learned, how answers are read, what is tried and refused."""

from pathlib import Path
from typing import Any

import pytest
from knowing_crew import KnowingCrew, folder, world
from test_adapt import configured, go
from typer.testing import CliRunner

from seal_ray.cli import app
from seal_ray.commands import adapt as command
from seal_ray.errors import ArgumentError
from seal_ray.events import Warned
from seal_ray.loops import adapt, rounds
from seal_ray.loops.adapt import begun_with
from seal_ray.loops.history import Run
from seal_ray.loops.session import Session
from seal_ray.sampling.sampler import EditPrompt


def test_passages_that_are_kept_back_are_asked_about_and_never_learned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts, crew = world(24), KnowingCrew({})
    config = configured(tmp_path, folder(tmp_path, facts), "domain.validation=0.3", "domain.test=0.2")
    done = go(config, crew, monkeypatch)
    tried, asked = {t.id for t in Run(config.run.uri).round(2).tasks}, {p.task for p in done.before.passages}
    kept_back = asked - tried
    (job,) = crew.jobs
    assert len(kept_back) == 3 and tried and {lesson.task for lesson in job.lessons} == tried
    assert job.probe, "drift is measured on what is kept back"
    learned = [q for q in done.after.questions if q.task in tried] if done.after else []
    assert done.decision == "accept" and all(q.right == 1 for q in learned)
    assert all(q.right < 1 for q in (done.after or done.before).questions if q.task in kept_back)


class Thinking(KnowingCrew):
    """Says what it makes of a question before it answers, where it is asked to."""

    def says(self, text: str, prompt: EditPrompt) -> str:
        said = super().says(text, prompt)
        return f" I was there once.\nIt rained.\nFinal answer:{said}" if text.rstrip().endswith("Thoughts:") else said


def test_of_an_answer_that_thinks_aloud_the_end_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = world(8)
    config = configured(tmp_path, folder(tmp_path, facts), "domain.thought=true")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rounds, "update", None)
        with Session(config, hire=lambda *_: Thinking(facts)) as session:  # type: ignore[arg-type,return-value]
            _, known = adapt.probe_round(session, begun_with(session, ""))
    assert known.questions and all(q.right == 1 for q in known.questions)


class Various(KnowingCrew):
    """No two of its edits are the same."""

    def says(self, text: str, prompt: EditPrompt) -> str:
        said = super().says(text, prompt)
        return f"{said}\nThat is note {prompt.slot}." if "\nPassage:\n" in text else said


def test_heats_are_run_as_in_any_round(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    racing = ("sampling.edits=4", "inner.heat=0.5", "inner.heat_keep=0.5", "inner.epochs=4")
    config = configured(tmp_path, folder(tmp_path, world(8)), *racing)
    go(config, Various({}), monkeypatch)
    kinds = {c.kind for c in Run(config.run.uri).round(2).candidates}
    assert "heat" in kinds


def test_settings_that_mean_nothing_here_are_said_to_mean_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[Any] = []
    unread = ("gate.mode=off", "gate.regression=questions.json", "gate.max_kl=0.5", "inner.objective=distill")
    config = configured(tmp_path, folder(tmp_path, world(8)), *unread)
    done = go(config, KnowingCrew({}), monkeypatch, listeners=[heard.append])
    told = " ".join(e.message for e in heard if isinstance(e, Warned))
    assert all(
        name in told for name in ("gate.mode: off", "gate.regression", "gate.max_kl", "inner.objective: distill")
    )
    assert any("max_kl had no say" in reason for reason in done.reasons)


def test_a_policy_that_was_named_by_mistake_does_not_end_the_run_for_good(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configured(tmp_path, folder(tmp_path, world(8)))
    with pytest.raises(ArgumentError, match="no such version"):
        go(config, KnowingCrew({}), monkeypatch, policy=f"{config.run.uri}#7")
    assert go(config, KnowingCrew({}), monkeypatch).decision == "accept"


def test_a_rejected_version_is_told_by_the_code_where_that_is_wanted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Rejected:
        decision = "reject"

    monkeypatch.setattr(adapt, "adapt", lambda *_, **__: Rejected())
    monkeypatch.setattr(command, "write", lambda *_: {})
    monkeypatch.setattr(command, "show", lambda *_: "rejected")
    words = ["adapt", str(folder(tmp_path, world(4))), "--to", str(tmp_path / "mine"), "--set", f"run.uri={tmp_path}/r"]
    assert CliRunner().invoke(app, words).exit_code == 0
    assert CliRunner().invoke(app, [*words, "--set", "gate.fail_on_reject=true"]).exit_code == 4
