"""Grids and puzzles: small arrays of colours, and the examples that a rule must explain."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from seal_ray.errors import DataError
from seal_ray.records import Json

MAX_SIDE = 30
COLOURS = 10

Grid = npt.NDArray[np.int8]


def grid_of(value: Json, where: str) -> Grid:
    """The grid that JSON holds, or a `DataError` that names the place and what is wrong there."""
    if not isinstance(value, list) or not value or not all(isinstance(row, list) and row for row in value):
        raise DataError(f"{where}: a grid is a list of rows of colours", hint="give at least one row with one cell")
    widths = {len(row) for row in value}
    if len(widths) > 1:
        raise DataError(
            f"{where}: ragged grid, its rows have {', '.join(map(str, sorted(widths)))} cells",
            hint="give every row the same length",
        )
    height, width = len(value), len(value[0])
    if height > MAX_SIDE or width > MAX_SIDE:
        raise DataError(f"{where}: a grid of {height} x {width}", hint=f"no side may be over {MAX_SIDE}")
    for y, row in enumerate(value):
        for x, cell in enumerate(row):
            if not isinstance(cell, int) or isinstance(cell, bool) or not 0 <= cell < COLOURS:
                raise DataError(
                    f"{where}: row {y + 1}, cell {x + 1}: {str(cell)[:40]!r} is not a colour",
                    hint=f"use whole numbers from 0 to {COLOURS - 1}",
                )
    return np.array(value, dtype=np.int8)


def same(a: Grid, b: Grid) -> bool:
    return a.shape == b.shape and bool((a == b).all())


def cell_accuracy(gold: Grid, attempt: Grid | None) -> float:
    """Share of cells that are right; 0 where the attempt is no grid or has another shape."""
    if attempt is None or attempt.shape != gold.shape:
        return 0.0
    return float((attempt == gold).mean())


@dataclass(frozen=True, eq=False)
class Pair:
    """An input grid and the output grid that the rule makes of it."""

    input: Grid
    output: Grid


@dataclass(frozen=True, eq=False)
class Puzzle:
    """Demonstrations of a rule, the input that is asked about, and its output where that is known."""

    demonstrations: tuple[Pair, ...]
    input: Grid
    output: Grid | None = None

    def grids(self) -> list[Grid]:
        """Every grid of the puzzle, in the order in which it is written."""
        pairs = [grid for pair in self.demonstrations for grid in (pair.input, pair.output)]
        return [*pairs, self.input] if self.output is None else [*pairs, self.input, self.output]

    def key(self) -> tuple[tuple[tuple[int, ...], bytes], ...]:
        """What makes two puzzles the same."""
        return tuple((grid.shape, grid.tobytes()) for grid in self.grids())

    def outputs(self) -> list[Grid]:
        """Every output that is known."""
        pairs = [pair.output for pair in self.demonstrations]
        return pairs if self.output is None else [*pairs, self.output]

    def side(self) -> int:
        """The longest side of any grid."""
        return max(max(grid.shape) for grid in self.grids())

    def shown_side(self) -> int:
        """The longest side of any grid but the output that is asked for."""
        return Puzzle(self.demonstrations, self.input).side()
