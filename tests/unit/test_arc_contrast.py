"""The contrast for the few-shot domain: the right grid against others that the task shows."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from arc_data import domain

from seal_ray import config_file, models
from seal_ray.config import AnsweringSection, GradingSection
from seal_ray.domains.arc import Arc
from seal_ray.domains.arc.distractors import wrong_grids
from seal_ray.domains.arc.grids import Grid, Pair, Puzzle
from seal_ray.domains.arc.tasks import puzzles
from seal_ray.errors import ConfigError
from seal_ray.grading.reward import rewards
from seal_ray.loops.asking import asks_of
from seal_ray.models.builtin import make_tiny
from seal_ray.records import Attempt, Candidate, Edit, Recipe, Task, decode, encode
from seal_ray.trials.wave import try_wave

SWAPS = [{"input": [[i, i + 1]], "output": [[i + 1, i]]} for i in range(3)]
TASK = {"train": SWAPS, "test": [{"input": [[5, 6]], "output": [[6, 5]]}]}
SHAPELESS = {"train": [{"input": [[1, 1]], "output": [[2]]}], "test": [{"input": [[3, 3]], "output": [[2]]}]}


def g(*rows: list[int]) -> Grid:
    return np.array(rows, np.int8)


def shown(*grids: Grid) -> list[list[list[int]]]:
    return [grid.tolist() for grid in grids]


def made(task: Any = TASK, **section: Any) -> tuple[Arc, Task]:
    arc = domain({"challenges.json": json.dumps({"t": task}).encode()}, **section)
    return arc, arc.tasks("train")[0]


def test_outputs_of_the_task_come_first_and_then_inputs_of_the_right_shape() -> None:
    pairs = (Pair(g([1]), g([2, 2, 2])), Pair(g([4, 4]), g([2, 2])), Pair(g([5]), g([2])))
    tests = [Puzzle(pairs, g([7, 7]), g([1, 1])), Puzzle(pairs, g([8]), g([9, 9]))]
    outputs = (g([2, 2]), g([9, 9]), g([2, 2, 2]), g([2]))
    assert shown(*wrong_grids(tests, 0, 9)) == shown(*outputs, g([7, 7]), g([4, 4]))
    assert shown(*wrong_grids(tests, 0, 2)) == shown(*outputs[:2])


def test_a_right_grid_is_never_a_wrong_one_and_none_is_there_twice() -> None:
    pairs = (Pair(g([6]), g([1])), Pair(g([6]), g([3])), Pair(g([1]), g([3])))
    assert shown(*wrong_grids([Puzzle(pairs, g([1]), g([1]))], 0, 9)) == shown(g([3]), g([6]))


def test_without_a_known_output_there_is_nothing_to_tell_apart() -> None:
    assert wrong_grids([Puzzle((Pair(g([1]), g([2])),), g([3]))], 0, 9) == []


@pytest.mark.parametrize("form", ["digits", "lists"])
def test_a_wrong_grid_is_turned_as_its_view_shows_the_puzzle(form: str) -> None:
    arc, task = made(views=4, distractors=8, grid_format=form)
    (puzzle,) = puzzles(task)
    wrong = wrong_grids([puzzle], 0, 8)
    for question, view in zip(arc.questions(task), arc._views(task)[0], strict=True):
        assert question.gold == (arc_text(view.symmetry.forward(g([6, 5])), form),)
        assert list(task.distractors[question.id]) == [arc_text(view.symmetry.forward(w), form) for w in wrong]
        assert len(task.distractors[question.id]) == 7 and question.gold[0] not in task.distractors[question.id]


def arc_text(grid: Grid, form: str) -> str:
    return str(grid.tolist()) if form == "lists" else "\n".join("".join(map(str, row)) for row in grid.tolist())


def test_wrong_grids_are_no_part_of_what_a_task_is_and_come_back_from_its_record() -> None:
    _, bare = made()
    _, told = made(distractors=3)
    assert not bare.distractors and bare.digest == told.digest
    again = decode(Task, json.loads(json.dumps(encode(told))))
    assert {q: list(w) for q, w in again.distractors.items()} == {q: list(w) for q, w in told.distractors.items()}


def test_test_inputs_without_a_wrong_grid_are_told_of() -> None:
    arc, task = made(SHAPELESS, distractors=4)
    assert not any(task.distractors.values())
    assert [w for w in arc.warnings if "1 test inputs have no wrong grid" in w]
    assert made(distractors=4)[0].warnings == () and made(SHAPELESS)[0].warnings == ()


def test_a_contrast_is_refused_where_no_wrong_grid_is_taken() -> None:
    settings = ["domain.data=challenges.json", "grading.reward=contrast"]
    with pytest.raises(ConfigError, match=r"domain\.distractors"):
        config_file.load("jobs/arc-tiny.yaml", settings)
    config_file.load("jobs/arc-tiny.yaml", [*settings, "domain.distractors=4"])


def test_trials_measure_how_much_more_the_right_grid_gained_than_those_that_were_shown(tmp_path: Path) -> None:
    make_tiny(tmp_path)
    tokenizer, model = models.tokenizer(tmp_path), models.load(tmp_path, dtype="float32")
    recipe = Recipe(rank=8, epochs=4, batch_size=2, max_length=512)
    arc, task = made(recipe=recipe, max_grid=2, views=2, distractors=3)
    asks = asks_of(task, arc, tokenizer, AnsweringSection(max_tokens=12))
    examples, recipe = arc.training(task, None, tokenizer)
    candidates = [
        Candidate("base", "t", "baseline", None, -1, 0, 1, None),
        Candidate("tried", "t", "edit", "e", 0, 0, 1, replace(recipe, lr=0.01)),
    ]
    attempts = [Attempt(candidates[0], (), asks), Attempt(candidates[1], tuple(examples), asks)]
    trials = try_wave(model, tokenizer, attempts)
    assert not any(t.failure for t in trials)
    verdicts = [v for t in trials for v in arc.verdicts(task, t.candidate, t.answers)]
    edits = [Edit("e", "t", 0, "v", 0, (), (), (), "{}", "stop")]
    section = GradingSection(grader="exact", reward="contrast", contrast="token")
    worth = rewards(edits, candidates, trials, verdicts, section=section)
    per_view = []
    for question in ("0/v0", "0/v1"):
        right, wrong = (
            [[x.logprob / x.tokens for x in of if x.question == question] for of in by_trial]
            for by_trial in ([t.likelihoods for t in trials], [t.distractors for t in trials])
        )
        assert len(wrong[0]) == 3
        gains = [after - before for before, after in zip(*wrong, strict=True)]
        per_view.append(right[1][0] - right[0][0] - sum(gains) / 3)
    assert worth.measure == "contrast"
    assert worth.rewards[0].raw.mean == pytest.approx(sum(per_view) / 2, abs=1e-9) and per_view[0] != 0
