"""How lessons become rows and rows are dealt to workers, so that what is learned does not depend on their number.

A step learns from one global batch. Its lessons are packed into rows of at most `limit` tokens; every worker takes the
same number of rows (an empty one where they don't divide), because all workers must meet in every forward.
"""

import json
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from seal_ray.errors import DataError
from seal_ray.policy.lessons import Lesson
from seal_ray.records import derive_seed

Rows = list[list[list[int]]]  # [micro-step][worker] -> positions of the lessons in that row


@dataclass(frozen=True)
class LeftOut:
    """A lesson that is not learned from, and why."""

    edit: str
    task: str
    reason: str


def fitting(
    lessons: Sequence[Lesson], of_text: dict[str, int], of_row: dict[str, int], vocabulary: int
) -> tuple[list[Lesson], list[LeftOut]]:
    """The lessons that a row can hold. The limits are tokens by the name of what sets them: a row holds both texts of a
    pair, and each has positions of its own.
    """
    kept, left = [], []
    for lesson in lessons:
        highest = max(max(t.prompt_ids + t.ids) for t in lesson.texts)
        longest = max(t.tokens for t in lesson.texts)
        broken = [(limit, name, longest) for name, limit in of_text.items() if longest > limit]
        broken += [(limit, name, lesson.tokens) for name, limit in of_row.items() if lesson.tokens > limit]
        if broken:
            limit, name, tokens = min(broken)
            left.append(LeftOut(lesson.edit, lesson.task, f"{tokens} tokens, and {name} is {limit}"))
        elif highest >= vocabulary:
            left.append(LeftOut(lesson.edit, lesson.task, f"token {highest} is not in the vocabulary of {vocabulary}"))
        else:
            kept.append(lesson)
    return kept, left


def vocabulary(base: str) -> tuple[int, int]:
    """Size of the vocabulary and the longest text that a model was made for."""
    config = json.loads((Path(base) / "config.json").read_text(encoding="utf-8"))
    config = config.get("text_config", config)
    try:
        return int(config["vocab_size"]), int(config.get("max_position_embeddings") or 1_000_000)
    except KeyError:
        raise DataError(f"{base}: config.json does not say vocab_size", hint="name another model") from None


def hold_back(lessons: Sequence[Lesson], share: float, seed: int) -> tuple[list[Lesson], list[Lesson]]:
    """Lessons to train on and lessons to validate on. No task is on both sides, and a task is never split."""
    tasks = sorted({lesson.task for lesson in lessons}, key=lambda t: derive_seed(seed, "validation", t))
    count = min(round(share * len(tasks)) or (1 if share else 0), len(tasks) - 1)
    held = set(tasks[: max(count, 0)])
    return [x for x in lessons if x.task not in held], [x for x in lessons if x.task in held]


def batches(count: int, epochs: int, global_batch: int, seed: int) -> list[list[int]]:
    """The lessons of every optimiser step: a new order each epoch, and a short last batch still makes a step."""
    out = []
    for epoch in range(epochs):
        order = list(range(count))
        random.Random(derive_seed(seed, "order", epoch)).shuffle(order)
        out += [order[i : i + global_batch] for i in range(0, count, global_batch)]
    return out


def deal(batch: Sequence[int], tokens: Sequence[int], limit: int, workers: int) -> Rows:
    """The rows of one batch for every worker, of like length: the longest lesson first, into the emptiest row."""
    total = sum(tokens[i] for i in batch)
    count = math.ceil(max(math.ceil(total / limit), 1) / workers) * workers
    while True:
        rows: list[list[int]] = [[] for _ in range(count)]
        filled = [0] * count
        for i in sorted(batch, key=lambda i: (-tokens[i], i)):
            row = min(range(count), key=lambda r: (filled[r], r))
            rows[row].append(i)
            filled[row] += tokens[i]
        if max(filled) <= limit or all(len(r) <= 1 for r in rows):
            return [rows[i : i + workers] for i in range(0, count, workers)]
        count += workers
