"""Rounds of mathematics and of code with real Ray, vLLM and DeepSpeed, and programs in real sandboxes."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import ray
from command import ROOT

import seal_ray
from seal_ray import config_file
from seal_ray.config import PlacementSection
from seal_ray.errors import NoIsolation
from seal_ray.fleet import cluster, crew
from seal_ray.loops.history import Round
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
]


@pytest.fixture(scope="module")
def joined() -> Iterator[None]:
    """One cluster on this machine for both rounds."""
    cluster.connect(PlacementSection(address="local"))
    yield
    ray.shutdown()


def one_round(folder: Path, domain: dict[str, Any], rows: Sequence[dict[str, Any]], *changes: str) -> Round:
    data = folder / "rows.jsonl"
    data.write_text("\n".join(map(json.dumps, rows)))
    own = [f"run.uri={folder}/run", f"domain={json.dumps({'data': str(data), **domain})}"]
    run = seal_ray.run(config_file.load(ROOT / "jobs/tiny.yaml", [*own, *SMALL, *changes]))
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


@pytest.mark.slow
@pytest.mark.usefixtures("joined")
def test_a_round_of_mathematics_whose_answers_go_through_the_engine(tmp_path: Path) -> None:
    """Each trained adapter leaves its bank as a file, is held against the bank by the canary, and answers in vLLM."""
    rows = [{"problem": f"{n} + 1", "answer": f"#### {n + 1}"} for n in range(3)]
    answering = '{"max_tokens": 24, "how": "engine", "samples": 2, "temperature": 1.0}'
    found = one_round(tmp_path, {"name": "math", "asked": 2}, rows, f"answering={answering}")
    whole(found)
    assert {(len(t.answers), len(t.likelihoods)) for t in found.trials} == {(4, 2)}
    assert all(len({a.text for a in t.answers}) > 1 for t in found.trials), "answers are drawn, not repeated"


@pytest.mark.slow
@pytest.mark.usefixtures("joined")
def test_a_round_of_code_whose_programs_are_judged_in_sandboxes_as_tasks_of_ray(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
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
    found = one_round(tmp_path, {"name": "code", "style": "solve"}, [row])
    whole(found)
    assert {v.score for v in found.verdicts} == {0.0}, "what a random model writes is wrong, and no failure"
    assert len(judged) == sum(len(t.answers) for t in found.trials)
    for program, result in judged:
        assert len(result.cases) == len(program.cases) == 2 and not result.failure
        assert {case.kind for case in result.cases} <= {"syntax_error", "raised"}
