"""Augmentations: exact ways there and back, and puzzles that stay puzzles."""

import numpy as np
import pytest
from arc_data import grids
from hypothesis import given
from hypothesis import strategies as st

from seal_ray.domains.arc.augment import (
    FAMILIES,
    IDENTITY,
    SYMMETRIES,
    Augmentation,
    chain,
    colour_permutation,
    family,
    recolouring,
    reordered,
    scaling,
    translation,
)
from seal_ray.domains.arc.grids import Pair, Puzzle, same

seeds = st.integers(0, 2**31 - 1)


def all_of(seed: int) -> list[Augmentation]:
    rng = np.random.default_rng(seed)
    return [*(a for name in FAMILIES for a in family(name, rng)), colour_permutation(rng)]


@given(grids(8), seeds)
def test_the_inverse_after_the_forward_is_the_identity(grid, seed):
    for augmentation in all_of(seed):
        assert same(augmentation.inverse(augmentation.forward(grid)), grid), augmentation.name


@given(grids(8))
def test_the_eight_symmetries_are_a_group_of_eight(grid):
    square = np.arange(9, dtype=np.int8).reshape(3, 3)
    images = [s.forward(square).tobytes() for s in SYMMETRIES]
    assert len(set(images)) == 8
    for a in SYMMETRIES:
        for b in SYMMETRIES:
            assert chain(a, b).forward(square).tobytes() in images
        assert same(a.forward(a.inverse(grid)), grid)


@given(seeds)
def test_a_colour_permutation_is_a_bijection_that_leaves_the_background(seed):
    colours = np.arange(10, dtype=np.int8).reshape(2, 5)
    permuted = colour_permutation(np.random.default_rng(seed)).forward(colours)
    assert sorted(permuted.ravel().tolist()) == list(range(10))
    assert permuted[0, 0] == 0


@given(grids(), grids(), seeds)
def test_equal_grids_of_a_puzzle_stay_equal_and_different_ones_different(a, b, seed):
    puzzle = Puzzle((Pair(a, b), Pair(b, a)), a, b)
    for augmentation in all_of(seed):
        changed = augmentation.puzzle(puzzle)
        assert changed.output is not None
        first, second = changed.demonstrations
        assert same(first.input, changed.input) and same(first.output, changed.output)
        assert same(first.input, second.output) and same(first.output, second.input)
        assert same(first.input, first.output) == same(a, b)


@given(st.permutations(range(4)))
def test_an_order_of_demonstrations_has_a_way_back(order):
    pairs = tuple(Pair(np.full((1, 1), i, dtype=np.int8), np.full((1, 1), i, dtype=np.int8)) for i in range(4))
    puzzle = Puzzle(pairs, pairs[0].input)
    there = reordered(puzzle, order)
    assert [int(p.input[0, 0]) for p in there.demonstrations] == list(order)
    assert reordered(there, np.argsort(order).tolist()).key() == puzzle.key()


@given(seeds)
def test_the_same_seed_gives_the_same_augmentations(seed):
    assert [a.name for a in all_of(seed)] == [a.name for a in all_of(seed)]


def test_the_families_change_sizes_as_their_names_say():
    rng, grid = np.random.default_rng(0), np.arange(6, dtype=np.int8).reshape(2, 3)
    shapes = {name: {a.forward(grid).shape for a in family(name, rng)} for name in FAMILIES}
    assert shapes == {
        "basic": {(2, 3), (3, 2), (4, 3), (2, 6)},
        "size": {(4, 6), (4, 3), (2, 6)},
        "chain": {(4, 6), (6, 4)},
        "repeat": {(4, 3), (2, 6), (4, 6)},
    }


def test_a_shift_moves_every_cell_and_loses_none():
    grid = np.arange(6, dtype=np.int8).reshape(2, 3)
    assert translation(0, 1).forward(grid).tolist() == [[2, 0, 1], [5, 3, 4]]
    assert translation(1, 0).forward(grid).tolist() == [[3, 4, 5], [0, 1, 2]]


@pytest.mark.parametrize("augmentation", [scaling(2, 2), chain(IDENTITY, scaling(1, 2)), scaling(2, 1)])
def test_a_grid_that_nothing_can_have_become_has_no_inverse(augmentation):
    with pytest.raises(ValueError, match="no grid becomes this 3 x 3 grid by"):
        augmentation.inverse(np.arange(9, dtype=np.int8).reshape(3, 3))


def test_what_is_no_permutation_of_the_colours_is_refused():
    with pytest.raises(ValueError, match="not a permutation of the 10 colours"):
        recolouring([0, 1, 2, 3, 4, 5, 6, 7, 8, 8])
    with pytest.raises(ValueError, match="not an order of 1 demonstrations"):
        reordered(Puzzle((Pair(*[np.zeros((1, 1), np.int8)] * 2),), np.zeros((1, 1), np.int8)), [1])
