"""Code: from tasks with tests to prompts, training sets and verdicts. Programs run where `run_on` says, never here."""

from collections.abc import Callable, Sequence
from functools import cached_property

from seal_ray.config import AnsweringSection, CodeDomain
from seal_ray.domains.base import Grader, Rejected, Tokenizer
from seal_ray.domains.code import toy
from seal_ray.domains.code.problems import load, split_tasks
from seal_ray.domains.code.prompts import (
    ASKED,
    TaskLesson,
    edit_prompt,
    lessons_in,
    pick_style,
    program_in,
    question_prompt,
    said,
    stops,
    told,
)
from seal_ray.domains.examples import answered_example, plain_example, read_edit
from seal_ray.errors import InfraError
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
from seal_ray.sandbox import Program, ProgramLimits, ProgramResult, choose, run_programs
from seal_ray.sandbox.choice import WantedIsolation
from seal_ray.text import after_thought

GRADER = "exact"
QUESTION = "program"
LEAST_WAIT = 60.0  # seconds on the wall: a busy machine is not the program's fault
MAX_PROGRAM = 1 << 16  # characters of a program that is run

Execute = Callable[[Sequence[Program], ProgramLimits, WantedIsolation], Sequence[ProgramResult]]


class Code:
    """Tasks with tests, learned from edits about them and asked again; hidden tests say how right a program is."""

    name = "code"

    def __init__(
        self,
        section: CodeDomain,
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
        self._execute: Execute = run_programs

    @cached_property
    def _splits(self) -> dict[Split, list[Task]]:
        section = self._section
        found = load(section, self._read, self._odd.append)
        return split_tasks(found, self._seed, section.validation, section.test)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What was odd in the data, for whoever shows it."""
        _ = self._splits
        return tuple(self._odd)

    def tasks(self, split: Split) -> Sequence[Task]:
        return self._splits[split]

    def regression(self, uri: str) -> Sequence[Task]:
        return load(self._section.model_copy(update={"data": uri}), self._read, lambda odd: None)

    def describe(self, task: Task) -> Description:
        tests = tuple(case.get("code", f"{case.get('args')} -> {case.get('expected')}") for case in task.data["hidden"])
        return Description(task.id, self._told(task), (AskedAs(QUESTION, "a program that passes", tests),))

    def _told(self, task: Task) -> str:
        return told(task.data["prompt"], task.data["shown"])

    # edits

    def edit_request(self, task: Task, slot: int) -> EditRequest:
        style = pick_style(self._section.style, self._section.mixture, self._seed, task.id, slot)
        return EditRequest(Prompt(self._edit_prompt(task, style), chat=self._chat), style=style)

    def _edit_prompt(self, task: Task, style: str) -> str:
        return edit_prompt(style, self._told(task), chat=self._chat, language=self._section.language)

    def parse(self, task: Task, text: str) -> Json | Failure:
        """The edit's text, where there is anything in it to train on. What it holds of programs is never run."""
        own = read_edit(text, (self._edit_prompt(task, style) for style in ASKED))
        if isinstance(own, Failure):
            return own
        if not self._lessons(task, own):
            return Failure("unparsable", "the edit solves none of its tasks")
        return own

    def _lessons(self, task: Task, edit: str) -> list[TaskLesson]:
        section = self._section
        return lessons_in(edit, self._told(task), language=section.language, most=section.max_texts)

    # training

    def training(self, task: Task, content: Json, tokenizer: Tokenizer) -> tuple[list[Example], Recipe]:
        if content is None:
            return [plain_example(self._told(task), tokenizer, self._recipe.max_length)], self._recipe
        if not isinstance(content, str):
            raise Rejected(Failure("unparsable", f"an edit is a text, not a {type(content).__name__}"))
        examples = [self._example(one, tokenizer) for one in self._lessons(task, content)]
        if not examples:
            raise Rejected(Failure("no_text", "nothing to train on is left of the edit"))
        return examples, self._recipe

    def texts(self, task: Task, content: Json) -> Sequence[str]:
        if content is None:
            return [self._told(task)]
        found = self._lessons(task, content) if isinstance(content, str) else []
        return [f"Task: {one.task}\nProgram: {one.text}" if one.task else one.text for one in found]

    def _example(self, one: TaskLesson, tokenizer: Tokenizer) -> Example:
        """A task as it will be asked, which carries no loss, and its program."""
        if not one.task:
            return plain_example(one.text, tokenizer, self._recipe.max_length)
        asked = render(tokenizer, question_prompt(one.task, chat=self._chat, language=self._section.language))
        program = said(one.text, chat=self._chat, language=self._section.language)
        return answered_example(asked, program, tokenizer, self._recipe.max_length)

    # questions and answers

    def questions(self, task: Task) -> Sequence[Question]:
        """The task itself: what training on its edit has changed. A known solution is good for a likelihood."""
        language, solution = self._section.language, task.data["solution"]
        gold = (said(solution.strip("\n"), chat=self._chat, language=language).removeprefix(" "),) if solution else ()
        return [
            Question(
                id=QUESTION,
                prompt=question_prompt(self._told(task), chat=self._chat, language=language),
                gold=gold,
                text=task.data["prompt"],
                max_tokens=self._max_tokens,
                lead=" " if language == "toy" and not self._chat else "",
                stop=stops(self._chat, language),
            )
        ]

    def verdicts(
        self, task: Task, candidate: str, answers: Sequence[Answer], grader: Grader | None = None
    ) -> Sequence[Verdict]:
        """The share of hidden tests passed, as the mean over the answers. No grader is asked."""
        own = [self._program(task, answer.text) for answer in sorted(answers, key=lambda answer: answer.sample)]
        if not own:
            return [_failed(candidate, Failure("no_answer", "the trial has no answer to this question", "infra"))]
        try:
            results = self._run(own)
        except InfraError as error:  # it may work elsewhere or later, and is not recorded
            return [_failed(candidate, Failure("sandbox", str(error), "infra"))]
        if failure := next((r.failure for r in results if r.failure), None):
            return [_failed(candidate, failure)]
        shares = [_share(result) for result in results]
        known = [share for share in shares if share is not None]
        if len(known) < len(shares):
            return [_failed(candidate, Failure("unsupported_tests", "no test of the task can be put to a program"))]
        mean = sum(known) / len(known)
        return [Verdict(candidate, QUESTION, GRADER, sum(s == 1 for s in known) * 2 > len(known), mean, share=mean)]

    def _program(self, task: Task, answer: str) -> Program:
        data, language = task.data, self._section.language
        text = after_thought(answer, ()) if self._chat else answer
        program = program_in(text, language, begun=not self._chat)[:MAX_PROGRAM]
        begun = f"def {data['entry']}("
        if language == "python" and data["entry"] and begun in data["prompt"] and begun not in program:
            program = f"{data['prompt'].rstrip()}\n{program}"  # it goes on where the task's own text ends
        return Program(program, tuple(data["hidden"]), data["setup"], data["entry"])

    def _run(self, programs: Sequence[Program]) -> Sequence[ProgramResult]:
        if self._section.language == "toy":
            return [toy.examine(program) for program in programs]
        return self._execute(programs, self._limits(), self._section.isolation)

    def _limits(self) -> ProgramLimits:
        section = self._section
        return ProgramLimits(
            cpu=section.seconds,
            seconds=LEAST_WAIT + 6 * section.seconds,
            total=LEAST_WAIT + 6 * section.seconds * section.max_tests,
            memory=section.memory_mb << 20,
        )

    def run_on(self, execute: Execute) -> None:
        """From here on programs run there. Refuses where this machine can't keep them apart and that is asked for."""
        if self._section.language == "python":
            choose(self._section.isolation)
            self._execute = execute


def _share(result: ProgramResult) -> float | None:
    """Of the tests that could be put to the program, how many it passes; None where there is none."""
    asked = [case for case in result.cases if case.kind != "unsupported"]
    return sum(case.kind == "passed" for case in asked) / len(asked) if asked else None


def _failed(candidate: str, failure: Failure) -> Verdict:
    return Verdict(candidate, QUESTION, GRADER, None, None, failure)


def build(
    section: CodeDomain,
    *,
    recipe: Recipe,
    answering: AnsweringSection,
    chat: bool,
    seed: int,
    read: Callable[[str], bytes],
) -> Code:
    """The domain that a configuration asks for. `read` fetches a path or a URI."""
    return Code(section, recipe=recipe, max_tokens=answering.max_tokens, chat=chat, seed=seed, read=read)
