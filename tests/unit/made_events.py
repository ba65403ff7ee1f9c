"""Events for the tests of their readers: what is not named is zero, empty, or the first of what it may be."""

import dataclasses
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal, TypeVar

from seal_ray.events import Event

E = TypeVar("E", bound=Event)


def make(kind: type[E], round: int = 0, time: float = 0.0, /, **fields: Any) -> E:
    hints = typing.get_type_hints(kind)
    open_ = {f.name for f in dataclasses.fields(kind) if f.default is dataclasses.MISSING}
    return kind(**{n: _nothing(hints[n]) for n in open_ - fields.keys()}, **fields, round=round, time=time)


def _nothing(hint: Any) -> Any:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return None
    if origin is Literal:
        return args[0]
    if origin is tuple:
        return ()
    return {} if isinstance(origin, type) and issubclass(origin, Mapping) else hint()
