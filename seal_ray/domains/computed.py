"""What domains do alike whose edits are problems with solutions, and whose answers are right or wrong by themselves."""

import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

from seal_ray.config import AnsweringSection
from seal_ray.domains.base import Rejected, Tokenizer
from seal_ray.domains.examples import answered_example, plain_example, read_edit
from seal_ray.records import EditRequest, Example, Failure, Json, Prompt, Recipe, Split, Task, derive_seed
from seal_ray.tokens import render

GRADER = "exact"


@dataclass(frozen=True)
class Solved:
    """One thing that an edit teaches: a problem with what is to be said to it, or, without a problem, a text."""

    problem: str
    said: str


class ComputedDomain(ABC):
    """The way from data to tasks, and from an edit's text to training examples."""

    name: ClassVar[str]
    styles: ClassVar[Iterable[str]]  # in which an edit may be asked for
    unsolved: ClassVar[str]  # why an edit is none of which nothing can be trained on

    def __init__(
        self,
        section: Any,
        *,
        recipe: Recipe,
        answering: AnsweringSection,
        chat: bool,
        seed: int,
        read: Callable[[str], bytes],
    ) -> None:
        """`read` fetches a path or a URI."""
        self._section, self._recipe, self._max_tokens = section, recipe, answering.max_tokens
        self._chat, self._seed, self._read = chat, seed, read
        self._odd: list[str] = []

    @abstractmethod
    def _load(self, section: Any, warn: Callable[[str], None]) -> Sequence[Task]:
        """All tasks of `section.data`."""

    @abstractmethod
    def _split_group(self, task: Task) -> str:
        """Tasks of one group are in one split."""

    @abstractmethod
    def _edit_prompt(self, task: Task, style: str) -> str: ...

    @abstractmethod
    def _lessons(self, task: Task, edit: str) -> list[Solved]: ...

    @abstractmethod
    def _asked(self, problem: str, *, chat: bool) -> Prompt:
        """How a problem is asked, and how it stands in training."""

    @abstractmethod
    def _answered(self, said: str) -> str:
        """A solution as the model is to say it after that."""

    @abstractmethod
    def _shown(self, task: Task) -> str:
        """What there is to learn from without an edit."""

    # tasks

    @cached_property
    def _splits(self) -> dict[Split, list[Task]]:
        section, groups = self._section, dict[str, list[Task]]()
        for task in sorted(self._load(section, self._odd.append), key=lambda task: task.id):
            groups.setdefault(self._split_group(task), []).append(task)
        return split_groups(groups, f"{self.name}-split", self._seed, section.validation, section.test)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What was odd in the data, for whoever shows it."""
        _ = self._splits
        return tuple(self._odd)

    def tasks(self, split: Split) -> Sequence[Task]:
        return self._splits[split]

    def regression(self, uri: str) -> Sequence[Task]:
        return self._load(self._section.model_copy(update={"data": uri}), lambda odd: None)

    # edits

    def edit_request(self, task: Task, slot: int) -> EditRequest:
        section = self._section
        style = section.style
        if style == "mixture":
            style = drawn(section.mixture, derive_seed(f"{self.name}-style", self._seed, task.id, slot))
        return EditRequest(Prompt(self._edit_prompt(task, style), chat=self._chat), style=style)

    def parse(self, task: Task, text: str) -> Json | Failure:
        """The edit's text, where there is anything in it to train on."""
        own = read_edit(text, (self._edit_prompt(task, style) for style in self.styles))
        if isinstance(own, Failure) or self._lessons(task, own):
            return own
        return Failure("unparsable", self.unsolved)

    # training

    def training(self, task: Task, content: Json, tokenizer: Tokenizer) -> tuple[list[Example], Recipe]:
        if content is None:
            return [plain_example(self._shown(task), tokenizer, self._recipe.max_length)], self._recipe
        if not isinstance(content, str):
            raise Rejected(Failure("unparsable", f"an edit is a text, not a {type(content).__name__}"))
        examples = [self._example(lesson, tokenizer) for lesson in self._lessons(task, content)]
        if not examples:
            raise Rejected(Failure("no_text", "nothing to train on is left of the edit"))
        return examples, self._recipe

    def _example(self, lesson: Solved, tokenizer: Tokenizer) -> Example:
        """A problem as it will be asked, which carries no loss, and what is to be said to it."""
        if not lesson.problem:
            return plain_example(lesson.said, tokenizer, self._recipe.max_length)
        asked = render(tokenizer, self._asked(lesson.problem, chat=self._chat))
        return answered_example(asked, self._answered(lesson.said), tokenizer, self._recipe.max_length)

    def texts(self, task: Task, content: Json) -> Sequence[str]:
        """Each lesson of the edit as one text; without an edit what the task shows."""
        if content is None:
            return [self._shown(task)]
        lessons = self._lessons(task, content) if isinstance(content, str) else []
        return [self._in_words(lesson) if lesson.problem else lesson.said for lesson in lessons]

    def _in_words(self, lesson: Solved) -> str:
        return f"{self._asked(lesson.problem, chat=False).text} {lesson.said}"


def drawn(mixture: Mapping[str, float], seed: int) -> str:
    """A style by its share."""
    names = sorted(mixture)
    return random.Random(seed).choices(names, [mixture[n] for n in names])[0]


def split_groups(
    groups: Mapping[str, Sequence[Task]], word: str, seed: int, validation: float, test: float
) -> dict[Split, list[Task]]:
    """The splits, drawn from the groups' names alone."""
    ranked = sorted(groups, key=lambda name: (derive_seed(seed, word, name), name))
    n_test = round(len(ranked) * test)
    n_held = n_test + round(len(ranked) * validation)
    parts: dict[Split, list[str]] = {
        "test": ranked[:n_test],
        "validation": ranked[n_test:n_held],
        "train": ranked[n_held:],
    }
    return {split: [task for name in names for task in groups[name]] for split, names in parts.items()}
