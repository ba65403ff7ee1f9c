"""Grids as text: written, and found again in whatever a model writes."""

import time

import numpy as np
import pytest
from arc_data import arc_file, grids
from hypothesis import given, settings
from hypothesis import strategies as st

from seal_ray.domains.arc.augment import FAMILIES, family
from seal_ray.domains.arc.formats import longest_grid, puzzle_text, read_grid, write_grid
from seal_ray.domains.arc.grids import Pair, Puzzle, same
from seal_ray.domains.arc.tasks import puzzles, read_tasks

FORMS = ("digits", "lists")
GRID = np.array([[1, 2, 0], [3, 4, 9]], dtype=np.int8)


@given(grids(30), st.sampled_from(FORMS))
def test_every_grid_is_read_back_as_it_was_written(grid, form):
    found = read_grid(write_grid(grid, form), form)
    assert found is not None and same(found, grid)


@given(grids(6), st.sampled_from(FORMS), st.sampled_from(FORMS))
def test_a_grid_of_more_than_one_row_is_found_in_the_other_format_too(grid, written, expected):
    if written == "digits" and grid.size == 1 and expected == "lists":
        return  # a lone digit is a grid of one cell in rows of digits only
    found = read_grid(write_grid(grid, written), expected)
    assert found is not None and same(found, grid)


@pytest.mark.parametrize("form", FORMS)
def test_the_longest_grid_has_as_many_characters_as_is_promised(form):
    for side in (1, 2, 30):
        assert len(write_grid(np.zeros((side, side), dtype=np.int8), form)) == longest_grid(form, side)


@pytest.mark.parametrize(
    "text",
    [
        "120\n349",
        "  120  \n  349  \n\n",
        "1 2 0\n3 4 9",
        "1,2,0\n3,4,9\n",
        "1|2|0\r\n3|4|9\r\n",
        "|1|2|0|\n|3|4|9|",
        "```\n120\n349\n```",
        "```json\n[[1, 2, 0], [3, 4, 9]]\n```",
        "[[1,2,0],[3,4,9]]",
        "[[1, 2, 0],\n [3, 4, 9]]",
        "[[1, 2, 0,], [3, 4, 9,],]",
        "[[1, 2, 0] [3, 4, 9]]",
        "Output:\n120\n349",
        "The rule turns\n111\ninto\n222\nso the answer is\n120\n349\n",
        "From [[1, 1]] we get [[2]]. Here it is: [[1, 2, 0], [3, 4, 9]]. Done.",
        "120\n349\n\nInput:\n777\n777\n",
        "[[1, 2, 0], [3, 4, 9]]\n[[5, 5]]",
        "[[[1, 2, 0], [3, 4, 9]]]",
        "]]]] [[1, 2, 0], [3, 4, 9]]",
    ],
)
@pytest.mark.parametrize("form", FORMS)
def test_a_grid_survives_sloppy_writing(text, form):
    found = read_grid(text, form)
    assert found is not None and same(found, GRID)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "I can't tell.",
        "120\n34",
        "[[1, 2, 0], [3, 4",
        "[[1, 2, 0], [3, 4, 9]",
        "[[1, 2, 0], [3, 4]]",
        "[[1, 2, 10], [3, 4, 9]]",
        "[[1, -2, 0], [3, 4, 9]]",
        "[[1, 2.5, 0], [3, 4, 9]]",
        "1 2 10\n3 4 9",
        "10 2\n3",
        "[]",
        "[[]]",
        "[[], []]",
        "[1, 2, 0]",
        "[[1, , 2]]",
        "[[a]]",
        "\n".join(["1" * 31] * 3),
        "\n".join(["11"] * 31),
        str([[1] * 31]),
        "١٢٠\n٣٤٩",
    ],
)
@pytest.mark.parametrize("form", FORMS)
def test_what_is_no_grid_is_not_made_one(text, form):
    assert read_grid(text, form) is None


@given(st.text(alphabet="[],0123456789 \n|ab", max_size=400), st.sampled_from(FORMS))
@settings(max_examples=300)
def test_no_text_makes_reading_fail(text, form):
    found = read_grid(text, form)
    assert found is None or (found.ndim == 2 and 0 < max(found.shape) <= 30 and 0 <= found.min() <= found.max() <= 9)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("piece", ["[", "]", "[[", "[1", "[[1],", "[ ", " ", "1", "1\n", ",", "[1,", "```", "1, "])
def test_a_hundred_thousand_of_anything_are_read_in_bounded_time(piece, form):
    assert read_grid(piece * 100_000, form) is None


def test_a_puzzle_ends_where_its_output_begins_and_shows_everything_else():
    puzzle = Puzzle((Pair(GRID, GRID[:1]),), GRID[1:], np.array([[7]], dtype=np.int8))
    assert puzzle_text(puzzle, "digits") == "Input:\n120\n349\nOutput:\n120\n\nInput:\n349\nOutput:\n"


def test_all_400_training_tasks_survive_both_formats_and_every_family(capsys):
    tasks = read_tasks(
        arc_file("training_challenges.json").read_bytes(),
        arc_file("training_solutions.json").read_bytes(),
        "challenges",
        "solutions",
    )
    assert len(tasks) == 400
    began = time.perf_counter()
    read = [puzzle for task in tasks for puzzle in puzzles(task)]
    all_grids = [grid for puzzle in read for grid in puzzle.grids()]
    for form in FORMS:
        for grid in all_grids:
            found = read_grid(write_grid(grid, form), form)
            assert found is not None and same(found, grid)
    formats = time.perf_counter() - began
    rng = np.random.default_rng(0)
    applied = 0
    for puzzle in read:
        for name in FAMILIES:
            for augmentation in family(name, rng):
                changed = augmentation.puzzle(puzzle)
                for before, after in zip(puzzle.grids(), changed.grids(), strict=True):
                    assert same(augmentation.inverse(after), before), augmentation.name
                    applied += 1
    seconds = time.perf_counter() - began
    with capsys.disabled():
        print(
            f"\n400 tasks, {len(all_grids)} grids: both formats {formats:.1f} s; "
            f"{applied} grids through all families and back {seconds - formats:.1f} s"
        )
