"""Every field of a file, misspelt one at a time: whoever checks the file must find each."""

import copy
from collections.abc import Iterator
from typing import Any


def paths(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every key of a tree, as the way to it. What stands below a map of names that its user chooses is left out."""
    if isinstance(value, dict):
        for key, below in value.items():
            yield (*at, key)
            if key not in {"labels", "annotations", "nodeSelector", "rayStartParams", "requests", "limits", "metadata"}:
                yield from paths(below, (*at, key))
    elif isinstance(value, list):
        for i, below in enumerate(value):
            yield from paths(below, (*at, i))


def misspelt(manifest: Any, at: tuple[Any, ...]) -> Any:
    out = copy.deepcopy(manifest)
    *way, key = at
    below = out
    for step in way:
        below = below[step]
    below[f"{key}x"] = below.pop(key)
    return out
