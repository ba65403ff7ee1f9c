"""Tasks from rows: a text, tests of which the first may be shown, and the rest hidden."""

import re
from collections.abc import Callable, Sequence

from seal_ray.config import CodeDomain
from seal_ray.domains.code import toy
from seal_ray.domains.code.cases import read_tests
from seal_ray.domains.rows import Row, read_rows
from seal_ray.errors import DataError
from seal_ray.records import Json, Task, digest


def load(section: CodeDomain, read: Callable[[str], bytes], warn: Callable[[str], None]) -> list[Task]:
    """All tasks of a source, each once. One whose tests are all shown, or that has none, is left out."""
    tasks: dict[str, Task] = {}
    untested = twice = 0
    for row in read_rows(section.data, read, {str(k): v for k, v in section.fields.items()}):
        data = _data(row, section)
        if not data["hidden"]:
            untested += 1
            continue
        task = Task(id=_id(row, data), data=data, group=row.text("group", needed=False))
        twice += task.id in tasks
        tasks.setdefault(task.id, task)
    if not tasks:
        raise DataError(
            f"domain.data: {section.data}: none of {untested} tasks has a test that is not shown",
            hint="name the field in domain.fields: {tests: NAME}, or lower domain.shown_tests",
        )
    for count, what in ((untested, "have no hidden test"), (twice, "come twice")):
        if count:
            warn(f"{section.data}: {count} tasks {what} and are left out")
    return list(tasks.values())


def _data(row: Row, section: CodeDomain) -> dict[str, Json]:
    entry = row.text("entry", needed=False).strip()
    entry = entry or ("run" if section.language == "toy" else "")
    if entry and not entry.isidentifier():
        row.refuse("entry", f"is {entry[:40]!r}", "give the name of a function")
    tests = read_tests(row, entry)
    if section.language == "toy":
        _fit_for_toy(row, tests.cases)
    return {
        "prompt": row.text("prompt"),
        "entry": entry,
        "setup": tests.setup,
        "shown": list(tests.cases[: section.shown_tests]),
        "hidden": list(tests.cases[section.shown_tests :][: section.max_tests]),
        "solution": row.text("solution", needed=False),
    }


def _fit_for_toy(row: Row, cases: Sequence[Json]) -> None:
    for case in cases:
        args = case.get("args")
        if not (args and len(args) == 1 and toy.is_digits(args[0]) and toy.is_digits(case.get("expected"))):
            row.refuse(
                "tests", "holds a test that is none of the toy language", "give one list of digits, and one back"
            )


def _id(row: Row, data: dict[str, Json]) -> str:
    name = row.get("id")
    slug = re.sub(r"\W+", "-", str(name if isinstance(name, (str, int)) else data["entry"] or "task"))[:40].strip("-")
    return f"{slug}-{digest([data['prompt'], data['hidden']])[:8]}"
