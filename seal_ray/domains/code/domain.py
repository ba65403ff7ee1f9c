"""Code: from tasks with tests to prompts, training sets and verdicts. Programs run where `run_on` says, never here."""

from collections.abc import Callable, Sequence
from typing import Any

from seal_ray.config import CodeDomain
from seal_ray.domains.base import Grader
from seal_ray.domains.code import toy
from seal_ray.domains.code.cases import defined_in
from seal_ray.domains.code.problems import load
from seal_ray.domains.code.prompts import (
    ASKED,
    PROGRAM,
    TASK,
    as_said,
    edit_prompt,
    lessons_in,
    program_in,
    question_prompt,
    stops,
    told,
)
from seal_ray.domains.computed import GRADER, ComputedDomain, Solved
from seal_ray.errors import InfraError
from seal_ray.records import Answer, AskedAs, Description, Failure, Prompt, Question, Task, Verdict
from seal_ray.sandbox import Program, ProgramLimits, ProgramResult, choose, run_programs
from seal_ray.sandbox.choice import WantedIsolation
from seal_ray.sandbox.program import FAULTS_OF_TESTS
from seal_ray.text import after_thought

QUESTION = "program"
LEAST_WAIT = 60.0  # seconds on the wall: a busy machine is not the program's fault
MAX_PROGRAM = 1 << 16  # characters of a program that is run

Execute = Callable[[Sequence[Program], ProgramLimits, WantedIsolation], Sequence[ProgramResult]]


class Code(ComputedDomain):
    """Tasks with tests, learned from edits about them and asked again; hidden tests say how right a program is.

    What an edit holds of programs is trained on and never run.
    """

    name = "code"
    styles = tuple(ASKED)
    unsolved = "the edit solves none of its tasks"

    def __init__(self, section: Any, **settings: Any) -> None:
        super().__init__(section, **settings)
        self._execute: Execute = run_programs

    def _load(self, section: CodeDomain, warn: Callable[[str], None]) -> Sequence[Task]:
        return load(section, self._read, warn)

    def _split_group(self, task: Task) -> str:
        return task.group or task.id

    def describe(self, task: Task) -> Description:
        tests = tuple(case.get("code", f"{case.get('args')} -> {case.get('expected')}") for case in task.data["hidden"])
        return Description(task.id, self._shown(task), (AskedAs(QUESTION, "a program that passes", tests),))

    # edits

    def _edit_prompt(self, task: Task, style: str) -> str:
        return edit_prompt(style, self._shown(task), chat=self._chat, language=self._section.language)

    def _lessons(self, task: Task, edit: str) -> list[Solved]:
        section = self._section
        return lessons_in(edit, self._shown(task), language=section.language, most=section.max_texts)

    # training

    def _shown(self, task: Task) -> str:
        return told(task.data["prompt"], task.data["shown"])

    def _asked(self, problem: str, *, chat: bool) -> Prompt:
        return question_prompt(problem, chat=chat, language=self._section.language)

    def _answered(self, said: str) -> str:
        return as_said(said, chat=self._chat, language=self._section.language)

    def _in_words(self, lesson: Solved) -> str:
        return f"{TASK} {lesson.problem}\n{PROGRAM} {lesson.said}"

    # questions and answers

    def questions(self, task: Task) -> Sequence[Question]:
        """The task itself: what training on its edit has changed. A known solution is good for a likelihood."""
        language, solution = self._section.language, task.data["solution"]
        gold = (self._answered(solution.strip("\n")).removeprefix(" "),) if solution else ()
        return [
            Question(
                id=QUESTION,
                prompt=self._asked(self._shown(task), chat=self._chat),
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
            return [_failed(candidate, _fault_of_tests(results[shares.index(None)]))]
        mean = sum(known) / len(known)
        return [Verdict(candidate, QUESTION, GRADER, sum(s == 1 for s in known) * 2 > len(known), mean, share=mean)]

    def _program(self, task: Task, answer: str) -> Program:
        data, language = task.data, self._section.language
        text = after_thought(answer, ()) if self._chat else answer
        program = program_in(text, language, begun=not self._chat)[:MAX_PROGRAM]
        begun = f"def {data['entry']}("
        if language == "python" and data["entry"] and begun in data["prompt"] and begun not in program:
            program = f"{data['prompt'].rstrip()}\n{program}"  # it goes on where the task's own text ends
        redefines = defined_in(data["solution"]) if language == "python" else ()
        return Program(program, tuple(data["hidden"]), data["setup"], data["entry"], redefines)

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
    asked = [case for case in result.cases if case.kind not in FAULTS_OF_TESTS]
    return sum(case.kind == "passed" for case in asked) / len(asked) if asked else None


def _fault_of_tests(result: ProgramResult) -> Failure:
    case = max(result.cases, key=lambda case: case.kind == "broken_test")
    why = f"no test of the task says anything of a program: {case.message}"
    return Failure(FAULTS_OF_TESTS[case.kind], why)


def _failed(candidate: str, failure: Failure) -> Verdict:
    return Verdict(candidate, QUESTION, GRADER, None, None, failure)


build = Code
