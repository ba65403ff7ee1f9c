"""Values between a test and a solution, as JSON: plain values only, so that none can act for the side that wrote it."""

import itertools
from collections.abc import Callable, Iterator
from typing import Any

EXACT = 1 << 53  # integers below it are JSON's own
MOST_DRAWN = 100_000  # items of an iterator that are looked at


class Unsendable(Exception):
    """A value that is not made of plain ones."""


class Handle:
    """A value that stays on the solution's side: it can be handed back to it, and equals nothing."""

    def __init__(self, number: int) -> None:
        self.number = number


def encode(value: Any, keep: Callable[[Any], int] | None = None) -> Any:
    """`keep` gives a number to what can't be sent; without it, that is refused."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return str(value)
    if isinstance(value, int):
        return int(value) if abs(value) < EXACT else {"i": hex(value)}
    if isinstance(value, float):
        return {"f": float(value).hex()}
    if isinstance(value, complex):
        return {"c": [value.real.hex(), value.imag.hex()]}
    if isinstance(value, (bytes, bytearray)):
        return {"y" if isinstance(value, bytes) else "a": bytes(value).hex()}
    if isinstance(value, dict):
        return {"d": [[encode(k, keep), encode(v, keep)] for k, v in value.items()]}
    for mark, kind in (("l", list), ("t", tuple), ("s", set), ("z", frozenset)):
        if isinstance(value, kind):
            return {mark: [encode(item, keep) for item in value]}
    if isinstance(value, Iterator):
        return {"g": [encode(item, keep) for item in itertools.islice(value, MOST_DRAWN)]}
    if isinstance(value, range):
        return {"r": [value.start, value.stop, value.step]}
    if isinstance(value, Handle):
        return {"o": value.number}
    if keep is None:
        raise Unsendable(f"a {type(value).__name__} can't be sent to the solution")
    return {"o": keep(value)}


def decode(value: Any, kept: Callable[[int], Any] = Handle) -> Any:
    """What `encode` was given; raises for anything that it never makes."""
    if value is None or isinstance(value, (bool, int, str)):
        return value
    (mark, held), *more = value.items()
    if more:
        raise ValueError("a value has one mark")
    if mark in _SIMPLE:
        return _SIMPLE[mark](held)
    if mark == "o":
        return kept(int(held))
    if mark == "d":
        return {decode(k, kept): decode(v, kept) for k, v in held}
    return _GATHERED[mark](decode(item, kept) for item in held)


_SIMPLE: dict[str, Callable[[Any], Any]] = {
    "i": lambda text: int(text, 16),
    "f": float.fromhex,
    "c": lambda parts: complex(*map(float.fromhex, parts)),
    "y": bytes.fromhex,
    "a": bytearray.fromhex,
    "r": lambda parts: range(*parts),
}
_GATHERED: dict[str, Callable[[Any], Any]] = {
    "l": list,
    "t": tuple,
    "s": set,
    "z": frozenset,
    "g": lambda items: iter(list(items)),
}
