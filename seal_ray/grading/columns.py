"""What a round measured, task by task and edit by repeat: one table for each measure."""

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from seal_ray.config import GradingSection
from seal_ray.grading.measure import Measured
from seal_ray.grading.variance import Table, Variance, task_noise
from seal_ray.records import Estimate

Value = Callable[[Measured], float | None]


@dataclass(frozen=True)
class Column:
    """One measure of one task: the baseline, the context alone, and every edit by repeat."""

    base: float | None
    context: float | None
    table: Table


def columns_by_measure(
    measured: Sequence[Measured], section: GradingSection, scale: float, *, voted: bool
) -> dict[str, dict[str, Column]]:
    """By measure and task. The contrast is left out where the domain takes no wrong answers. `scale`: see `unit`."""
    blended, alone = _blended(section), _without_wrong_answers(section, measured)
    values: dict[str, Value] = {
        "accuracy": lambda m: m.accuracy,
        "likelihood": _of_likelihood,
        "contrast": _of_contrast,
        "blend": lambda m: m.accuracy if m.task in alone else _blend(m.accuracy, blended(m), section.blend, scale),
    }
    if voted:
        values["vote"] = lambda m: m.vote
    columns = {name: _columns(measured, value) for name, value in values.items()}
    if not columns["contrast"]:
        del columns["contrast"]
    return columns


def _columns(measured: Sequence[Measured], of: Value) -> dict[str, Column]:
    base: dict[str, list[float]] = defaultdict(list)
    context: dict[str, list[float]] = defaultdict(list)
    tables: dict[str, dict[str, dict[int, float]]] = {m.task: {} for m in measured}
    for m in measured:
        value = of(m)
        if value is None:
            continue
        if m.kind == "baseline":
            base[m.task].append(value)
        elif m.kind == "context":
            context[m.task].append(value)
        elif m.kind == "edit" and m.edit is not None:
            tables[m.task].setdefault(m.edit, {})[m.repeat] = value
    return {
        task: Column(_mean(base[task]), _mean(context[task]), dict(sorted(table.items())))
        for task, table in sorted(tables.items())
        if table or base[task] or context[task]
    }


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _of_likelihood(m: Measured) -> float | None:
    return m.likelihood


def _of_contrast(m: Measured) -> float | None:
    return m.contrast


def _blend(accuracy: float | None, other: float | None, share: float, scale: float) -> float | None:
    if accuracy is None or other is None:
        return None
    return (1 - share) * accuracy + share * scale * other


def _blended(section: GradingSection) -> Value:
    return _of_contrast if section.blend_of == "contrast" else _of_likelihood


def _without_wrong_answers(section: GradingSection, measured: Sequence[Measured]) -> set[str]:
    """With a contrast to blend: tasks without wrong answers among others that have some; accuracy alone tells their
    edits apart. Where none has any there is no blend, and rewards are made of accuracy.
    """
    having = {m.task for m in measured if m.contrast is not None}
    return {m.task for m in measured} - having if having and section.blend_of == "contrast" else set()


def unit(measured: Sequence[Measured], section: GradingSection) -> float | None:
    """What puts the other part of a blend on accuracy's scale: the ratio of their spreads over a task's trials. None
    where one of them has no spread.
    """
    spreads = []
    alone = _without_wrong_answers(section, measured)
    measured = [m for m in measured if m.task not in alone]
    for of in (lambda m: m.accuracy, _blended(section)):
        squares, freedom = 0.0, 0
        for column in _columns(measured, of).values():
            values = [y for row in column.table.values() for y in row.values()]
            if values:
                middle = sum(values) / len(values)
                squares += sum((y - middle) ** 2 for y in values)
                freedom += len(values) - 1
        spreads.append(math.sqrt(squares / freedom) if freedom else 0.0)
    return spreads[0] / spreads[1] if spreads[0] > 0 and spreads[1] > 0 else None


def plain(column: Column | None, edit: str, pooled: Variance | None) -> Estimate | None:
    """What a measure says of an edit itself, without the baseline."""
    row = column.table.get(edit) if column else None
    if not column or not row:
        return None
    mean = sum(row.values()) / len(row)
    noise = task_noise(column.table, pooled) + pooled.shared if pooled else 0.0
    return Estimate(mean, math.sqrt(noise / len(row)), len(row))
