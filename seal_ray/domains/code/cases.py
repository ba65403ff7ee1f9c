"""Tests as data sets have them, as cases of a sandbox: assertions, a `check(candidate)`, inputs and outputs."""

import ast
from dataclasses import dataclass

from seal_ray.domains.rows import Row
from seal_ray.records import Json, canonical

LARGEST = 200_000  # characters of a test that are parsed; longer ones are taken as they are


@dataclass(frozen=True)
class Tests:
    """The cases of a task in their order, and what is run before each."""

    cases: tuple[Json, ...]
    setup: str = ""


def read_tests(row: Row, entry: str) -> Tests:
    value = row.get("tests")
    before = "\n".join(row.texts("setup"))
    _recordable(row, value)
    if isinstance(value, str):
        return _checked(value, entry, before, row)
    if not isinstance(value, (list, tuple)):
        row.refuse("tests", "is missing" if value is None else f"is a {type(value).__name__}", "give a list of tests")
    return Tests(tuple(_case(row, one, entry) for one in value), before)


def _recordable(row: Row, value: Json) -> None:
    try:
        canonical(value).encode()
    except (ValueError, RecursionError) as error:
        reason = str(error).split(": ")[-1][:100] or "it is nested too deeply"
        row.refuse("tests", f"holds what no record can hold ({reason})", "give plain values: texts and finite numbers")


def _case(row: Row, one: Json, entry: str) -> Json:
    if isinstance(one, str):
        return {"code": one}
    if not isinstance(one, dict):
        row.refuse("tests", f"holds a {type(one).__name__}", "give assertions, or objects {args, expected}")
    args, expected = one.get("args", one.get("input")), one.get("expected", one.get("output"))
    if args is None or ("expected" not in one and "output" not in one):
        row.refuse("tests", "holds a test without args and expected", "write {args: [...], expected: VALUE}")
    if not entry:
        row.refuse("entry", "is missing", "tests of inputs and outputs need the name of the function that is called")
    return {"args": list(args) if isinstance(args, (list, tuple)) else [args], "expected": expected}


def _checked(text: str, entry: str, before: str, row: Row) -> Tests:
    """HumanEval's form: a function `check(candidate)`; its assertions are cases where nothing else is in it."""
    if not entry:
        row.refuse("entry", "is missing", "a text of tests defines check(candidate); name the function that it checks")
    whole = Tests(({"code": f"check({entry})"},), f"{before}\n{text}")
    if len(text) > LARGEST:
        return whole
    try:
        return _one_by_one(text, entry, before) or whole
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return whole  # it fails each program by its own kind


def _one_by_one(text: str, entry: str, before: str) -> Tests | None:
    """The assertions of `check` as cases; None where there is more in it than assertions."""
    module = ast.parse(text)
    checks = [node for node in module.body if isinstance(node, ast.FunctionDef) and node.name == "check"]
    if len(checks) != 1 or len(checks[0].args.args) != 1:
        return None
    asserted = [node for node in checks[0].body if isinstance(node, ast.Assert)]
    others = [n for n in checks[0].body if not isinstance(n, ast.Assert) and not _idle(n)]
    if others or not asserted:
        return None
    rest = [node for node in module.body if node is not checks[0]]
    name = checks[0].args.args[0].arg
    setup = "\n".join([before, *(ast.unparse(node) for node in rest)])
    return Tests(tuple({"code": f"{name} = {entry}\n{ast.unparse(one)}"} for one in asserted), setup)


def _idle(node: ast.stmt) -> bool:
    return isinstance(node, ast.Pass) or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))


def defined_in(program: str) -> tuple[str, ...]:
    """The functions and classes of a program, where it is Python."""
    try:
        module = ast.parse(program[:LARGEST])
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return ()
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    return tuple(node.name for node in module.body if isinstance(node, kinds))
