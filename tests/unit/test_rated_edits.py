"""Edits that a judge rates without a trial: what of it is in the ledger, whenever a driver dies."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ledger_samples import begin

from seal_ray.grading.rubric import AXES
from seal_ray.loops.exploring.verdicts import Verdicts
from seal_ray.records import Failure, Verdict


def test_an_edits_ratings_are_in_the_ledger_all_or_none(tmp_path: Path) -> None:
    ledger = begin(str(tmp_path))
    session: Any = SimpleNamespace(domain=None, grader=SimpleNamespace(name="lexical"), graders=None, rubric=None)
    known = Verdicts(session, ledger.round(1), {}, lambda event: None)
    edits = [f"edit-{n}" for n in range(12)]
    given = [Verdict(edit, axis, "rubric", None, 0.5) for edit in edits for axis in AXES]
    known.rated([*given, Verdict("lost", "rubric", "rubric", None, None, Failure("judge", "no reply", "infra"))], 1.0)
    ledger.flush()
    texts = [p.read_text() for p in sorted((tmp_path / "rounds/0001/verdicts").iterdir())]
    assert len(texts) > 1 and all(t.count(f'"{e}"') in {0, len(AXES)} for t in texts for e in edits), (
        "a driver that dies could leave a part of an edit's ratings, and whoever goes on would take them for all"
    )
    assert list(ledger.round(1).records("verdicts").values()) == given, "what was lost is asked for again"
    assert known.whole([*edits, "lost"]) == len(edits)
    ledger.close()
