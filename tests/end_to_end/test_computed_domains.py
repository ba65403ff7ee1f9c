"""Rounds of mathematics and of code with real Ray, vLLM and DeepSpeed, and programs in real sandboxes.

One crew does both: nothing that its actors are made of depends on a domain. Answers go through its engine in both.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import ray
from command import ROOT

from seal_ray import config_file
from seal_ray.config import Config, PlacementSection
from seal_ray.errors import NoIsolation
from seal_ray.events import Event, Sink
from seal_ray.fleet import cluster, crew
from seal_ray.loops.history import Round, Run
from seal_ray.loops.rounds import run_rounds
from seal_ray.loops.session import Hire, Session
from seal_ray.sandbox import Program, ProgramResult, choose

SMALL = [
    "run.rounds=1",
    "run.tasks_per_round=1",
    "model.max_length=512",
    "domain.validation=0",
    "domain.test=0",
    "sampling.max_tokens=16",
    "inner.repeats=1",
    "inner.epochs=1",
    "inner.context_arm=false",
    "grading.grader=exact",
    "grading.reward=likelihood",
    "select.rule=threshold",
    "select.threshold=-100",  # a random model's edits need not help
    "policy.max_length=512",
    'answering={"max_tokens": 24, "how": "engine", "samples": 2, "temperature": 1.0}',
]


class Staying(crew.Crew):
    """A crew that outlives a session, whose end it hears of no more."""

    def __init__(self, config: Config, folder: str) -> None:
        self.session: Sink | None = None
        super().__init__(config, folder, self._tell)

    def _tell(self, event: Event) -> None:
        if self.session:
            self.session(event)

    def close(self) -> None:
        self.session = None


@pytest.fixture(scope="module")
def hire() -> Iterator[Hire]:
    """One cluster on this machine, and one crew, for both rounds."""
    cluster.connect(PlacementSection(address="local"))
    hired: list[Staying] = []

    def hire(config: Config, folder: str, tell: Sink) -> crew.Crew:
        if not hired:
            hired.append(Staying(config, folder))
        hired[0].session = tell
        return hired[0]

    yield hire
    for one in hired:
        crew.Crew.close(one)
    ray.shutdown()


def one_round(hire: Hire, folder: Path, domain: dict[str, Any], rows: Sequence[dict[str, Any]]) -> Round:
    data = folder / "rows.jsonl"
    data.write_text("\n".join(map(json.dumps, rows)))
    own = [f"run.uri={folder}/run", f"domain={json.dumps({'data': str(data), **domain})}"]
    with Session(config_file.load(ROOT / "jobs/tiny.yaml", [*own, *SMALL]), hire=hire) as session:
        run_rounds(session)
    run = Run(f"{folder}/run")
    assert run.latest == 1
    return run.round(1)


def whole(found: Round) -> None:
    """Every edit was tried, every trial answered and judged, and a version was trained on the best."""
    good = [e for e in found.edits if not e.failure]
    assert good and len(found.candidates) == 1 + len(good) and not [t.failure for t in found.trials if t.failure]
    assert {v.candidate for v in found.verdicts} == {t.candidate for t in found.trials}
    assert not [v.failure for v in found.verdicts if v.failure] and {v.grader for v in found.verdicts} == {"exact"}
    assert found.rewards and len(found.rewards["rewards"]) == len(good) and found.choices
    assert found.update and found.update["version"]["number"] == 1


def test_a_round_of_mathematics_whose_answers_go_through_the_engine(hire: Hire, tmp_path: Path) -> None:
    """Each trained adapter leaves its bank as a file, is held against the bank by the canary, and answers in vLLM."""
    rows = [{"problem": f"{n} + 1", "answer": f"#### {n + 1}"} for n in range(3)]
    found = one_round(hire, tmp_path, {"name": "math", "asked": 2}, rows)
    whole(found)
    assert {(len(t.answers), len(t.likelihoods)) for t in found.trials} == {(4, 2)}
    assert all(len({a.text for a in t.answers}) > 1 for t in found.trials), "answers are drawn, not repeated"


def test_a_round_of_code_whose_programs_are_judged_in_sandboxes_as_tasks_of_ray(
    hire: Hire, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    try:
        choose()
    except NoIsolation as none:
        pytest.skip(str(none))
    judged: list[tuple[Program, ProgramResult]] = []
    real = crew.run_on_cluster

    def watched(programs: Sequence[Program], *how: Any) -> list[ProgramResult]:
        results = real(programs, *how)
        judged.extend(zip(programs, results, strict=True))
        return results

    monkeypatch.setattr(crew, "run_on_cluster", watched)
    tests = ["assert add(1, 2) == 3", "assert add(2, 2) == 4", "assert add(0, 0) == 0"]
    row = {"prompt": "Add two numbers.", "tests": tests, "solution": "def add(a, b):\n    return a + b\n"}
    found = one_round(hire, tmp_path, {"name": "code", "style": "solve"}, [row])
    whole(found)
    assert {v.score for v in found.verdicts} == {0.0}, "what a random model writes is wrong, and no failure"
    assert len(judged) == sum(len(t.answers) for t in found.trials)
    for program, result in judged:
        assert len(result.cases) == len(program.cases) == 2 and not result.failure
        assert {case.kind for case in result.cases} <= {"syntax_error", "raised"}
