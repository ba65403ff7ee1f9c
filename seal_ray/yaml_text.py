"""YAML that a person wrote, read strictly: no key twice, no bombs, and every error a `YamlProblem` with its line."""

from typing import Any

import yaml

from seal_ray.text import first_line

MOST_VALUES = 50_000  # in one document, each use of an alias counted
DEEPEST = 50  # levels; the parser in C recurses without looking at its stack

PLAIN = {"str", "int", "float", "bool", "null", "seq", "map"}

Key = tuple[str | int, ...]


class YamlProblem(ValueError):
    """What is wrong, and in which line (counted from 1; 0: nowhere in particular)."""

    def __init__(self, problem: str, line: int = 0) -> None:
        super().__init__(problem)
        self.problem, self.line = problem, line


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """Safe types only, and a date is a text: nothing here wants one, and the 45th of a 13th month is none."""

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep=deep)
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
            raise YamlProblem(f"{str(node.value)[:40]!r} is no {_kind(node)}", _line(node)) from error


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def read_yaml(text: str) -> tuple[Any, dict[Key, int]]:
    """The one document of a text, and the line of every key and item in it. Raises `YamlProblem`."""
    try:
        _bounded(text)
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            lines = _lines(node)
            return (None if node is None else loader.construct_document(node)), lines
        finally:
            loader.dispose()
    except YamlProblem:
        raise
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or getattr(error, "reason", None) or str(error)
        raise YamlProblem(first_line(problem), mark.line + 1 if mark else 0) from None
    except (ValueError, RecursionError) as error:  # a character that C's parser can't be given, for one
        raise YamlProblem(f"it can't be read ({type(error).__name__})") from None


def _bounded(text: str) -> None:
    """Refuse a text of too many values or levels before anything recurses into it."""
    depth = 0
    for number, event in enumerate(yaml.parse(text, Loader=_Loader)):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > DEEPEST:
            raise YamlProblem(f"it is nested more than {DEEPEST} levels deep", _line(event))
        if number > 2 * MOST_VALUES:
            raise YamlProblem(f"it holds more than {MOST_VALUES} values")


def _lines(root: Any) -> dict[Key, int]:
    """The line of every key and item; raises where a key is none, comes twice, or aliases multiply without end."""
    lines: dict[Key, int] = {}
    visited = 0

    def visit(node: Any, prefix: Key) -> None:
        nonlocal visited
        visited += 1
        if len(prefix) > DEEPEST or visited > MOST_VALUES:
            raise YamlProblem("its aliases make it too large", _line(node))
        if node is not None and _kind(node) not in PLAIN:
            raise YamlProblem(f"a {_kind(node)} is no plain value", _line(node))
        if isinstance(node, yaml.MappingNode):
            keys: set[str] = set()
            for key, value in node.value:
                name = _name(key)
                if name in keys:
                    raise YamlProblem(f"the key {name[:80]} is given twice", _line(key))
                keys.add(name)
                lines[(*prefix, name)] = _line(key)
                visit(value, (*prefix, name))
        elif isinstance(node, yaml.SequenceNode):
            for i, value in enumerate(node.value):
                lines[(*prefix, i)] = _line(value)
                visit(value, (*prefix, i))

    visit(root, ())
    return lines


def _name(key: Any) -> str:
    if not isinstance(key, yaml.ScalarNode) or _kind(key) not in {"str", "merge"}:
        raise YamlProblem(f"a key must be a plain word, not a {_kind(key)}", _line(key))
    return key.value


def _kind(node: Any) -> str:
    return str(node.tag).removeprefix("tag:yaml.org,2002:")[:40]


def _line(node: Any) -> int:
    mark = getattr(node, "start_mark", None)
    return mark.line + 1 if mark else 0
