"""A domain over rows that a test writes down, all of them for training unless it says otherwise."""

import json
from collections.abc import Callable, Sequence
from typing import Any

from seal_ray.config import AnsweringSection
from seal_ray.records import Recipe


def made_of(
    build: Callable[..., Any],
    section: Callable[..., Any],
    rows: Sequence[Any],
    *,
    chat: bool = False,
    recipe: Recipe | None = None,
    **settings: Any,
) -> Any:
    text = "\n".join(json.dumps(row) for row in rows)
    made = build(
        section(**{"data": "data", "validation": 0, "test": 0, **settings}),
        recipe=recipe or Recipe(),
        answering=AnsweringSection(max_tokens=64),
        chat=chat,
        seed=7,
        read=lambda uri: text.encode(),
    )
    made.tasks("train")
    return made
