"""What is to be learned, and how it is tested."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from seal_ray.plain_data import Json, digest

Split = Literal["train", "validation", "test"]


@dataclass(frozen=True)
class Task:
    """What is to be learned and how it is tested. `data` is the domain's own and is JSON."""

    id: str
    data: Mapping[str, Json]
    group: str = ""  # tasks of one group (a title) are never split between training and validation
    # by question, wrong answers that its right one is told apart from; no part of what the task is
    distractors: Mapping[str, Sequence[str]] = field(default_factory=dict)
    weight: float = 1.0  # of a round's draw; no part of what the task is either

    @property
    def digest(self) -> str:
        return digest([self.id, dict(self.data)])


@dataclass(frozen=True)
class Prompt:
    """A text for the model. With `chat` it is a user's turn, rendered with the model's chat template."""

    text: str
    system: str = ""
    chat: bool = False
    prefix: str = ""  # how the model's own turn begins


@dataclass(frozen=True)
class EditRequest:
    """What the policy is asked for one slot of a task. None means: as the configuration says."""

    prompt: Prompt
    style: str = ""
    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    schema: Mapping[str, Json] | None = None  # JSON schema for constrained decoding


@dataclass(frozen=True)
class Question:
    """One closed-book question: the prompt, every accepted answer, and how long an answer may be."""

    id: str
    prompt: Prompt
    gold: tuple[str, ...]
    text: str = ""  # the bare question, for graders and readers
    max_tokens: int = 64
    lead: str = ""  # stands between prompt and answer when an answer's likelihood is taken (" " after "Answer:")
    stop: tuple[str, ...] = ("\n",)
    end_answer: bool = True  # is the end-of-text token part of the answer whose likelihood is taken


@dataclass(frozen=True)
class AskedAs:
    """A question in words, as verdicts are about it: what is asked, and what counts as right."""

    id: str  # the verdicts' `question`
    text: str
    gold: tuple[Json, ...] = ()
    parts: tuple[str, ...] = ()  # questions whose answers one verdict rests on, where these are several


@dataclass(frozen=True)
class Description:
    """A task in words, for people and for judges."""

    title: str
    text: str  # what there is to learn
    questions: tuple[AskedAs, ...] = ()
