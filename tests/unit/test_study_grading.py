"""What a study makes of verdicts: with the passage at hand or without, one that is missing is no score."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from seal_ray.errors import CoverageError, DataError
from seal_ray.events import Event, Graded
from seal_ray.grading.endpoint import Usage
from seal_ray.loops.studying.trials import Exam, graded
from seal_ray.records import Answer, Failure, Task, Trial, Verdict

EXAM = Exam((Task("town", {}),), open_book=True)
TRIAL = Trial("c", "sequence-1", answers=tuple(Answer(f"{mark}0|q", mark, 1, "stop", -1.0) for mark in ("", "open")))


class Judged:
    """A session whose judge takes a dollar for each answer, and may have nothing to say of the one with the passage."""

    def __init__(self, why: Failure | None) -> None:
        self.why, self.told = why, list[Event]()
        self.grader: Any = SimpleNamespace(name="judge", usage=Usage())
        self.domain = self
        self.tell = self.told.append

    def tick(self) -> None: ...

    def verdicts(self, task: Task, candidate: str, answers: Sequence[Answer], grader: Any) -> list[Verdict]:
        grader.usage.calls += len(answers)
        grader.usage.dollars += len(answers)
        return [self.verdict(candidate, a) for a in answers]

    def verdict(self, candidate: str, answer: Answer) -> Verdict:
        if answer.text == "open" and self.why:
            return Verdict(candidate, answer.question, "judge", None, None, self.why)
        return Verdict(candidate, answer.question, "judge", True, 1.0)


def grade(session: Any, kept: list[Verdict]) -> Any:
    part: Any = SimpleNamespace(append=lambda kind, verdict: kept.append(verdict))
    return graded(session, part, EXAM, TRIAL)


def test_what_a_judge_takes_for_a_study_is_told() -> None:
    session, kept = Judged(None), list[Verdict]()
    score = grade(session, kept)["town"]
    assert (score.accuracy, score.open_book) == (1, 1) and [v.question for v in kept] == ["0|q", "open0|q"]
    (told,) = session.told
    assert isinstance(told, Graded) and (told.verdicts, told.failed, told.calls, told.cost) == (2, 0, 2, 2.0)


@pytest.mark.parametrize(
    ("why", "error", "said", "kept"),
    [
        (Failure("judge", "no answer", "infra"), CoverageError, "1 of 2 verdicts on sequence-1", ["0|q"]),
        (Failure("no_gold", "nothing to compare with"), DataError, "task town can't be graded", ["0|q", "open0|q"]),
    ],
)
def test_a_verdict_that_is_missing_stops_the_study_also_with_the_passage_at_hand(
    why: Failure, error: type[Exception], said: str, kept: list[str]
) -> None:
    session, recorded = Judged(why), list[Verdict]()
    with pytest.raises(error, match=said):
        grade(session, recorded)
    assert [v.question for v in recorded] == kept
