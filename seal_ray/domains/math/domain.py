"""Mathematics: from problems to prompts, training sets and verdicts."""

from collections.abc import Callable, Sequence
from functools import cached_property

from seal_ray.config import AnsweringSection, MathDomain
from seal_ray.domains.base import Grader, Rejected, Tokenizer, verdict
from seal_ray.domains.examples import answered_example, plain_example, read_edit
from seal_ray.domains.math import answers as reading
from seal_ray.domains.math.problems import load, split_tasks, tasks_of
from seal_ray.domains.math.prompts import ASKED, Solved, edit_prompt, leads, pick_style, question_prompt, solved
from seal_ray.models import render
from seal_ray.records import (
    Answer,
    AskedAs,
    Description,
    EditRequest,
    Example,
    Failure,
    Json,
    Prompt,
    Question,
    Recipe,
    Split,
    Task,
    Verdict,
)

GRADER = "exact"


class Mathematics:
    """Problems, learned from edits about one of them and asked on others of its kind."""

    name = "math"

    def __init__(
        self,
        section: MathDomain,
        *,
        recipe: Recipe,
        max_tokens: int,
        chat: bool,
        seed: int,
        read: Callable[[str], bytes],
    ) -> None:
        self._section, self._recipe, self._max_tokens = section, recipe, max_tokens
        self._chat, self._seed, self._read = chat, seed, read
        self._odd: list[str] = []

    @cached_property
    def _splits(self) -> dict[Split, list[Task]]:
        section = self._section
        found = tasks_of(load(section, self._read, self._odd.append), section, self._seed)
        return split_tasks(found, self._seed, section.validation, section.test)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What was odd in the data, for whoever shows it."""
        _ = self._splits
        return tuple(self._odd)

    def tasks(self, split: Split) -> Sequence[Task]:
        return self._splits[split]

    def regression(self, uri: str) -> Sequence[Task]:
        section = self._section.model_copy(update={"data": uri, "gold": "data"})
        return tasks_of(load(section, self._read, lambda odd: None), section, self._seed)

    def describe(self, task: Task) -> Description:
        asked = [AskedAs(str(n), q["problem"], tuple(q["answers"])) for n, q in enumerate(task.data["asked"])]
        parts = [task.data["context"], *task.data["shown"]]
        return Description(task.group or task.id, "\n\n".join(p for p in parts if p), tuple(asked))

    # edits

    def edit_request(self, task: Task, slot: int) -> EditRequest:
        style = pick_style(self._section.style, self._section.mixture, self._seed, task.id, slot)
        return EditRequest(Prompt(self._edit_prompt(task, style), chat=self._chat), style=style)

    def _edit_prompt(self, task: Task, style: str) -> str:
        shown = "\n\n".join(task.data["shown"])
        return edit_prompt(style, task.data["context"], shown, chat=self._chat, thought=self._section.thought)

    def parse(self, task: Task, text: str) -> Json | Failure:
        """The edit's text, where there is anything in it to train on."""
        own = read_edit(text, (self._edit_prompt(task, style) for style in ASKED))
        if isinstance(own, Failure):
            return own
        if not self._solved(task, own):
            return Failure("unparsable", "the edit answers none of its problems")
        return own

    def _solved(self, task: Task, edit: str) -> list[Solved]:
        shown = "\n\n".join(task.data["shown"])
        return solved(edit, shown, thought=self._section.thought, most=self._section.max_texts)

    # training

    def training(self, task: Task, content: Json, tokenizer: Tokenizer) -> tuple[list[Example], Recipe]:
        if content is None:
            return [
                plain_example(text, tokenizer, self._recipe.max_length) for text in self.texts(task, None)
            ], self._recipe
        if not isinstance(content, str):
            raise Rejected(Failure("unparsable", f"an edit is a text, not a {type(content).__name__}"))
        examples = [self._example(one, tokenizer) for one in self._solved(task, content)]
        if not examples:
            raise Rejected(Failure("no_text", "nothing to train on is left of the edit"))
        return examples, self._recipe

    def texts(self, task: Task, content: Json) -> Sequence[str]:
        """Each lesson of the edit as one text; without an edit what the task shows."""
        if content is None:
            shown = "\n\n".join(task.data["shown"])
            return [f"{task.data['context']}\n{shown}".strip()]
        if not isinstance(content, str):
            return []
        found = self._solved(task, content)
        return [f"{question_prompt(s.problem, chat=False, thought=self._section.thought).text} {s.said}" if s.problem
                else s.said for s in found]  # fmt: skip

    def _example(self, one: Solved, tokenizer: Tokenizer) -> Example:
        """A problem as it will be asked, which carries no loss, and what is to be said to it."""
        if not one.problem:
            return plain_example(one.said, tokenizer, self._recipe.max_length)
        prompt = question_prompt(one.problem, chat=self._chat, thought=self._section.thought)
        asked = render(tokenizer, prompt)
        return answered_example(asked, one.said if self._chat else f" {one.said}", tokenizer, self._recipe.max_length)

    # questions and answers

    def questions(self, task: Task) -> Sequence[Question]:
        thought = self._section.thought
        return [
            Question(
                id=str(number),
                prompt=question_prompt(item["problem"], chat=self._chat, thought=thought),
                gold=tuple(item["answers"]),
                text=item["problem"],
                max_tokens=self._max_tokens,
                lead=leads(self._chat, thought),
                stop=() if self._chat else ("\nProblem:",) if thought else ("\n",),
            )
            for number, item in enumerate(task.data["asked"])
        ]

    def verdicts(
        self, task: Task, candidate: str, answers: Sequence[Answer], grader: Grader | None = None
    ) -> Sequence[Verdict]:
        """One verdict for each problem asked. No grader is asked: an answer is right or wrong by itself."""
        given: dict[str, list[str]] = {}
        for answer in answers:
            given.setdefault(answer.question, []).append(reading.final(answer.text))
        asked = [(q.id, given.get(q.id, []), self._accepted(q, given.get(q.id, []))) for q in self.questions(task)]
        right = iter(reading.right([(said, accepted) for _, own, accepted in asked for said in own]))
        return [
            verdict(candidate, question, GRADER, [(ok := next(right), float(ok)) for _ in own])
            for question, own, _ in asked
        ]

    def _accepted(self, question: Question, said: Sequence[str]) -> Sequence[str]:
        if self._section.gold == "data":
            return question.gold
        elected = reading.majority(said)
        return [elected] if elected else []


def build(
    section: MathDomain,
    *,
    recipe: Recipe,
    answering: AnsweringSection,
    chat: bool,
    seed: int,
    read: Callable[[str], bytes],
) -> Mathematics:
    """The domain that a configuration asks for. `read` fetches a path or a URI."""
    return Mathematics(section, recipe=recipe, max_tokens=answering.max_tokens, chat=chat, seed=seed, read=read)
