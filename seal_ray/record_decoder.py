"""Many records from JSON, fast: the work of looking at types is done once for a class, not once for a value.

Gives what `records.decode` gives and refuses what it refuses; a ledger of ten thousand trials opens in a second.
"""

import dataclasses
import functools
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeVar

from seal_ray.records import decode

T = TypeVar("T")
Read = Callable[[Any], Any]


class Unexpected(Exception):
    """Not what the type promises: let `records.decode` say what is wrong."""


def decoder(cls: type[T]) -> Callable[[Any], T]:
    """A function from JSON values to records of that class."""
    read = _reader(cls)

    def one(data: Any) -> T:
        try:
            return read(data)
        except (Unexpected, TypeError):
            return decode(cls, data)

    return one


@functools.cache
def _reader(kind: Any) -> Read:
    if kind is Any:
        return _same
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        inner = _reader(next(a for a in args if a is not type(None)))
        return lambda v: None if v is None else inner(v)
    if origin is Literal:
        return _checked(args.__contains__)
    if origin is tuple and len(args) == 2 and args[1] is Ellipsis:
        return _tuple(args[0])
    if dataclasses.is_dataclass(kind):
        return _record(typing.cast(type, kind))
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return _checked(lambda v: type(v) is dict)
    if kind is float:
        return _float
    if kind in (int, str, bool):
        return _checked(lambda v: type(v) is kind)
    return lambda v: decode(kind, v)


def _same(value: Any) -> Any:
    return value


def _float(value: Any) -> float:
    if type(value) is float:
        return value
    if type(value) is int:
        return float(value)
    raise Unexpected


def _checked(holds: Callable[[Any], bool]) -> Read:
    def read(value: Any) -> Any:
        if not holds(value):
            raise Unexpected
        return value

    return read


def _tuple(kind: Any) -> Read:
    inner = _reader(kind)

    def read(value: Any) -> tuple[Any, ...]:
        if type(value) is not list:
            raise Unexpected
        if kind in (int, str, float) and all(type(v) is kind for v in value):
            return tuple(value)
        return tuple([inner(v) for v in value])

    return read


def _record(cls: type) -> Read:
    hints = typing.get_type_hints(cls)
    readers = {f.name: _reader(hints[f.name]) for f in dataclasses.fields(cls)}
    whole = len(readers)
    plain = not hasattr(cls, "__post_init__")

    def read(data: Any) -> Any:
        if type(data) is not dict:
            raise Unexpected
        if plain and len(data) == whole:
            # every field is there and no other: the record can be filled directly
            record = object.__new__(cls)
            fields = record.__dict__
            for name, reader in readers.items():
                if name not in data:
                    raise Unexpected
                fields[name] = reader(data[name])
            return record
        if not data.keys() <= readers.keys():
            raise Unexpected
        return cls(**{name: readers[name](value) for name, value in data.items()})

    return read
