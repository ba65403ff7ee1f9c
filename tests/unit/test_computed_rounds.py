"""Whole rounds of mathematics and of code: a tiny model, its bank and its update, real sandboxes, no cluster."""

import json
from pathlib import Path
from typing import Any

import pytest
from one_process_rounds import one_process_round

from seal_ray.domains.math import Mathematics
from seal_ray.errors import NoIsolation
from seal_ray.loops.explore import explore
from seal_ray.loops.exploring.plan import Plan
from seal_ray.loops.history import Round, Run
from seal_ray.loops.session import Session
from seal_ray.sandbox import choose

ADD = "def add(a, b):\n    return a + b\n"


@pytest.fixture
def one_round(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    def run(domain: dict[str, Any], rows: list[dict[str, Any]], **answering: Any) -> Round:
        data = tmp_path / "rows.jsonl"
        data.write_text("\n".join(map(json.dumps, rows)))
        settings = {"data": str(data), "validation": 0, "test": 0, **domain}
        exact = {"grader": "exact", "reward": "likelihood"}
        uri = tmp_path / "run"
        return one_process_round(uri, monkeypatch, domain=settings, answering=answering, grading=exact)

    return run


def whole(found: Round) -> None:
    """Every edit was tried, every trial answered and judged, and a version was trained on the best."""
    good = [e for e in found.edits if not e.failure]
    assert good and len(found.candidates) == 2 + len(good)
    assert not [t.failure for t in found.trials if t.failure]
    assert {v.candidate for v in found.verdicts} == {t.candidate for t in found.trials}
    assert not [v.failure for v in found.verdicts if v.failure] and {v.grader for v in found.verdicts} == {"exact"}
    assert found.rewards and len(found.rewards["rewards"]) == len(good) and found.choices
    assert found.update and found.update["version"]["number"] == 1


def test_a_round_of_mathematics(one_round: Any) -> None:
    rows = [{"problem": f"{n} + 1", "answer": f"#### {n + 1}"} for n in range(8)]
    found = one_round({"name": "math", "asked": 3}, rows, max_tokens=8, samples=2, temperature=1.0)
    whole(found)
    assert {(len(t.answers), len(t.likelihoods)) for t in found.trials} == {(6, 3)}


def test_what_a_domain_has_judged_by_itself_is_not_judged_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever grader is configured, which such a domain never asks: a run that goes on takes its verdicts up."""
    (tmp_path / "rows.jsonl").write_text("\n".join(json.dumps({"problem": f"{n} + 1", "answer": n}) for n in range(4)))
    domain = {"name": "math", "data": str(tmp_path / "rows.jsonl"), "asked": 1, "validation": 0, "test": 0}
    grading = {"grader": "lexical", "reward": "likelihood"}
    found = one_process_round(
        tmp_path / "run", monkeypatch, domain=domain, answering={"max_tokens": 4}, grading=grading
    )

    judged: list[Any] = []

    def judge(*asked: Any) -> list[Any]:
        judged.append(asked)
        return []

    def nobody(*_: Any) -> Any:
        raise AssertionError("a cluster was asked for")

    monkeypatch.setattr(Mathematics, "verdicts", judge)
    assert found.version
    with Session(Run(str(tmp_path / "run")).config, hire=nobody) as session:
        plan = Plan(found.tasks, found.version, 2, 1, False, salt=1, given=found.edits)
        exploration = explore(session, session.open_round(1), plan)
    assert exploration.done and exploration.coverage() == 1 and not judged


def test_a_round_of_mathematics_without_answers_is_rewarded_by_votes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "rows.jsonl"
    data.write_text("\n".join(json.dumps({"problem": f"{n} + 1"}) for n in range(8)))
    domain = {"name": "math", "data": str(data), "asked": 3, "gold": "majority", "validation": 0, "test": 0}
    found = one_process_round(
        tmp_path / "run",
        monkeypatch,
        domain=domain,
        answering={"max_tokens": 8, "samples": 3, "temperature": 0.7},
        grading={"grader": "exact", "reward": "vote"},
    )
    assert found.rewards and found.rewards["measure"] == "vote"
    elections = found.rewards["elections"]
    assert len(elections) == 6 and all(e["cast"] == 3 for e in elections)
    by_task = {e["task"]: e["failure"] is None for e in sorted(elections, key=lambda e: e["failure"] is None)}
    assert {r["task"] for r in found.rewards["rewards"]} <= {t for t, won in by_task.items() if won}


def test_a_round_of_code_whose_programs_run_in_sandboxes(one_round: Any) -> None:
    try:
        choose()
    except NoIsolation as none:
        pytest.skip(str(none))
    tests = ["assert add(1, 2) == 3", "assert add(2, 2) == 4"]
    rows = [{"prompt": f"Add {n} numbers.", "tests": tests, "solution": ADD} for n in range(2)]
    found = one_round({"name": "code", "style": "solve"}, rows, max_tokens=8)
    whole(found)
    assert {v.score for v in found.verdicts} == {0.0}, "what a random model writes is wrong, and no failure"


def test_a_round_of_the_toy_language(one_round: Any) -> None:
    tests = [{"args": [[1, 2, 3]], "expected": [3, 2, 1]}, {"args": [[4, 5]], "expected": [5, 4]}]
    rows = [{"prompt": f"Turn around, number {n}.", "tests": tests, "solution": "reverse"} for n in range(2)]
    whole(one_round({"name": "code", "language": "toy"}, rows, max_tokens=4))
