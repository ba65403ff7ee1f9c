"""A round of mathematics through the command line: real Ray, and vLLM that answers with trained adapters."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from command import ROOT, seal_ray

from seal_ray.loops.history import Round, Run


def one_round(folder: Path, domain: dict[str, Any], rows: list[dict[str, Any]], **more: Any) -> Round:
    """One round of a job like `tiny.yaml` over these rows."""
    config = yaml.safe_load((ROOT / "jobs/tiny.yaml").read_text())
    data = folder / "rows.jsonl"
    data.write_text("\n".join(map(json.dumps, rows)))
    config["run"] |= {"uri": str(folder / "run"), "rounds": 1, "tasks_per_round": 2}
    config["inner"]["repeats"] = 1
    config["grading"] = {"grader": "exact", "reward": "likelihood"}
    config["select"] = {"rule": "threshold", "threshold": -100.0}  # a random model's edits need not help
    config["domain"] = {"data": str(data), "validation": 0, "test": 0, **domain}
    for section, values in more.items():
        config[section] = config.get(section, {}) | values
    job = folder / "job.yaml"
    job.write_text(yaml.safe_dump(config))
    seal_ray("run", str(job))
    run = Run(str(folder / "run"))
    assert run.latest == 1
    return run.round(1)


def whole(found: Round) -> None:
    """Every edit was tried, every trial answered and judged, and a version was trained on the best."""
    assert found.edits and not [t.failure for t in found.trials if t.failure]
    assert {v.candidate for v in found.verdicts} == {t.candidate for t in found.trials}
    assert not [v.failure for v in found.verdicts if v.failure]
    assert found.rewards and found.rewards["rewards"] and found.choices
    assert found.update and found.update["version"]["number"] == 1


@pytest.mark.slow
def test_a_round_of_mathematics_whose_answers_go_through_the_engine(tmp_path: Path) -> None:
    """Each trained adapter leaves its bank as a file, is held against the bank by the canary, and answers in vLLM."""
    rows = [{"problem": f"{n} + 1", "answer": f"#### {n + 1}"} for n in range(8)]
    found = one_round(
        tmp_path,
        {"name": "math", "asked": 3, "thought": True},
        rows,
        answering={"max_tokens": 24, "how": "engine", "samples": 2, "temperature": 1.0},
    )
    whole(found)
    assert {(len(t.answers), len(t.likelihoods)) for t in found.trials} == {(6, 3)}
    assert all(len({a.text for a in t.answers}) > 1 for t in found.trials), "answers are drawn, not repeated"
    assert {v.grader for v in found.verdicts} == {"exact"}
