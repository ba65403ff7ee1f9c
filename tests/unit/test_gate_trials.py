"""What the gate is told: scores and known questions of two versions, made of what was explored."""

from types import SimpleNamespace
from typing import Any

import pytest

from seal_ray.config import Config
from seal_ray.errors import ConfigError, CoverageError
from seal_ray.grading.reward import RoundRewards
from seal_ray.loops import gate_trials
from seal_ray.policy import versions
from seal_ray.records import Candidate, Estimate, Failure, Reward, Task, Verdict


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
    assert gate_trials._measure([blended, blended]) == "likelihood"
    assert gate_trials._scores(blended, "likelihood") == {"t": [-2.0, -1.0]}
    assert gate_trials._measure([accurate, accurate]) == "accuracy"
    assert gate_trials._scores(accurate, "accuracy") == {"t": [0.5, 0.6]}
    # one version alone without a likelihood: nothing is compared across scales
    assert gate_trials._measure([blended, bare]) == "accuracy"


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
