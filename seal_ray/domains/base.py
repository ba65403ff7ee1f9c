"""What a domain is: it turns data into tasks, a policy's text into training examples, answers into verdicts.

A domain knows neither Ray nor vLLM nor devices. Whatever it is given and returns is plain data, apart from the
tokenizer, which is any Hugging Face tokenizer. What a method says of a task rests on the task alone: a domain reads its
data when tasks are asked for, so that a run can be read and graded again where the data no longer is.
"""

from collections.abc import Sequence
from typing import Any, Protocol

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

    # The rest may be missing in a plug-in: reports then show its tasks as they are, gate.regression is
    # refused; votes are, where it is no `VotingDomain`.

    def describe(self, task: Task) -> Description:
        """The task in words: title, what there is to learn, and each question as verdicts are about it."""
        ...

    def texts(self, task: Task, content: Json) -> Sequence[str]:
        """What `training` trains on for this edit, in words, for people; empty where it is not made of texts."""
        ...

    def regression(self, uri: str) -> Sequence[Task]:
        """Tasks in the domain's own format, of which the gate asks the questions that must not get worse."""
        ...


class VotingDomain(Domain, Protocol):
    """A domain that knows which answers say the same."""

    def alike(self, task: Task, question: str, texts: Sequence[str]) -> Sequence[int | None]:
        """Which answers to a question say the same, for grading.reward: vote: the same number for these.

        None: it says nothing that can be read.
        """
        ...


def verdict(candidate: str, question: str, grader: str, grades: Sequence[Grade]) -> Verdict:
    """One verdict from the grades of a question's answers: their mean. One grade that failed fails it whole."""
    failed = next((g for g in grades if isinstance(g, Failure)), None)
    if not grades:
        failed = Failure("no_answer", "the trial has no answer to this question", "infra")
    if failed:
        return Verdict(candidate, question, grader, None, None, failed)
    good = [g for g in grades if not isinstance(g, Failure)]
    score, right = sum(score for _, score in good) / len(good), sum(right for right, _ in good)
    share = right / len(good) if len(good) > 1 else None
    return Verdict(candidate, question, grader, right * 2 > len(good), score, share=share)


class Rejected(Exception):
    """An edit can't be trained on: carries the failure that its candidate is recorded with."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure

    def __reduce__(self) -> tuple[object, ...]:
        return Rejected, (self.failure,)
