"""The few-shot domain: from ARC's puzzles to prompts, training sets and verdicts."""

import dataclasses
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import cached_property
from itertools import islice

from seal_ray.config import AnsweringSection, ArcDomain
from seal_ray.domains.arc.augment import Family
from seal_ray.domains.arc.directives import Directives, output_schema, read_directives
from seal_ray.domains.arc.distractors import wrong_grids
from seal_ray.domains.arc.evaluate import View, solves, views, vote
from seal_ray.domains.arc.formats import STOP, longest_grid, puzzle_text, write_grid
from seal_ray.domains.arc.grids import Grid, Puzzle, cell_accuracy
from seal_ray.domains.arc.tasks import puzzles, read_tasks, split_tasks
from seal_ray.domains.arc.training import training_puzzles
from seal_ray.domains.base import Domain, Grader, Rejected, Tokenizer
from seal_ray.errors import ConfigError
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
    derive_seed,
)
from seal_ray.tokens import render, text_ids

GRADER = "exact"
EDIT_TOKENS = 256  # directives under their schema need about 100, whatever the tokenizer
TRIES = 4  # training puzzles that are written for each one that is kept, where many are too long
KEPT = 32  # sets of training texts that are kept; a task has 16, one for each choice of families

GridText = tuple[tuple[int, ...], tuple[int, ...]]  # token ids of what is asked, and of the answer

SYSTEM = (
    "One rule turns every input grid into its output grid. Digits are colours. "
    "Answer with the output grid of the last input, and with nothing else."
)
INSTRUCTION = """Choose how a model trains on this puzzle before it answers. Write one JSON object:
basic, size, chain, repeat: true or false, the augmentations to use;
loss: "all" or "output";
learning_rate: {rates};
epochs: {epochs}.
"""


class Arc:
    """Grid puzzles, learned at test time as a set of directives says."""

    name = "arc"

    def __init__(
        self,
        section: ArcDomain,
        *,
        recipe: Recipe,
        max_tokens: int,
        chat: bool,
        seed: int,
        read: Callable[[str], bytes],
    ):
        self._section, self._recipe, self._chat, self._seed = section, recipe, chat, seed
        self._max_tokens, self._read = max_tokens, read
        self._made: OrderedDict[tuple[str, tuple[Family, ...], int], tuple[Tokenizer, list[GridText]]] = OrderedDict()
        self._odd: list[str] = []

    @cached_property
    def _splits(self) -> dict[Split, list[Task]]:
        section = self._section
        solutions = self._read(section.solutions) if section.solutions else None
        tasks = read_tasks(self._read(section.data), solutions, section.data, section.solutions)
        self._fits(tasks)
        if section.distractors:
            tasks = self._with_distractors(tasks)
        return split_tasks(tasks, self._seed, section.validation, section.test)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What was odd in the data, for whoever shows it."""
        _ = self._splits
        return tuple(self._odd)

    def _with_distractors(self, tasks: Sequence[Task]) -> list[Task]:
        """The tasks with wrong grids beside each right one, turned as the view shows the puzzle."""
        form, given, lacking = self._section.grid_format, list[Task](), 0
        for task in tasks:
            tests, by_question = puzzles(task), dict[str, list[str]]()
            for test, shown in enumerate(self._views(task)):
                wrong = wrong_grids(tests, test, self._section.distractors)
                lacking += tests[test].output is not None and not wrong
                for number, view in enumerate(shown):
                    turned = [write_grid(view.symmetry.forward(grid), form) for grid in wrong]
                    by_question[_view_id(test, number)] = turned
            given.append(dataclasses.replace(task, distractors=by_question))
        if lacking:
            self._odd.append(
                f"domain.distractors: {lacking} test inputs have no wrong grid, for their task shows no other; they "
                "don't count in a contrast; a task of only such inputs has none, and a blend is its accuracy alone"
            )
        return given

    def _fits(self, tasks: Sequence[Task]) -> None:
        """Refuse tasks whose outputs no answer can hold."""
        outputs = [(grid.size, task.id) for task in tasks for puzzle in puzzles(task) for grid in puzzle.outputs()]
        cells, task = max(outputs)
        form = self._section.grid_format
        least = -(-cells // 3) if form == "digits" else cells  # some tokenizers join three digits
        if self._max_tokens < least:
            raise ConfigError(
                f"answering.max_tokens: {self._max_tokens} cuts off a grid of {cells} cells, as task {task} has",
                hint=f"use {longest_grid(form, self._section.max_grid)}, which any grid of domain.max_grid fits",
            )

    def tasks(self, split: Split) -> Sequence[Task]:
        return self._splits[split]

    def regression(self, uri: str) -> Sequence[Task]:
        """Challenges with their solutions inside. Those without are asked nothing that could get worse."""
        tasks = read_tasks(self._read(uri), None, uri)
        self._fits(tasks)
        return split_tasks(tasks, self._seed, 0, 0)["train"]

    def describe(self, task: Task) -> Description:
        form = self._section.grid_format
        shown = puzzles(task)
        asked = [
            AskedAs(
                str(test),
                f"output of test {test + 1}",
                (task.data["test"][test]["output"],),
                tuple(_view_id(test, number) for number in range(len(shown))),
            )
            for test, shown in enumerate(self._views(task))
        ]
        return Description(task.id, puzzle_text(shown[0], form), tuple(asked))

    def texts(self, task: Task, content: Json) -> Sequence[str]:
        """None: what directives make of the demonstrations are grids by the hundred."""
        return ()

    def edit_request(self, task: Task, slot: int) -> EditRequest:
        """The puzzle with its first test input, and what there is to choose. All slots are asked the same."""
        section = self._section
        choices = INSTRUCTION.format(
            rates=_offered(section.learning_rates, f"over 0, at most {section.max_lr:g}"),
            epochs=_offered(section.epoch_choices, f"1 to {section.max_epochs}"),
        )
        text = puzzle_text(puzzles(task)[0], section.grid_format) + f"?\n\n{choices}"
        return EditRequest(
            Prompt(text if self._chat else text + "JSON: ", chat=self._chat),
            style="directives",
            max_tokens=EDIT_TOKENS if section.constrained else None,
            schema=output_schema(section) if section.constrained else None,
        )

    def parse(self, task: Task, text: str) -> Json | Failure:
        directives = read_directives(text, self._section)
        return directives if isinstance(directives, Failure) else directives.model_dump()

    def training(self, task: Task, content: Json, tokenizer: Tokenizer) -> tuple[list[Example], Recipe]:
        """What the directives make of the task's demonstrations; without any, what a fixed set of them makes."""
        limit = self._section.max_examples
        if content is None:
            directives = self.fixed
            limit = max(n for n in range(limit + 1) if self._recipe.steps(n) <= self._section.max_steps)
        else:
            directives = Directives.model_validate(content)
        recipe = dataclasses.replace(self._recipe, lr=directives.learning_rate, epochs=directives.epochs)
        texts = self._texts(task, directives.families(), tokenizer)[:limit]
        examples = [
            Example(asked + answer, (directives.loss == "all",) * len(asked) + (True,) * len(answer))
            for asked, answer in texts
        ]
        if recipe.steps(len(examples)) > self._section.max_steps:
            steps = f"{recipe.steps(len(examples))} steps for {len(examples)} examples"
            raise Rejected(Failure("over_budget", f"{steps} are over domain.max_steps: {self._section.max_steps}"))
        return examples, recipe

    def questions(self, task: Task) -> Sequence[Question]:
        """Each test input under each of its views."""
        form = self._section.grid_format
        # by what is shown and what is allowed, never by the output: its size is part of what is asked
        side = max(self._section.max_grid, *(p.shown_side() for p in puzzles(task)))
        return [
            Question(
                id=_view_id(test, number),
                prompt=self._prompt(view.puzzle),
                gold=() if view.puzzle.output is None else (write_grid(view.puzzle.output, form),),
                text=f"output of test {test + 1}, {view.symmetry.name}",
                max_tokens=min(self._max_tokens, longest_grid(form, side)),
                stop=() if self._chat else (STOP,),
            )
            for test, shown in enumerate(self._views(task))
            for number, view in enumerate(shown)
        ]

    def verdicts(
        self, task: Task, candidate: str, answers: Sequence[Answer], grader: Grader | None = None
    ) -> Sequence[Verdict]:
        """One verdict for each test input: is one of the two attempts exactly right. No grader is asked."""
        both = zip(puzzles(task), self.attempts(task, answers), strict=True)
        return [_verdict(candidate, test, puzzle, attempts) for test, (puzzle, attempts) in enumerate(both)]

    def attempts(self, task: Task, answers: Sequence[Answer]) -> list[list[Grid] | None]:
        """What the vote makes of the answers to each test input; None where a view has no answer."""
        given: dict[str, list[Answer]] = {}
        for answer in answers:
            given.setdefault(answer.question, []).append(answer)
        outcome: list[list[Grid] | None] = []
        for test, shown in enumerate(self._views(task)):
            ballots = [given.pop(_view_id(test, number), []) for number in range(len(shown))]
            outcome.append(vote(shown, ballots, self._section.grid_format) if all(ballots) else None)
        if given:
            raise ValueError(f"task {task.id} has no question {next(iter(given))!r}")
        return outcome

    def cell_accuracy(self, task: Task, answers: Sequence[Answer]) -> list[float | None]:
        """For each test input the share of right cells in the better attempt: information, never a score."""
        return [
            None
            if attempts is None or puzzle.output is None
            else max((cell_accuracy(puzzle.output, a) for a in attempts), default=0.0)
            for puzzle, attempts in zip(puzzles(task), self.attempts(task, answers), strict=True)
        ]

    @property
    def fixed(self) -> Directives:
        """The directives of the arm that does without the policy: turned and flipped copies, the base recipe."""
        return Directives(
            basic=True,
            size=False,
            chain=False,
            repeat=False,
            loss="output",
            learning_rate=self._recipe.lr,
            epochs=self._recipe.epochs,
        )

    def _views(self, task: Task) -> list[list[View]]:
        return [
            views(puzzle, self._section.views, derive_seed(self._seed, "arc-views", task.id, test))
            for test, puzzle in enumerate(puzzles(task))
        ]

    def _prompt(self, puzzle: Puzzle) -> Prompt:
        text = puzzle_text(puzzle, self._section.grid_format)
        return Prompt(text, system=SYSTEM, chat=True) if self._chat else Prompt(text)

    def _texts(self, task: Task, families: tuple[Family, ...], tokenizer: Tokenizer) -> list[GridText]:
        """The training texts that the families make, as many and as long as is allowed.

        The edits of a task share most of them, and each is asked for when it is planned and when it is tried.
        """
        key = (task.digest, families, id(tokenizer))
        if key in self._made:
            self._made.move_to_end(key)
            return self._made[key][1]
        texts: list[GridText] = []
        shortest = 0
        limit, longest = self._section.max_examples, self._recipe.max_length
        made = training_puzzles(
            puzzles(task)[0].demonstrations,
            families,
            seed=derive_seed(self._seed, "arc-training", task.id),
            max_side=self._section.max_grid,
        )
        for puzzle in islice(made, TRIES * limit):
            text = self._text(puzzle, tokenizer)
            length = len(text[0]) + len(text[1])
            shortest = min(shortest or length, length)
            if length <= longest:
                texts.append(text)
            if len(texts) == limit:
                break
        if not texts:
            why = f"no training example has less than {shortest} tokens; inner.max_length is {longest}"
            raise Rejected(Failure("too_long", why))
        self._made[key] = (tokenizer, texts)  # the tokenizer is kept, so that no other gets its id
        if len(self._made) > KEPT:
            self._made.popitem(last=False)
        return texts

    def _text(self, puzzle: Puzzle, tokenizer: Tokenizer) -> GridText:
        """A puzzle as the questions put it; and its output as the answer, which the end of the text closes."""
        assert puzzle.output is not None, "training puzzles are made of demonstrations"
        output = write_grid(puzzle.output, self._section.grid_format)
        answer = (*text_ids(tokenizer, output), tokenizer.eos_token_id)
        return tuple(render(tokenizer, self._prompt(puzzle))), answer


def build(
    section: ArcDomain,
    *,
    recipe: Recipe,
    answering: AnsweringSection,
    chat: bool,
    seed: int,
    read: Callable[[str], bytes],
) -> Domain:
    """The domain that a configuration asks for. `read` fetches a path or a URI."""
    if recipe.steps(1) > section.max_steps:
        raise ConfigError(
            f"inner.epochs: {recipe.epochs} passes over one example are over domain.max_steps: {section.max_steps}",
            hint="lower the one or raise the other",
        )
    return Arc(section, recipe=recipe, max_tokens=answering.max_tokens, chat=chat, seed=seed, read=read)


def _view_id(test: int, number: int) -> str:
    return f"{test}/v{number}"


def _offered(values: Sequence[float], else_: str) -> str:
    return " or ".join(f"{value:g}" for value in values) if values else else_


def _verdict(candidate: str, test: int, puzzle: Puzzle, attempts: list[Grid] | None) -> Verdict:
    failure = None
    if puzzle.output is None:
        failure = Failure("no_solution", "the task's file holds no solution for this test input")
    elif attempts is None:
        failure = Failure("no_answer", "a view of this test input has no answer", "infra")
    if failure or puzzle.output is None or attempts is None:
        return Verdict(candidate, str(test), GRADER, None, None, failure)
    right = solves(attempts, puzzle.output)
    return Verdict(candidate, str(test), GRADER, right, float(right))
