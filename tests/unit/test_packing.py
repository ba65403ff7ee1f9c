"""Lessons in rows and rows for workers: nothing lost, nothing too long, the same steps for any number of workers."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seal_ray.policy.lessons import Lesson, LessonText
from seal_ray.policy.packing import batches, deal, fitting, hold_back


def lesson(name: str, tokens: int = 4, task: str = "", top: int = 9) -> Lesson:
    return Lesson(name, task or name, LessonText((1,), (top,) * (tokens - 1)))


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(1, 60), min_size=1, max_size=25), st.integers(60, 200), st.integers(1, 5))
def test_every_lesson_is_in_one_row_and_no_row_is_too_long(tokens: list[int], limit: int, workers: int) -> None:
    steps = deal(range(len(tokens)), tokens, limit, workers)
    rows = [row for step in steps for row in step]
    assert sorted(i for row in rows for i in row) == list(range(len(tokens)))
    assert all(sum(tokens[i] for i in row) <= limit for row in rows)
    assert all(len(step) == workers for step in steps), "every worker needs a row in every step, if an empty one"


def test_rows_of_one_step_are_of_like_length() -> None:
    tokens = [10, 10, 10, 30]
    (step,) = deal(range(4), tokens, 100, 2)
    assert [sum(tokens[i] for i in row) for row in step] == [30, 30]


def test_an_epoch_takes_every_lesson_once_in_an_order_of_its_own() -> None:
    steps = batches(7, 2, 3, seed=5)
    assert [len(s) for s in steps] == [3, 3, 1, 3, 3, 1]
    first, second = ([i for step in half for i in step] for half in (steps[:3], steps[3:]))
    assert sorted(first) == sorted(second) == list(range(7))
    assert first != second
    assert batches(7, 2, 3, seed=5) == steps != batches(7, 2, 3, seed=6)


def test_what_does_not_fit_is_left_out_with_the_limit_that_it_broke() -> None:
    kept, left = fitting([lesson("ok"), lesson("long", 11), lesson("odd", top=50)], {"a": 20, "b": 10}, {"c": 15}, 30)
    assert [x.edit for x in kept] == ["ok"]
    assert [(x.edit, x.reason) for x in left] == [
        ("long", "11 tokens, and b is 10"),
        ("odd", "token 50 is not in the vocabulary of 30"),
    ]


def test_the_texts_of_a_pair_are_each_as_long_as_they_are_and_together_as_long_as_a_row() -> None:
    def pair(name: str, first: int, second: int) -> Lesson:
        return replace(lesson(name, first), against=lesson("", second).text, algorithm="pairs")

    kept, left = fitting([pair("ok", 9, 8), pair("long", 3, 11), pair("wide", 10, 9)], {"text": 10}, {"row": 18}, 30)
    assert [x.edit for x in kept] == ["ok"]
    assert [(x.edit, x.reason) for x in left] == [
        ("long", "11 tokens, and text is 10"),
        ("wide", "19 tokens, and row is 18"),
    ]


def test_validation_holds_whole_tasks_back_and_never_all_of_them() -> None:
    lessons = [lesson(f"{t}{i}", task=t) for t in "abcde" for i in range(2)]
    train, held = hold_back(lessons, 0.4, seed=1)
    assert len({x.task for x in held}) == 2 and len(held) == 4 and len(train) == 6
    assert not {x.task for x in held} & {x.task for x in train}
    assert hold_back(lessons, 0.0, seed=1) == (lessons, [])
    assert hold_back([lesson("only")], 0.5, seed=1) == ([lesson("only")], [])
    assert hold_back(lessons, 1.0, seed=1)[0], "something must be left to learn from"


@pytest.mark.parametrize("share", [0.01, 0.1])
def test_a_small_share_still_holds_one_task_back(share: float) -> None:
    assert len(hold_back([lesson(t) for t in "abc"], share, seed=1)[1]) == 1
