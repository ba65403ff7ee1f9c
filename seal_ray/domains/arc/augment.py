"""Augmentations: other puzzles with the same kind of rule, each with the exact way back.

An augmentation changes every grid of a puzzle in the same manner, so the examples stay consistent. `inverse` gives
the grid that `forward` started from, and raises ValueError for a grid that no grid could have become.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from seal_ray.domains.arc.grids import COLOURS, Grid, Pair, Puzzle, same

Family = Literal["basic", "size", "chain", "repeat"]
FAMILIES: tuple[Family, ...] = get_args(Family)
MAX_SHIFT = 4


@dataclass(frozen=True)
class Augmentation:
    """One way to change a grid, and the way back."""

    name: str
    forward: Callable[[Grid], Grid]
    back: Callable[[Grid], Grid]  # right only for what `forward` made

    def inverse(self, grid: Grid) -> Grid:
        undone = self.back(grid)
        if not undone.size or not same(self.forward(undone), grid):
            raise ValueError(f"no grid becomes this {grid.shape[0]} x {grid.shape[1]} grid by {self.name}")
        return undone

    def puzzle(self, puzzle: Puzzle) -> Puzzle:
        """The puzzle with every grid changed."""
        pairs = tuple(Pair(self.forward(p.input), self.forward(p.output)) for p in puzzle.demonstrations)
        output = None if puzzle.output is None else self.forward(puzzle.output)
        return Puzzle(pairs, self.forward(puzzle.input), output)


IDENTITY = Augmentation("identity", lambda g: g, lambda g: g)
SYMMETRIES: tuple[Augmentation, ...] = (
    IDENTITY,
    Augmentation("transpose", lambda g: g.T, lambda g: g.T),
    Augmentation("flip across", lambda g: g[:, ::-1], lambda g: g[:, ::-1]),
    Augmentation("flip down", lambda g: g[::-1], lambda g: g[::-1]),
    Augmentation("turn 180", lambda g: g[::-1, ::-1], lambda g: g[::-1, ::-1]),
    Augmentation("turn 90", lambda g: np.rot90(g), lambda g: np.rot90(g, -1)),
    Augmentation("turn 270", lambda g: np.rot90(g, -1), lambda g: np.rot90(g)),
    Augmentation("other transpose", lambda g: g[::-1, ::-1].T, lambda g: g[::-1, ::-1].T),
)


def translation(down: int, across: int) -> Augmentation:
    """What leaves on one side comes in on the other, so nothing is lost."""
    return Augmentation(
        f"shift {down},{across}",
        lambda g: np.roll(g, (down, across), (0, 1)),
        lambda g: np.roll(g, (-down, -across), (0, 1)),
    )


def recolouring(permutation: Sequence[int]) -> Augmentation:
    """Colour c becomes permutation[c]."""
    if sorted(permutation) != list(range(COLOURS)):
        raise ValueError(f"{list(permutation)} is not a permutation of the {COLOURS} colours")
    table = np.array(permutation, dtype=np.int8)
    back = np.argsort(table).astype(np.int8)
    return Augmentation("recolour " + "".join(map(str, permutation)), lambda g: table[g], lambda g: back[g])


def scaling(down: int, across: int) -> Augmentation:
    """Every cell becomes a block of cells."""
    return Augmentation(
        f"scale {down}x{across}",
        lambda g: np.repeat(np.repeat(g, down, 0), across, 1),
        lambda g: g[::down, ::across],
    )


def mirroring(axis: Literal[0, 1], mirror_first: bool) -> Augmentation:
    """The grid and its mirror image side by side."""

    def forward(grid: Grid) -> Grid:
        mirror = np.flip(grid, axis)
        return np.concatenate([mirror, grid] if mirror_first else [grid, mirror], axis)

    def back(grid: Grid) -> Grid:
        return np.split(grid, [grid.shape[axis] // 2], axis)[1 if mirror_first else 0]

    return Augmentation(f"mirror {axis}{' first' if mirror_first else ''}", forward, back)


def repetition(down: int, across: int) -> Augmentation:
    """Copies of the grid, below and beside it."""
    return Augmentation(
        f"repeat {down}x{across}",
        lambda g: np.tile(g, (down, across)),
        lambda g: g[: g.shape[0] // down, : g.shape[1] // across],
    )


def chain(first: Augmentation, second: Augmentation) -> Augmentation:
    return Augmentation(
        f"{first.name}, {second.name}",
        lambda g: second.forward(first.forward(g)),
        lambda g: first.inverse(second.inverse(g)),
    )


def family(name: Family, rng: np.random.Generator) -> list[Augmentation]:
    """The augmentations of a family; `rng` decides those that have something to draw."""
    if name == "basic":
        down, across = (int(rng.choice([-1, 1]) * rng.integers(1, MAX_SHIFT + 1)) for _ in range(2))
        mirrors = [mirroring(axis, first) for axis in (0, 1) for first in (False, True)]
        return [*SYMMETRIES[1:], *mirrors, translation(down, across)]
    if name == "size":
        return [scaling(2, 2), scaling(2, 1), scaling(1, 2)]
    if name == "chain":
        return [chain(symmetry, scaling(2, 2)) for symmetry in SYMMETRIES[1:]]
    return [repetition(2, 1), repetition(1, 2), repetition(2, 2)]


def colour_permutation(rng: np.random.Generator) -> Augmentation:
    """A random recolouring that leaves 0 alone: most rules treat it as the background."""
    return recolouring([0, *(int(c) + 1 for c in rng.permutation(COLOURS - 1))])


def reordered(puzzle: Puzzle, order: Sequence[int]) -> Puzzle:
    """The same puzzle with its demonstrations in another order; `np.argsort(order)` is the way back."""
    if sorted(order) != list(range(len(puzzle.demonstrations))):
        raise ValueError(f"{list(order)} is not an order of {len(puzzle.demonstrations)} demonstrations")
    return Puzzle(tuple(puzzle.demonstrations[i] for i in order), puzzle.input, puzzle.output)
