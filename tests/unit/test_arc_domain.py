"""The few-shot domain as the rest of the house sees it: found by name, asked for edits, checked against the rest."""

import json

import jsonschema
import pytest
from arc_data import domain

from seal_ray.commands.terminal import show_inspection
from seal_ray.config import AnsweringSection, ArcDomain
from seal_ray.domains import load_domain
from seal_ray.domains.arc import build
from seal_ray.errors import ConfigError, DataError
from seal_ray.models import render, tokenizer
from seal_ray.models.builtin import make_tiny
from seal_ray.records import Answer, Candidate, Failure, Recipe, Trial, encode

PAIR = {"input": [[1, 2], [3, 4]], "output": [[4, 3], [2, 1]]}
FILE = json.dumps({"a": {"train": [PAIR, PAIR, PAIR], "test": [PAIR]}}).encode()
EDIT = {
    "basic": True,
    "size": False,
    "chain": True,
    "repeat": False,
    "loss": "all",
    "learning_rate": 0.001,
    "epochs": 2,
}


def arc(**options):
    made = domain({"challenges.json": FILE}, **options)
    return made, made.tasks("train")[0]


def build_with(recipe=None, max_tokens=3000, **section):
    made = build(
        ArcDomain(data="c.json", **section),
        recipe=recipe or Recipe(epochs=2),
        answering=AnsweringSection(max_tokens=max_tokens),
        chat=False,
        seed=0,
        read={"c.json": FILE}.__getitem__,
    )
    made.tasks("train")  # the data is read when it is asked for
    return made


def test_the_domain_is_found_under_its_name():
    made = load_domain(
        ArcDomain(data="c.json"),
        recipe=Recipe(epochs=2),
        answering=AnsweringSection(max_tokens=3000),
        chat=False,
        seed=0,
        read={"c.json": FILE}.__getitem__,
    )
    assert isinstance(made, type(build_with()))


def test_an_edit_request_shows_the_puzzle_without_its_answer_and_names_what_is_offered():
    made, task = arc(learning_rates=(1e-5, 1e-4), epoch_choices=(1, 2))
    request = made.edit_request(task, 0)
    assert "Input:\n12\n34\nOutput:\n43\n21\n" in request.prompt.text
    assert "Output:\n?" in request.prompt.text and "1e-05 or 0.0001" in request.prompt.text
    assert request.schema is not None
    jsonschema.validate({**EDIT, "learning_rate": 1e-5}, request.schema)


def test_directives_are_constrained_unless_the_configuration_says_no():
    made, task = arc()
    assert made.edit_request(task, 0).schema is not None
    made, task = arc(constrained=False)
    request = made.edit_request(task, 0)
    assert request.schema is None and request.max_tokens is None


def test_a_parsed_edit_is_plain_data_that_can_be_trained_on(tmp_path):
    make_tiny(tmp_path)
    made, task = arc()
    content = made.parse(task, "Here: " + json.dumps(EDIT))
    assert json.loads(json.dumps(content)) == content == EDIT
    examples, recipe = made.training(task, content, tokenizer(tmp_path))
    assert examples and (recipe.lr, recipe.epochs) == (0.001, 2)
    assert isinstance(made.parse(task, "no"), Failure)


@pytest.mark.parametrize("chat", [False, True])
def test_every_prompt_can_be_rendered_for_a_base_and_for_an_instruct_model(tmp_path, chat):
    make_tiny(tmp_path)
    tiny = tokenizer(tmp_path)
    made, task = arc(chat=chat)
    for prompt in [made.edit_request(task, 0).prompt, *(q.prompt for q in made.questions(task))]:
        assert prompt.chat == chat
        text = tiny.decode(render(tiny, prompt))
        assert ("assistant" in text) == chat and prompt.text in text
    assert {q.stop for q in made.questions(task)} == {() if chat else ("\n\n",)}


def test_answers_too_short_for_the_grids_are_refused_when_the_run_is_set_up():
    build_with(max_tokens=2)
    with pytest.raises(
        ConfigError, match=r"answering\.max_tokens: 1 cuts off a grid of 4 cells, as task a has; use 929"
    ):
        build_with(max_tokens=1)
    with pytest.raises(ConfigError, match="use 2760"):
        build_with(max_tokens=3, grid_format="lists")


def test_answers_are_never_longer_than_the_configuration_allows():
    made = build_with(max_tokens=50)
    assert {q.max_tokens for q in made.questions(made.tasks("train")[0])} == {50}


def test_a_recipe_that_no_example_fits_is_refused_when_the_run_is_set_up():
    with pytest.raises(ConfigError, match=r"inner\.epochs: 10 passes over one example are over domain\.max_steps: 9"):
        build_with(recipe=Recipe(epochs=10), max_steps=9)


def test_a_file_that_is_not_arc_is_an_error_of_the_data():
    with pytest.raises(DataError, match=r"challenges\.json: not JSON"):
        domain({"challenges.json": b"{"}).tasks("train")


def test_a_person_sees_what_each_view_answered_and_what_the_vote_came_to():
    made, task = arc(views=2)
    answers = tuple(Answer(q.id, q.gold[0], 5, "stop", -1.0) for q in made.questions(task))
    trial = Trial("c", task.id, answers=answers, worker="w")
    found = {
        "round": 1,
        "candidate": encode(Candidate("c", task.id, "baseline", None, -1, 0, 1, None)),
        "trial": encode(trial),
        "verdicts": [encode(v) for v in made.verdicts(task, "c", answers)],
    }
    shown = [line.split() for line in show_inspection(found).splitlines()[2:]]
    assert shown == [
        ["0/v0:", repr(answers[0].text)],
        ["0/v1:", repr(answers[1].text)],
        ["right", "0", "as", "a", "whole"],
    ]


def test_a_task_is_described_by_what_its_verdicts_are_about():
    made, task = arc(views=2)
    told = made.describe(task)
    assert told.title == task.id and "12\n34" in told.text
    answers = tuple(Answer(q.id, q.gold[0], 5, "stop", -1.0) for q in made.questions(task))
    assert [q.id for q in told.questions] == [v.question for v in made.verdicts(task, "c", answers)]
    assert [part for q in told.questions for part in q.parts] == [a.question for a in answers]
    assert [q.gold for q in told.questions] == [(t["output"],) for t in task.data["test"]]


def test_the_questions_that_must_not_get_worse_are_in_a_file_of_the_same_format():
    made, _ = arc(validation=0.5)
    made._read = {"guarded.json": FILE}.__getitem__
    assert {t.id for t in made.regression("guarded.json")} == set(json.loads(FILE))
