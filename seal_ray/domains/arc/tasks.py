"""Puzzles from ARC's JSON files: challenges of ARC-AGI-1 and 2, with their solutions inside, beside, or nowhere."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from seal_ray.domains.arc.grids import Pair, Puzzle, grid_of
from seal_ray.errors import DataError
from seal_ray.records import Json, Split, Task, derive_seed
from seal_ray.text import lone_surrogate


def read_tasks(challenges: bytes, solutions: bytes | None, source: str, solutions_source: str = "") -> list[Task]:
    """The tasks of a file of challenges, checked grid by grid. A task's data is its JSON with outputs filled in."""
    data = _object(challenges, source)
    if "train" in data and "test" in data:  # a file of its own for each task, as in ARC's repository
        data = {source.rsplit("/", 1)[-1].removesuffix(".json"): data}
    if not data:
        raise DataError(f"{source}: no challenges in it", hint="give a JSON object of task ids and tasks")
    known = _object(solutions, solutions_source) if solutions is not None else None
    return [_task(name, value, source, known, solutions_source) for name, value in data.items()]


def puzzles(task: Task) -> list[Puzzle]:
    """One puzzle for each test input of a task."""
    where = f"task {task.id}"
    pairs = tuple(
        Pair(grid_of(p["input"], where), grid_of(p["output"], where)) for p in task.data["train"]
    )  # checked when the file was read
    return [
        Puzzle(pairs, grid_of(t["input"], where), None if t["output"] is None else grid_of(t["output"], where))
        for t in task.data["test"]
    ]


def solved(task: Task) -> bool:
    """Are the outputs of all its tests known?"""
    return all(test["output"] is not None for test in task.data["test"])


def split_tasks(tasks: Sequence[Task], seed: int, validation: float, test: float) -> dict[Split, list[Task]]:
    """The splits, drawn from the tasks' ids alone, so that the order in the file does not matter.

    A task without solutions can't give a reward: it is kept for the test split.
    """
    ranked = sorted(tasks, key=lambda task: (derive_seed(seed, "arc-split", task.id), task.id))
    known, unknown = [t for t in ranked if solved(t)], [t for t in ranked if not solved(t)]
    n_test, n_validation = round(len(known) * test), round(len(known) * validation)
    return {
        "test": known[:n_test] + unknown,
        "validation": known[n_test : n_test + n_validation],
        "train": known[n_test + n_validation :],
    }


def _object(raw: bytes, source: str) -> dict[str, Any]:
    try:
        data = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{source}: not JSON ({error})", hint="give ARC's challenges or solutions as JSON") from None
    if not isinstance(data, dict):
        raise DataError(f"{source}: a {type(data).__name__}", hint="give a JSON object of task ids")
    for name in data:
        if lone_surrogate(name) or not name.strip():
            raise DataError(f"{source}: {name!r} can't be a task's id", hint="name it in whole characters")
    return data


def _task(name: str, value: Any, source: str, known: Mapping[str, Any] | None, beside: str) -> Task:
    where = f"{source}: task {name}"
    if not isinstance(value, dict) or not isinstance(value.get("test"), list) or not value["test"]:
        raise DataError(f"{where}: no test inputs", hint="a task has lists `train` and `test`")
    if not isinstance(value.get("train"), list) or not value["train"]:
        raise DataError(f"{where}: no demonstrations", hint="`train` must hold at least one input and its output")
    train: list[Json] = []
    for i, pair in enumerate(value["train"]):
        train.append({side: _side(pair, side, f"{where}, demonstration {i + 1}") for side in ("input", "output")})
    outputs = _outputs(name, len(value["test"]), known, beside)
    test: list[Json] = []
    for i, pair in enumerate(value["test"]):
        at = f"{where}, test {i + 1}"
        output = _side(pair, "output", at) if isinstance(pair, dict) and "output" in pair else None
        if output is not None and outputs and outputs[i] != output:
            raise DataError(f"{at}: its output differs from the one in {beside}", hint="leave one of the two away")
        test.append({"input": _side(pair, "input", at), "output": output or (outputs[i] if outputs else None)})
    return Task(id=name, data={"train": train, "test": test})


def _outputs(name: str, tests: int, known: Mapping[str, Any] | None, source: str) -> list[Json] | None:
    if known is None:
        return None
    where = f"{source}: task {name}"
    outputs = known.get(name)
    if outputs is None:
        raise DataError(f"{where}: no solutions for it", hint="give the solutions that belong to the challenges")
    if not isinstance(outputs, list) or len(outputs) != tests:
        count = len(outputs) if isinstance(outputs, list) else 0
        raise DataError(f"{where}: {count} solutions for {tests} test inputs", hint="give one grid for each test")
    for i, output in enumerate(outputs):
        grid_of(output, f"{where}, solution {i + 1}")
    return outputs


def _side(pair: Any, side: str, where: str) -> Json:
    if not isinstance(pair, dict) or side not in pair:
        raise DataError(f"{where}: no {side}", hint=f"give the {side} grid")
    grid_of(pair[side], f"{where}, {side}")
    return pair[side]
