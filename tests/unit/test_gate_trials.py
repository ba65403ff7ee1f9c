"""What the gate is told: scores and known questions of two versions, made of what was explored."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from made_crew import MadeCrew
from made_runs import configured, go, towns

from seal_ray.config import Config
from seal_ray.errors import ConfigError, CoverageError
from seal_ray.grading.reward import RoundRewards
from seal_ray.loops import gate_trials
from seal_ray.policy import versions
from seal_ray.records import Candidate, Edit, Estimate, Failure, Reward, Task, Verdict
from seal_ray.sampling.sampler import EditPrompt


def test_questions_of_two_tasks_that_share_an_id_are_two_questions() -> None:
    """As in ARC, where every task's tests are counted from 0."""
    candidates = [Candidate(f"c{n}", f"task-{n}", "baseline", None, -1, 0, 1, None) for n in range(3)]
    lost = Failure("judge", "no verdict", "infra")
    explored: Any = SimpleNamespace(
        candidates={c.id: c for c in [*candidates, Candidate("e", "task-0", "edit", "e", 0, 0, 1, None)]},
        verdicts={
            "c0": [Verdict("c0", "0", "exact", True, 1.0), Verdict("c0", "1", "exact", False, 0.0)],
            "c1": [Verdict("c1", "0", "exact", False, 0.0, share=0.25)],
            "c2": [Verdict("c2", "0", "exact", None, None, lost)],
            "e": [Verdict("e", "0", "exact", False, 0.0)],
        },
    )
    assert gate_trials._baselines(explored) == {"task-0/0": 1.0, "task-0/1": 0.0, "task-1/0": 0.25}


def made(measure: str, *, likelihood: bool) -> RoundRewards:
    gain = Estimate(0.1, 0.0)
    rewards = [
        Reward(f"e{n}", "t", n, gain, gain, Estimate(0.5 + n / 10, 0), Estimate(-2.0 + n, 0) if likelihood else None)
        for n in range(2)
    ]
    return RoundRewards(tuple(rewards), (), {}, {}, measure, ())


def test_both_versions_are_compared_by_the_same_measure_and_not_by_their_gains() -> None:
    blended, accurate, bare = (
        made(m, likelihood=has) for m, has in (("blend", True), ("accuracy", True), ("blend", False))
    )
    assert gate_trials._measure([blended, blended], "likelihood") == "likelihood"
    assert gate_trials._measure([blended, blended], "contrast") == "accuracy"
    assert gate_trials._scores(blended, "likelihood") == {"t": [-2.0, -1.0]}
    assert gate_trials._measure([accurate, accurate], "likelihood") == "accuracy"
    assert gate_trials._scores(accurate, "accuracy") == {"t": [0.5, 0.6]}
    # one version alone without a likelihood: nothing is compared across scales
    assert gate_trials._measure([blended, bare], "likelihood") == "accuracy"


def test_a_plug_in_names_the_questions_that_must_not_get_worse_or_says_that_it_has_none() -> None:
    def session(domain: Any, uri: str) -> Any:
        return SimpleNamespace(domain=domain, config=SimpleNamespace(gate=SimpleNamespace(regression=uri)))

    task = Task("t", {})
    able = SimpleNamespace(name="able", regression=lambda uri: [task] if uri == "here" else [])
    assert gate_trials._guarded(session(able, "here")) == (task,)
    bare = SimpleNamespace(name="bare")
    assert gate_trials._guarded(session(bare, "")) == ()
    with pytest.raises(ConfigError, match=r"gate\.regression: the domain bare has no regression tasks"):
        gate_trials._guarded(session(bare, "here"))


def test_nothing_is_decided_by_what_is_left_of_trials_that_were_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    def tasks(split: str) -> list[Task]:
        return [Task(name, {}) for name in ("a", "b")]

    explored = SimpleNamespace(coverage=lambda: 0.6, ledger=SimpleNamespace(number=3))
    monkeypatch.setattr(gate_trials, "explore", lambda *_: explored)
    session: Any = SimpleNamespace(config=Config(), domain=SimpleNamespace(name="table", tasks=tasks))
    part: Any = SimpleNamespace(number=3)
    with pytest.raises(CoverageError, match="only 60% of the candidates have a verdict"):
        gate_trials.compare(session, part, versions.first("b"), versions.first("c"), None)


class SilentCrew(MadeCrew):
    """Every version but the first writes nothing that can be learned from."""

    first = ""

    def edit(self, prompt: EditPrompt) -> Edit:
        self.first = self.first or self.version
        made = super().edit(prompt)
        return made if self.version == self.first else replace(made, text=" ")


@pytest.mark.parametrize("mode", ["auto", "hold"])
def test_a_version_that_writes_nothing_to_learn_from_is_rejected_and_the_run_goes_on(
    mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = {"run.rounds": 2, "evaluation.every": 0, "gate.mode": mode, "gate.tasks": 2}
    config = configured(towns(tmp_path / "data.json"), tmp_path / "run", **changes)
    run, _, _ = go(config, monkeypatch, crew=SilentCrew)
    gate = run.ledger.round(1).get("gate.json")
    assert gate and gate["advice"] == "reject" and "no edit could be learned from by the new version on 2" in str(gate)
    if mode == "auto":
        assert [r.committed for r in run.rounds()] == [True, True]
        assert all((r.manifest or {})["decision"] == "reject" for r in run.rounds())
    else:
        assert run.held() == 1


def test_versions_are_compared_on_two_tasks_at_least_and_only_on_what_is_asked_about(tmp_path: Path) -> None:
    section = Config().model_copy(update={"gate": Config().gate.model_copy(update={"mode": "auto", "tasks": 1})})
    asked = [Task(name, {"questions": ["q"]}) for name in "abc"]
    with pytest.raises(ConfigError, match=r"gate\.tasks: 1, and versions are compared on two"):
        gate_trials._draw(asked, section)
    silent = [Task(name, {"questions": []}) for name in "defghij"]
    assert {t.id for t in gate_trials._draw([*asked, *silent], Config())} == set("abc")
    with pytest.raises(ConfigError, match="there are 1 with questions, of 8"):
        gate_trials._draw([*asked[:1], *silent], Config())
