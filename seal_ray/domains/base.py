"""What a domain is: it turns data into tasks, a policy's text into training examples, answers into verdicts.

A domain knows neither Ray nor vLLM nor devices. Whatever it is given and returns is plain data, apart from the
tokenizer, which is any Hugging Face tokenizer.
"""

from collections.abc import Sequence
from typing import Any, Protocol

from seal_ray.records import (
    Answer,
    EditRequest,
    Example,
    Failure,
    Json,
    Question,
    Recipe,
    Split,
    Task,
    Verdict,
)

Tokenizer = Any  # a transformers tokenizer; this room does not import transformers for a type


class Grader(Protocol):
    """Says of (question, gold answers, answer) how right the answer is. Many at once, for those that ask a server."""

    name: str

    def grade(self, items: Sequence[tuple[str, Sequence[str], str]]) -> "Sequence[Grade]":
        """One grade for each (question, gold answers, answer), in order."""
        ...


Grade = tuple[bool, float] | Failure  # correct or not and a score in [0, 1]; or why there is none


class Domain(Protocol):
    """One kind of thing to learn. Plug-ins are found under the entry point group `seal_ray.domains`."""

    name: str

    def tasks(self, split: Split) -> Sequence[Task]:
        """All tasks of a split, in an order that never changes for the same data and seed."""
        ...

    def edit_request(self, task: Task, slot: int) -> EditRequest:
        """What the policy is asked to write for this slot of the task."""
        ...

    def parse(self, task: Task, text: str) -> Json | Failure:
        """The content of an edit (a text, or directives), or why the text is none."""
        ...

    def training(self, task: Task, content: Json, tokenizer: Tokenizer) -> tuple[list[Example], Recipe]:
        """What an adapter is trained on, and how. `content` None: the task's context alone, without an edit.

        Raises `Rejected` where the edit can't be trained on.
        """
        ...

    def questions(self, task: Task) -> Sequence[Question]:
        """What is asked after training, without the context."""
        ...

    def verdicts(self, task: Task, candidate: str, answers: Sequence[Answer], grader: Grader) -> Sequence[Verdict]:
        """What to make of a trial's answers: one verdict for each question that counts."""
        ...


class Rejected(Exception):
    """An edit can't be trained on: carries the failure that its candidate is recorded with."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure

    def __reduce__(self) -> tuple[object, ...]:
        return Rejected, (self.failure,)
