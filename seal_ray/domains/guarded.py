"""A domain whose mistakes cost what they concern and not the run: an exception becomes a failure, and is counted."""

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from seal_ray.domains.base import Domain, Grader, Rejected, Tokenizer
from seal_ray.errors import DataError, SealError
from seal_ray.records import (
    Answer,
    Description,
    EditRequest,
    Example,
    Failure,
    Json,
    Question,
    Recipe,
    Split,
    Task,
    Verdict,
    canonical,
)

T = TypeVar("T")
FEW = 50  # calls after which a share of failed ones says something while a round is on


class GuardedDomain:
    """The same domain; whatever `parse`, `training` and `verdicts` raise is a failure of blame `data`.

    `warn` is told of each kind once. `check` stops the run where more than `limit` of the calls of one kind failed.
    """

    def __init__(self, domain: Domain, limit: float) -> None:
        self._domain, self._limit = domain, limit
        self.name = domain.name
        self.warn: Callable[[str], None] = lambda message: None
        self.raised: Counter[tuple[str, str]] = Counter()  # by call and name of the exception
        self.calls: Counter[str] = Counter()
        self._last: dict[str, str] = {}
        self._lock = threading.Lock()  # verdicts are given in threads

    def __getattr__(self, name: str) -> Any:
        """What a domain offers beyond the protocol."""
        if name == "_domain":  # not there yet: the copy of an object asks before it is whole
            raise AttributeError(name)
        offered = getattr(self._domain, name)
        if name != "alike":
            return offered
        return lambda task, question, texts: self._called("alike", lambda: list(offered(task, question, texts)))

    if TYPE_CHECKING:  # through `__getattr__`, from those that have them

        def describe(self, task: Task) -> Description: ...
        def texts(self, task: Task, content: Json) -> Sequence[str]: ...
        def regression(self, uri: str) -> Sequence[Task]: ...
        def alike(self, task: Task, question: str, texts: Sequence[str]) -> "Sequence[int | None]": ...

    def tasks(self, split: Split) -> Sequence[Task]:
        return self._domain.tasks(split)

    def edit_request(self, task: Task, slot: int) -> EditRequest:
        return self._domain.edit_request(task, slot)

    def questions(self, task: Task) -> Sequence[Question]:
        return self._domain.questions(task)

    def parse(self, task: Task, text: str) -> Json | Failure:
        return self._called("parse", lambda: _recordable(self._domain.parse(task, text)))

    def training(self, task: Task, content: Json, tokenizer: Tokenizer) -> tuple[list[Example], Recipe]:
        made = self._called("training", lambda: self._domain.training(task, content, tokenizer))
        if isinstance(made, Failure):
            raise Rejected(made)
        return made

    def verdicts(self, task: Task, candidate: str, answers: Sequence[Answer], grader: Grader) -> Sequence[Verdict]:
        given = self._called(
            "verdicts", lambda: _recordable(list(self._domain.verdicts(task, candidate, answers, grader)))
        )
        if not isinstance(given, Failure):
            return given
        asked = dict.fromkeys(a.question for a in answers) or {"": None}
        return [Verdict(candidate, question, grader.name, None, None, given) for question in asked]

    def check(self, *, whole: bool = False) -> None:
        """Stop the run where too many calls failed. `whole`: also where there were few, because no more will come."""
        for call, count in list(self.calls.items()):
            failed = sum(n for (c, _), n in list(self.raised.items()) if c == call)
            if (whole or count >= FEW) and failed > self._limit * count:
                raise DataError(
                    f"domain {self.name}: {failed} of {count} calls of {call} raised, which is more than "
                    f"run.domain_errors: {self._limit:g} allows; the last: {self._last[call]}",
                    hint="fix the domain or its data, then start the same command again",
                )

    def _called(self, call: str, act: Callable[[], T]) -> T | Failure:
        with self._lock:
            self.calls[call] += 1
        try:
            return act()
        except (SealError, Rejected):
            raise  # said on purpose
        except Exception as error:
            return self._failure(call, error)

    def _failure(self, call: str, error: Exception) -> Failure:
        kind = type(error).__name__
        failure = Failure(kind, f"{call} of domain {self.name} raised {kind}: {str(error)[:300]}")
        with self._lock:
            self.raised[call, kind] += 1
            first = self.raised[call, kind] == 1
            self._last[call] = failure.message
        if first:
            self.warn(f"{failure.message}; further ones of this kind are recorded and not told")
        return failure


def _recordable(value: T) -> T:
    """The value, proven fit for the ledger; raises where it is not."""
    canonical(value).encode()
    return value
