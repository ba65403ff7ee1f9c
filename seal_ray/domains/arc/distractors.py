"""Wrong grids to tell a right one apart from: grids that the task itself shows.

Chosen from the task alone, so every trial of a round is asked about the same ones, also the one without training, which
is in the same wave as the others. Training goes through the demonstrations' outputs, so a contrast says how much more
an edit did for the output that nobody showed than for those that it was taught.
"""

from collections.abc import Sequence

from seal_ray.domains.arc.grids import Grid, Puzzle, same


def wrong_grids(tests: Sequence[Puzzle], asked: int, count: int) -> list[Grid]:
    """At most `count` grids that are not the output asked for: other outputs of the task, of like size first, then
    those of its inputs that have the right shape. None where the right output is not known. `tests`: a task's puzzles.
    """
    puzzle = tests[asked]
    right = puzzle.output
    if right is None:
        return []
    others = [p for number, p in enumerate(tests) if number != asked]
    outputs = [pair.output for pair in puzzle.demonstrations] + [p.output for p in others if p.output is not None]
    outputs.sort(key=lambda grid: (grid.shape != right.shape, abs(grid.size - right.size)))
    inputs = [puzzle.input, *(pair.input for pair in puzzle.demonstrations), *(p.input for p in others)]
    chosen: list[Grid] = []
    for grid in [*outputs, *(g for g in inputs if g.shape == right.shape)]:
        if not any(same(grid, other) for other in (right, *chosen)):
            chosen.append(grid)
    return chosen[:count]
