"""Small grid puzzles made from a seed: what the tiny model of `arc-tiny.yaml` is trained and tried on.

    python jobs/arc_tiny_tasks.py            writes jobs/data/arc_tiny_challenges.json

A rule is one simple step: a flip, a shift by one cell that comes in again on the other side, or one paint for every
cell. Which one it is must be found out from the demonstrations. Grids are small, so that the model can be small too.
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
DEMONSTRATIONS = 4
EMPTY = 0.25  # share of cells of colour 0, which no rule paints
FILE = Path(__file__).parent / "data" / "arc_tiny_challenges.json"
HELD_OUT = 20250611  # seed of the tasks in the file; the model never sees grids drawn from it

RULES: dict[str, Rule | None] = {
    "flip across": lambda g: g[:, ::-1],
    "flip down": lambda g: g[::-1],
    "shift right": lambda g: np.roll(g, 1, 1),
    "shift left": lambda g: np.roll(g, -1, 1),
    "shift down": lambda g: np.roll(g, 1, 0),
    "shift up": lambda g: np.roll(g, -1, 0),
    "paint": None,  # in which colour is drawn for each puzzle
}


def paint(colour: int) -> Rule:
    return lambda g: np.where(g == 0, 0, colour).astype(np.int8)


def make_puzzle(name: str, demonstrations: int, rng: np.random.Generator) -> Puzzle:
    """Grids that each show the rule of that name: no grid is left as it was."""
    palette = 1 + rng.choice(9, rng.integers(4, 9), replace=False)
    rule = RULES[name] or paint(int(rng.choice(palette)))
    pairs: list[Pair] = []
    while len(pairs) <= demonstrations:
        cells = rng.choice(palette, (SIDE, SIDE))
        grid = np.where(rng.random((SIDE, SIDE)) < EMPTY, 0, cells).astype(np.int8)
        output = np.ascontiguousarray(rule(grid))
        if not same(grid, output):
            pairs.append(Pair(grid, output))
    return Puzzle(tuple(pairs[:-1]), pairs[-1].input, pairs[-1].output)


def challenges(count: int, seed: int) -> dict[str, Json]:
    """Tasks in ARC's form, the rules in turn. The rule's name stands in the task's id."""
    made: dict[str, Json] = {}
    for i in range(count):
        name = list(RULES)[i % len(RULES)]
        puzzle = make_puzzle(name, DEMONSTRATIONS, np.random.default_rng(derive_seed(seed, "arc-tiny-task", i)))
        assert puzzle.output is not None
        made[f"{i:03d} {name}"] = {
            "train": [{"input": p.input.tolist(), "output": p.output.tolist()} for p in puzzle.demonstrations],
            "test": [{"input": puzzle.input.tolist(), "output": puzzle.output.tolist()}],
        }
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description="write the tasks of arc-tiny.yaml")
    parser.add_argument("--count", type=int, default=56)
    parser.add_argument("--seed", type=int, default=HELD_OUT)
    parser.add_argument("--out", type=Path, default=FILE)
    given = parser.parse_args()
    tasks = challenges(given.count, given.seed)
    given.out.write_text("{\n" + ",\n".join(f'"{k}": {json.dumps(v)}' for k, v in tasks.items()) + "\n}\n")
    print(f"{len(tasks)} tasks in {given.out}")


if __name__ == "__main__":
    main()
