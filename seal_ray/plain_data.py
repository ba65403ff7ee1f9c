"""Records as JSON values and back, and the name of a value's content.

Standard library only. What a type asks for is looked up once and not once for each value: a ledger of ten thousand
trials opens in a second.
"""

import dataclasses
import functools
import hashlib
import json
import math
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeVar

T = TypeVar("T")
LARGEST = 1 << 1000  # a whole number that a float can hold
DEEPEST = 200  # levels
Json = Any  # str, int, float, bool, None, list or dict of these
Read = Callable[[Json], Any]


def encode(value: Any, depth: int = 0) -> Json:
    """A record as JSON values. Numbers that JSON lacks (NaN, infinity) are refused: they are failures, not data.

    So is what is nested so deeply that it could be written here and not be read where more calls are open.
    """
    kind = type(value)
    if kind is str or kind is int or value is None or kind is bool:  # what most values are
        return value
    if depth > DEEPEST:
        raise ValueError(f"nested more than {DEEPEST} levels deep")
    if kind is dict:
        return {k if type(k) is str else str(k): encode(v, depth + 1) for k, v in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: encode(getattr(value, f.name), depth + 1) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(k): encode(v, depth + 1) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [encode(v, depth + 1) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{value} can't be kept in a ledger")
    if value is None or isinstance(value, (str, int, float)):
        return value
    raise TypeError(f"{type(value).__name__} is not plain data")


def decode(cls: type[T], data: Json) -> T:
    """The record of type `cls` that `encode` made `data` from. Keys it does not know are refused."""
    try:
        return _reader(cls)(data)
    except Misfit as misfit:
        raise ValueError(f"{cls.__name__}{misfit.where}: {misfit.reason}") from None


def canonical(value: Any) -> str:
    """The one JSON text of a value: sorted keys, no spaces, no NaN."""
    return json.dumps(encode(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def digest(value: Any) -> str:
    """The name of a value's content: SHA-256 of its canonical JSON."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()


# how each type is read


class Misfit(Exception):
    """A value is not what its type asks for; `where` grows on the way out."""

    def __init__(self, reason: str, where: str = "") -> None:
        self.reason, self.where = reason, where


@functools.cache
def _reader(kind: Any) -> Read:
    if kind is Any:
        return lambda value: value
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return _optional(_reader(next(a for a in args if a is not type(None))), type(None) in args)
    if origin is Literal:
        return _one_of(args)
    if origin is tuple:
        return _list(args[0]) if len(args) == 2 and args[1] is Ellipsis else _row(args)
    if dataclasses.is_dataclass(kind):
        return _record(typing.cast(type, kind))
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return _exactly(dict, "an object")
    if kind is float:
        return _float
    return _exactly(kind, kind.__name__)


def _expected(what: str, value: Json) -> Misfit:
    return Misfit(f"expected {what}, found {type(value).__name__}")


def _exactly(cls: type, name: str) -> Read:
    def read(value: Json) -> Any:
        if type(value) is not cls:
            raise _expected(name, value)
        return value

    return read


def _float(value: Json) -> float:
    if type(value) is float and math.isfinite(value):
        return value
    if type(value) is int and abs(value) < LARGEST:
        return float(value)
    raise _expected("float", value)


def _optional(inner: Read, may_lack: bool) -> Read:
    return lambda value: None if value is None and may_lack else inner(value)


def _one_of(values: tuple[Any, ...]) -> Read:
    def read(value: Json) -> Any:
        if value not in values:
            raise Misfit(f"{value!r} is none of {', '.join(map(repr, values))}")
        return value

    return read


def _list(kind: Any) -> Read:
    inner = _reader(kind)
    plain = kind if kind in (int, str, float) else None

    def read(value: Json) -> tuple[Any, ...]:
        if type(value) is not list:
            raise _expected("a list", value)
        if plain and all(type(v) is plain for v in value) and (plain is not float or math.isfinite(sum(value))):
            return tuple(value)
        return tuple([_within(f"[{i}]", inner, v) for i, v in enumerate(value)])

    return read


def _row(kinds: tuple[Any, ...]) -> Read:
    inner = [_reader(kind) for kind in kinds]

    def read(value: Json) -> tuple[Any, ...]:
        if type(value) is not list:
            raise _expected("a list", value)
        if len(value) != len(inner):
            raise Misfit(f"expected {len(inner)} values, found {len(value)}")
        return tuple([_within(f"[{i}]", r, v) for i, (r, v) in enumerate(zip(inner, value, strict=True))])

    return read


def _within(place: str, inner: Read, value: Json) -> Any:
    try:
        return inner(value)
    except Misfit as misfit:
        misfit.where = place + misfit.where
        raise


def _record(cls: type) -> Read:
    hints = typing.get_type_hints(cls)
    readers = {f.name: _reader(hints[f.name]) for f in dataclasses.fields(cls)}
    # without a check of its own, a record that has every field can be filled directly
    plain = not hasattr(cls, "__post_init__")

    def read(data: Json) -> Any:
        if type(data) is not dict:
            raise _expected("an object", data)
        if unknown := data.keys() - readers.keys():
            raise Misfit(f"unknown {', '.join(sorted(unknown))}")
        fields: dict[str, Any] = {}
        name = ""
        try:
            for name, value in data.items():
                fields[name] = readers[name](value)
        except Misfit as misfit:
            misfit.where = f".{name}{misfit.where}"
            raise
        if plain and len(fields) == len(readers):
            record = object.__new__(cls)
            record.__dict__.update(fields)
            return record
        try:
            return cls(**fields)
        except (TypeError, AssertionError) as error:
            raise Misfit(str(error)) from None

    return read
