"""Small grid puzzles made from a seed: what the tiny model of `arc-tiny.yaml` is trained and tried on.

    python jobs/arc_tiny_tasks.py            writes jobs/data/arc_tiny_challenges.json

A rule is one simple step (flip, shift, recolour) or two of them, one after the other. Grids are small, so that the
model that learns them can be small too.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

from seal_ray.domains.arc.grids import Grid, Pair, Puzzle, same
from seal_ray.records import Json, derive_seed

Rule = Callable[[Grid], Grid]

SIDE = 3
DEMONSTRATIONS = 3
FILE = Path(__file__).parent / "data" / "arc_tiny_challenges.json"
HELD_OUT = 20250611  # seed of the tasks in the file; the model never sees rules and grids drawn from it

STEPS: dict[str, Rule | None] = {
    "flip across": lambda g: g[:, ::-1],
    "flip down": lambda g: g[::-1],
    "shift right": lambda g: np.roll(g, 1, 1),
    "shift down": lambda g: np.roll(g, 1, 0),
    "swap two colours": None,  # which two is drawn for each puzzle
}


def swap(palette: list[int], rng: np.random.Generator) -> Rule:
    a, b = (int(c) for c in rng.choice(palette, 2, replace=False))
    table = np.arange(10, dtype=np.int8)
    table[[a, b]] = b, a
    return lambda g: table[g]


def make_rule(steps: int, palette: list[int], rng: np.random.Generator) -> tuple[str, Rule]:
    """A rule of so many different steps, one after the other."""
    names = [list(STEPS)[i] for i in rng.choice(len(STEPS), steps, replace=False)]
    rules = [STEPS[name] or swap(palette, rng) for name in names]

    def rule(grid: Grid) -> Grid:
        for step in rules:
            grid = step(grid)
        return grid

    return ", then ".join(names), rule


def make_puzzle(steps: int, demonstrations: int, rng: np.random.Generator) -> tuple[str, Puzzle]:
    """A rule, and grids that each show it: no grid is left as it was."""
    while True:
        palette = [int(c) for c in rng.choice(10, rng.integers(5, 10), replace=False)]
        name, rule = make_rule(steps, palette, rng)
        pairs: list[Pair] = []
        for _ in range(20 * (demonstrations + 1)):
            grid = rng.choice(palette, (SIDE, SIDE)).astype(np.int8)
            output = np.ascontiguousarray(rule(grid))
            if not same(grid, output):
                pairs.append(Pair(grid, output))
            if len(pairs) == demonstrations + 1:
                return name, Puzzle(tuple(pairs[:-1]), pairs[-1].input, pairs[-1].output)


def challenges(count: int, seed: int) -> dict[str, Json]:
    """Tasks in ARC's form, one step and two steps in turn. The rule's name stands in the task's id."""
    made: dict[str, Json] = {}
    for i in range(count):
        rng = np.random.default_rng(derive_seed(seed, "arc-tiny-task", i))
        name, puzzle = make_puzzle(1 + i % 2, DEMONSTRATIONS, rng)
        assert puzzle.output is not None
        made[f"{i:03d} {name}"] = {
            "train": [{"input": p.input.tolist(), "output": p.output.tolist()} for p in puzzle.demonstrations],
            "test": [{"input": puzzle.input.tolist(), "output": puzzle.output.tolist()}],
        }
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description="write the tasks of arc-tiny.yaml")
    parser.add_argument("--count", type=int, default=40)
    parser.add_argument("--seed", type=int, default=HELD_OUT)
    parser.add_argument("--out", type=Path, default=FILE)
    given = parser.parse_args()
    tasks = challenges(given.count, given.seed)
    given.out.write_text("{\n" + ",\n".join(f'"{k}": {json.dumps(v)}' for k, v in tasks.items()) + "\n}\n")
    print(f"{len(tasks)} tasks in {given.out}")


if __name__ == "__main__":
    main()
