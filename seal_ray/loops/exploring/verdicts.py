"""The verdicts of an exploration: given in threads beside the loop, in the ledger as soon as they are there."""

import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future

from seal_ray.events import Graded, Sink
from seal_ray.grading.measure import RUBRIC
from seal_ray.loops.session import Session
from seal_ray.loops.spending import JudgeUse
from seal_ray.records import Task, Trial, Verdict
from seal_ray.storage.ledger import RoundLedger

Timed = tuple[list[Verdict], float]  # and the seconds that they took


class Verdicts:
    """What is known of the trials' answers, and what is being found out. A verdict that could not be had is not
    recorded, so that it is asked for again."""

    def __init__(self, session: Session, part: RoundLedger, tasks: Mapping[str, Task], tell: Sink) -> None:
        self._ledger, self._tasks, self._tell = part, tasks, tell
        self._domain, self._grader, self._threads = session.domain, session.grader, session.graders
        self._judging = JudgeUse(getattr(session.grader, "usage", None))
        self._rating = JudgeUse(session.rubric.usage if session.rubric else None)
        self._waiting: dict[Future[Timed], str] = {}  # the candidate whose trial it is
        self.by_candidate: dict[str, list[Verdict]] = {}  # those on an edit itself, by the edit
        for verdict in part.records("verdicts").values():
            self.by_candidate.setdefault(verdict.candidate, []).append(verdict)

    @property
    def waiting(self) -> bool:
        return bool(self._waiting)

    def there(self, candidate: str) -> bool:
        """Whether the verdicts on a candidate's trial are there, and no other ones come."""
        return candidate in self.by_candidate and candidate not in self._waiting.values()

    def whole(self, names: Iterable[str]) -> int:
        """On how many of these candidates or edits every verdict is there that can be had."""
        given = (self.by_candidate.get(name) for name in names)
        return sum(verdicts is not None and not any(_lost(v) for v in verdicts) for verdicts in given)

    def given(self, candidate: str) -> bool:
        """Whether the verdicts on the candidate's trial are there: this run's grader's, or the domain's own."""
        return bool(self.by_candidate.get(candidate))

    def ask(self, trial: Trial) -> None:
        self._waiting[self._threads.submit(self._grade, trial)] = trial.candidate

    def _grade(self, trial: Trial) -> Timed:
        """In a thread of the graders."""
        began = time.monotonic()
        verdicts = list(self._domain.verdicts(self._tasks[trial.task], trial.candidate, trial.answers, self._grader))
        return verdicts, time.monotonic() - began

    def collect(self) -> int:
        """Record the verdicts that have come in; on how many trials."""
        done = [f for f in self._waiting if f.done()]
        for future in done:
            candidate = self._waiting.pop(future)
            verdicts, seconds = future.result()
            self.by_candidate[candidate] = verdicts
            lost = sum(_lost(v) for v in verdicts)
            if not lost:  # a part of them would look like all of them to whoever goes on
                self._ledger.append_together("verdicts", verdicts)
            self._told(self._grader.name, len(verdicts), lost, seconds, self._judging)
        return len(done)

    def rated(self, verdicts: Sequence[Verdict], seconds: float) -> None:
        """Take verdicts on edits themselves."""
        by_edit: dict[str, list[Verdict]] = {}
        for verdict in verdicts:
            by_edit.setdefault(verdict.candidate, []).append(verdict)
        for edit, own in by_edit.items():
            self.by_candidate.setdefault(edit, []).extend(own)
            if not any(map(_lost, own)):  # some of an edit's axes would look like all of them to whoever goes on
                self._ledger.append_together("verdicts", own)
        failed = sum(v.failure is not None for v in verdicts)
        self._told(RUBRIC, len(verdicts), failed, seconds, self._rating)

    def _told(self, grader: str, verdicts: int, failed: int, seconds: float, use: JudgeUse) -> None:
        spent = use.since()
        self._tell(
            Graded(grader, verdicts, failed, round(seconds, 3), spent.calls, spent.cached, round(spent.dollars, 6))
        )


def _lost(verdict: Verdict) -> bool:
    return verdict.failure is not None and verdict.failure.blame == "infra"
