"""From choices to lessons: the prompt, the text that was written, and how it is to be learned from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from seal_ray.errors import DataError
from seal_ray.records import Choice, Edit

Algorithm = Literal["rest_em", "weighted", "pairs", "grpo"]


@dataclass(frozen=True)
class LessonText:
    """A prompt and its completion. Only the completion carries loss."""

    prompt_ids: tuple[int, ...]
    ids: tuple[int, ...]
    logprobs: tuple[float, ...] = ()  # of `ids`, under the distribution that they were sampled from

    @property
    def tokens(self) -> int:
        return len(self.prompt_ids) + len(self.ids)


def lesson_text(prompt_ids: Sequence[int], ids: Sequence[int], logprobs: Sequence[float] = ()) -> LessonText:
    """A text to learn. Without a prompt its first token is the prompt: nothing before it could predict it."""
    if not prompt_ids:
        return LessonText(tuple(ids[:1]), tuple(ids[1:]), tuple(logprobs[1:]))
    return LessonText(tuple(prompt_ids), tuple(ids), tuple(logprobs))


@dataclass(frozen=True)
class Lesson:
    """One example of a policy update: a text to learn, or to prefer to another."""

    edit: str
    task: str
    text: LessonText
    weight: float = 1.0
    against: LessonText | None = None
    algorithm: Algorithm = "rest_em"

    @property
    def texts(self) -> tuple[LessonText, ...]:
        return (self.text, self.against) if self.against else (self.text,)

    @property
    def tokens(self) -> int:
        return sum(t.tokens for t in self.texts)


def lessons(choices: Sequence[Choice], edits: Mapping[str, Edit]) -> list[Lesson]:
    """The lessons of a round, from its choices and its edits by id."""
    return [_lesson(choice, edits) for choice in choices]


def _lesson(choice: Choice, edits: Mapping[str, Edit]) -> Lesson:
    if choice.algorithm == "pairs" and choice.against is None:
        raise DataError(f"edit {choice.edit} of task {choice.task} is to be preferred, but to nothing")
    text = _text(choice.edit, choice, edits)
    against = _text(choice.against, choice, edits) if choice.against is not None else None
    if choice.algorithm == "grpo" and len(text.logprobs) != len(text.ids):
        raise DataError(
            f"edit {choice.edit} of task {choice.task} has {len(text.logprobs)} log-probabilities for "
            f"{len(text.ids)} tokens, and grpo needs one each",
            hint="use select.algorithm rest_em for edits that this policy did not sample",
        )
    return Lesson(choice.edit, choice.task, text, choice.weight, against, choice.algorithm)


def _text(name: str, choice: Choice, edits: Mapping[str, Edit]) -> LessonText:
    edit = edits.get(name)
    if edit is None:
        raise DataError(
            f"edit {name} was chosen for task {choice.task} but is not among the round's {len(edits)} edits",
            hint="the ledger's edits and selection do not belong together; look at the round with `seal-ray inspect`",
        )
    if len(edit.prompt_ids) + len(edit.ids) < 2 or not edit.ids:
        raise DataError(f"edit {name} of task {choice.task} has no text to learn")
    return lesson_text(edit.prompt_ids, edit.ids, edit.logprobs)
