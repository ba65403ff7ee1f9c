"""Evaluation: a test input under several views, and a vote over what the views answer.

A view is the puzzle turned or flipped, with its demonstrations in another order. Each answer is turned back before
it is counted.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from seal_ray.domains.arc.augment import SYMMETRIES, Augmentation, reordered
from seal_ray.domains.arc.formats import Format, read_grid
from seal_ray.domains.arc.grids import Grid, Puzzle, same
from seal_ray.records import Answer

ATTEMPTS = 2


@dataclass(frozen=True, eq=False)
class View:
    """One way to show a puzzle: `puzzle` is what the model sees, `symmetry` leads back."""

    symmetry: Augmentation
    puzzle: Puzzle


def views(puzzle: Puzzle, count: int, seed: int) -> list[View]:
    """At most `count` different views, the plain one first. Fewer where a puzzle has no more."""
    rng = np.random.default_rng(seed)
    chosen: list[View] = []
    seen = set()
    for i in range(4 * count):  # a puzzle that looks like its mirror image has fewer views than one is asked for
        symmetry = SYMMETRIES[i % len(SYMMETRIES)]
        order = (
            [int(k) for k in rng.permutation(len(puzzle.demonstrations))] if i else range(len(puzzle.demonstrations))
        )
        shown = symmetry.puzzle(reordered(puzzle, order))
        key = Puzzle(shown.demonstrations, shown.input).key()
        if key not in seen and len(chosen) < count:
            seen.add(key)
            chosen.append(View(symmetry, shown))
    return chosen


@dataclass
class _Votes:
    grid: Grid
    views: int = 0  # in whose shortlist it is
    answers: int = 0
    logprob: float = 0.0  # of its likeliest answer
    first: int = 0


def vote(asked: Sequence[View], answers: Sequence[Sequence[Answer]], form: Format) -> list[Grid]:
    """The attempts, best first: each view puts forward its two most frequent grids, and the views elect two of these.

    Ties go to the grid with the likelier answer, then to the earlier view, so that the outcome never depends on the
    order of the answers.
    """
    elected: dict[tuple[tuple[int, ...], bytes], _Votes] = {}
    for number, (view, given) in enumerate(zip(asked, answers, strict=True)):
        ballots = _count(number, view, given, form)
        for key, ballot in sorted(ballots.items(), key=lambda item: _rank(item[1]))[:ATTEMPTS]:
            total = elected.setdefault(key, _Votes(ballot.grid, logprob=ballot.logprob, first=number))
            total.views += 1
            total.answers += ballot.answers
            total.logprob = max(total.logprob, ballot.logprob)
    return [ballot.grid for _, ballot in sorted(elected.items(), key=lambda item: (_rank(item[1]), item[0]))[:ATTEMPTS]]


def solves(attempts: Sequence[Grid], gold: Grid) -> bool:
    return any(same(attempt, gold) for attempt in attempts)


def _count(
    number: int, view: View, given: Sequence[Answer], form: Format
) -> dict[tuple[tuple[int, ...], bytes], _Votes]:
    ballots: dict[tuple[tuple[int, ...], bytes], _Votes] = {}
    for answer in sorted(given, key=lambda answer: answer.sample):
        shown = read_grid(answer.text, form)
        if shown is None:
            continue
        grid = np.ascontiguousarray(view.symmetry.inverse(shown))
        ballot = ballots.setdefault((grid.shape, grid.tobytes()), _Votes(grid, logprob=answer.logprob, first=number))
        ballot.answers += 1
        ballot.logprob = max(ballot.logprob, answer.logprob)
    return ballots


def _rank(votes: _Votes) -> tuple[float, ...]:
    return (-votes.views, -votes.answers, -votes.logprob, votes.first)
