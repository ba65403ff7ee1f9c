"""The training set of a set of directives: small puzzles made of a task's demonstrations, then changed."""

from collections.abc import Iterator
from itertools import combinations

import numpy as np

from seal_ray.domains.arc.augment import IDENTITY, Augmentation, Family, colour_permutation, family, reordered
from seal_ray.domains.arc.grids import Pair, Puzzle


def leave_outs(pairs: tuple[Pair, ...]) -> list[Puzzle]:
    """Every demonstration in turn as the question: with all others shown, then with one of them missing.

    At least one demonstration is always shown, unless the task has only one.
    """
    puzzles = []
    for left_out in (0, 1):
        for asked, pair in enumerate(pairs):
            others = [p for i, p in enumerate(pairs) if i != asked]
            if len(others) > left_out or (not others and not left_out):
                shown = combinations(others, len(others) - left_out)
                puzzles += [Puzzle(tuple(some), pair.input, pair.output) for some in shown]
    return puzzles


def training_puzzles(
    pairs: tuple[Pair, ...], families: tuple[Family, ...], *, seed: int, max_side: int
) -> Iterator[Puzzle]:
    """All different puzzles that the families make of the demonstrations, the plainest first.

    First come the demonstrations as they are; then everything else in an order drawn from the seed: the augmented
    puzzles, and each of all these once more with its colours and its demonstrations permuted. The caller takes as
    many as it wants, so nothing is made that isn't used. Augmentation makes no grid over `max_side`.
    """
    rng = np.random.default_rng(seed)
    plain = leave_outs(pairs)
    augmentations = [a for name in families for a in family(name, rng)]
    jobs: list[tuple[Puzzle, Augmentation, bool]] = [(p, a, False) for p in plain for a in augmentations]
    jobs += [(p, a, True) for p in plain for a in (IDENTITY, *augmentations)]
    jobs = [jobs[i] for i in rng.permutation(len(jobs))]
    seen = set()
    for puzzle, augmentation, permuted in [*((p, IDENTITY, False) for p in plain), *jobs]:
        # drawn for every permuted puzzle, kept or not, so that a limit does not change what follows
        colours = colour_permutation(rng) if permuted else IDENTITY
        order = rng.permutation(len(puzzle.demonstrations)) if permuted else range(len(puzzle.demonstrations))
        changed = reordered(colours.puzzle(augmentation.puzzle(puzzle)), [int(i) for i in order])
        if changed.side() <= max(max_side, puzzle.side()) and (key := changed.key()) not in seen:
            seen.add(key)
            yield changed
