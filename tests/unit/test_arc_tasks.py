"""Tasks from ARC's JSON, and clear errors for what is not ARC."""

import json

import pytest
from arc_data import arc_file, domain
from hypothesis import given
from hypothesis import strategies as st

from seal_ray.domains.arc.tasks import puzzles, read_tasks, split_tasks
from seal_ray.errors import DataError

PAIR = {"input": [[1, 2]], "output": [[2], [1]]}
TASK = {"train": [PAIR, PAIR], "test": [{"input": [[3, 4]]}]}


def read(task, solutions=None):
    beside = None if solutions is None else json.dumps(solutions).encode()
    return read_tasks(json.dumps({"t": task}).encode(), beside, "c.json", "s.json")


def test_solutions_may_lie_inside_beside_or_nowhere():
    inside = {**TASK, "test": [{"input": [[3, 4]], "output": [[4], [3]]}]}
    for tasks in (read(inside), read(TASK, {"t": [[[4], [3]]]}), read(inside, {"t": [[[4], [3]]]})):
        output = puzzles(tasks[0])[0].output
        assert output is not None and output.tolist() == [[4], [3]]
    assert puzzles(read(TASK)[0])[0].output is None


def test_every_test_input_is_a_puzzle_of_its_own():
    tasks = read({**TASK, "test": [{"input": [[3]]}, {"input": [[4]]}]}, {"t": [[[5]], [[6]]]})
    assert [(p.input.tolist(), p.output.tolist()) for p in puzzles(tasks[0]) if p.output is not None] == [
        ([[3]], [[5]]),
        ([[4]], [[6]]),
    ]


def test_a_file_of_its_own_for_a_task_takes_its_name():
    (task,) = read_tasks(json.dumps(TASK).encode(), None, "data/00d62c1b.json")
    assert task.id == "00d62c1b"


@pytest.mark.parametrize(
    ("task", "said"),
    [
        ({**TASK, "train": []}, "c.json: task t: no demonstrations"),
        ({"test": TASK["test"]}, "c.json: task t: no demonstrations"),
        ({**TASK, "test": []}, "c.json: task t: no test inputs"),
        ([1], "c.json: task t: no test inputs"),
        ({**TASK, "train": [{"input": [[1]]}]}, "demonstration 1: no output"),
        ({**TASK, "train": [PAIR, 5]}, "demonstration 2: no input"),
        ({**TASK, "test": [{"input": [[1, 2], [3]]}]}, "test 1, input: ragged grid, its rows have 1, 2 cells"),
        ({**TASK, "test": [{"input": [[1, 10]]}]}, "test 1, input: row 1, cell 2: '10' is not a colour"),
        ({**TASK, "test": [{"input": [[1, -1]]}]}, "'-1' is not a colour"),
        ({**TASK, "test": [{"input": [[True]]}]}, "'True' is not a colour"),
        ({**TASK, "test": [{"input": [["1"]]}]}, "'1' is not a colour"),
        ({**TASK, "test": [{"input": [[1.0]]}]}, "'1.0' is not a colour"),
        ({**TASK, "test": [{"input": [[0] * 31]}]}, "a grid of 1 x 31; no side may be over 30"),
        ({**TASK, "test": [{"input": [[0]] * 31}]}, "a grid of 31 x 1; no side may be over 30"),
        ({**TASK, "test": [{"input": []}]}, "a grid is a list of rows"),
        ({**TASK, "test": [{"input": [[]]}]}, "a grid is a list of rows"),
        ({**TASK, "test": [{"input": "123"}]}, "a grid is a list of rows"),
        ({**TASK, "test": [{"input": [[1]], "output": [[99]]}]}, "test 1, output: row 1, cell 1: '99' is not a colour"),
    ],
)
def test_what_is_wrong_with_a_challenge_is_said_with_its_place(task, said):
    with pytest.raises(DataError) as error:
        read(task)
    assert said in str(error.value) and ";" in str(error.value)


@pytest.mark.parametrize(
    ("solutions", "said"),
    [
        ({}, "s.json: task t: no solutions for it"),
        ({"t": [[[1]], [[2]]]}, "s.json: task t: 2 solutions for 1 test inputs"),
        ({"t": "x"}, "s.json: task t: 0 solutions for 1 test inputs"),
        ({"t": [[[1], [2, 3]]]}, "s.json: task t, solution 1: ragged grid"),
        ([], "s.json: a list"),
    ],
)
def test_solutions_that_do_not_match_are_refused(solutions, said):
    with pytest.raises(DataError) as error:
        read(TASK, solutions)
    assert said in str(error.value)


def test_two_different_solutions_for_one_test_are_refused():
    with pytest.raises(DataError, match=r"its output differs from the one in s\.json"):
        read({**TASK, "test": [{"input": [[1]], "output": [[1]]}]}, {"t": [[[2]]]})


@pytest.mark.parametrize("raw", [b"", b"{", b"[1]", b"\xff", b"[" * 100_000, b"{}"])
def test_a_file_that_is_not_arc_is_refused(raw):
    with pytest.raises(DataError, match=r"c\.json"):
        read_tasks(raw, None, "c.json")


@given(st.permutations(range(20)), st.integers(0, 1000))
def test_the_splits_depend_on_the_ids_and_the_seed_and_not_on_the_order(order, seed):
    tasks = [t for i in range(20) for t in read_tasks(json.dumps({str(i): TASK}).encode(), b'{"%d": [[[1]]]}' % i, "c")]
    splits = split_tasks(tasks, seed, 0.1, 0.2)
    assert {k: len(v) for k, v in splits.items()} == {"train": 14, "validation": 2, "test": 4}
    assert {t.id for v in splits.values() for t in v} == {str(i) for i in range(20)}
    assert split_tasks([tasks[i] for i in order], seed, 0.1, 0.2) == splits


def test_another_seed_splits_otherwise():
    tasks = [t for i in range(20) for t in read_tasks(json.dumps({str(i): TASK}).encode(), b'{"%d": [[[1]]]}' % i, "c")]
    assert split_tasks(tasks, 1, 0.1, 0.2) != split_tasks(tasks, 2, 0.1, 0.2)


def test_a_task_without_solutions_is_never_one_to_learn_from():
    known, unknown = read(TASK, {"t": [[[1]]]}), read(TASK)
    splits = split_tasks([*known, *unknown], 0, 0, 0)
    assert splits == {"train": known, "validation": [], "test": unknown}


def test_the_public_files_are_read_whole():
    name = "training_challenges_filtered.json"
    arc = domain(
        {"c": arc_file(name).read_bytes(), "s": arc_file("training_solutions.json").read_bytes()},
        data="c",
        solutions="s",
        test=0.25,
    )
    assert (len(arc.tasks("train")), len(arc.tasks("test"))) == (9, 3)
