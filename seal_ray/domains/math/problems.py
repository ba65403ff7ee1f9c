"""Problems from rows, and tasks from problems: some are shown to whoever writes the edit, their siblings are asked."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from seal_ray.config import MathDomain
from seal_ray.domains.math.expressions import LONGEST
from seal_ray.domains.rows import Row, read_rows
from seal_ray.errors import DataError
from seal_ray.records import Task, derive_seed, digest

SOLUTION_MARK = "####"  # ends the solutions of GSM8K; after it comes the answer


@dataclass(frozen=True)
class MathProblem:
    text: str
    answers: tuple[str, ...]
    group: str = ""
    context: str = ""

    @property
    def name(self) -> tuple[str, str, str]:
        return self.group, self.context, self.text


def load(section: MathDomain, read: Callable[[str], bytes], warn: Callable[[str], None]) -> list[MathProblem]:
    """All problems of a source, each once. One without an answer is left out where answers come from the data."""
    problems: dict[tuple[str, str, str], MathProblem] = {}
    unanswered = twice = too_long = 0
    for row in read_rows(section.data, read, {str(k): v for k, v in section.fields.items()}):
        problem = _problem(row)
        if any(len(answer) > LONGEST for answer in problem.answers):
            too_long += 1
        elif not problem.answers and section.gold == "data":
            unanswered += 1
        elif problem.name in problems:
            twice += 1
        else:
            problems[problem.name] = problem
    if not problems:
        raise DataError(
            f"domain.data: {section.data}: none of {unanswered + too_long} problems has an answer"
            + f" of up to {LONGEST} characters" * bool(too_long),
            hint="name the field in domain.fields: {answer: NAME}, or set domain.gold: majority",
        )
    long = f"have an answer of more than {LONGEST} characters"
    for count, what in ((unanswered, "have no answer"), (too_long, long), (twice, "come twice")):
        if count:
            warn(f"{section.data}: {count} problems {what} and are left out")
    return list(problems.values())


def _problem(row: Row) -> MathProblem:
    answers = [answer.rpartition(SOLUTION_MARK)[2].strip() for answer in row.texts("answer")]
    return MathProblem(
        row.text("problem"),
        tuple(dict.fromkeys(a for a in answers if a)),
        row.text("group", needed=False).strip(),
        row.text("context", needed=False).strip(),
    )


def tasks_of(problems: Sequence[MathProblem], section: MathDomain, seed: int) -> list[Task]:
    """Problems of one group together, so many to a task, each in one task only."""
    groups: dict[tuple[str, str], list[MathProblem]] = {}
    for problem in problems:
        groups.setdefault((problem.group, problem.context), []).append(problem)
    size = section.shown + section.asked
    tasks = []
    for (group, context), own in sorted(groups.items()):
        ranked = sorted(own, key=lambda p: (derive_seed(seed, "problems", p.text), p.text))
        starts = range(0, len(ranked) - section.shown, size)
        tasks += [_task(group, context, ranked[start : start + size], section.shown) for start in starts]
    if not tasks:
        raise DataError(
            f"domain.data: {section.data}: no group has more than domain.shown: {section.shown} problems",
            hint="lower domain.shown, or give more problems of a kind",
        )
    return tasks


def _task(group: str, context: str, problems: Sequence[MathProblem], shown: int) -> Task:
    asked = [{"problem": p.text, "answers": list(p.answers)} for p in problems[shown:]]
    data = {"group": group, "context": context, "shown": [p.text for p in problems[:shown]], "asked": asked}
    return Task(id=f"{_slug(group or context) or 'problems'}-{digest(data)[:10]}", data=data, group=group or context)


def _slug(text: str) -> str:
    return re.sub(r"\W+", "-", text)[:40].strip("-")
