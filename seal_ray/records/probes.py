"""What a version was asked, and the questions that were written and checked."""

from dataclasses import dataclass
from typing import Literal

from seal_ray.records.failure import Failure

AskedFor = Literal["write", "vote", "alone", "changed", "unrelated", "closed book", "support"]


@dataclass(frozen=True)
class Reply:
    """What a version said to one request of a probe, and what it was asked for."""

    id: str
    task: str
    purpose: AskedFor
    about: str  # the question, or the span that a question was written for
    version: str
    seed: int
    text: str
    logprob: float  # sum over its tokens
    tokens: int
    finish: str
    failure: Failure | None = None


@dataclass(frozen=True)
class ProbeQuestion:
    """A question about a passage, as it was written and before it was checked."""

    id: str
    task: str
    question: str
    answers: tuple[str, ...]
    origin: Literal["model", "person"]
    span: tuple[int, int] = (0, 0)  # the sentence of the passage that it is about
    style: str = ""  # number, name or phrase: what its answer is


@dataclass(frozen=True)
class ProbeCheck:
    """One check of one question. `passed` None: it could not be made, and says nothing."""

    id: str  # the question's, and the check's name
    task: str
    question: str
    name: str
    passed: bool | None
    reason: str = ""
