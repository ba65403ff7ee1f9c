"""The tiny world of directives: edits of its own schema, evenly drawn, that its domain reads and a bank can learn."""

import json
from collections import Counter
from importlib import import_module as job
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from one_process_crew import OneProcessCrew
from tiny_worlds import JOBS, tiny_world

from seal_ray import config_file, models
from seal_ray.domains.base import Rejected
from seal_ray.errors import ConfigError
from seal_ray.records import Edit


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The world's tokenizer: no model has to be there."""
    model = job("directives_tiny_model")
    folder = tmp_path_factory.mktemp("tokenizer")
    model.make_tokenizer(folder, model.pieces(), model.words(), model.VOCABULARY, model.CONTEXT)
    return models.tokenizer(folder)


def test_the_model_learns_the_very_prompt_that_the_job_uses_and_has_not_met_its_people(made: Any) -> None:
    model, world = job("directives_tiny_model"), job("knowledge_tiny_tasks")
    config, domain = tiny_world("directives-tiny.yaml")
    everybody = {p.name: p for p in world.people(world.PEOPLE, world.HELD_OUT)}
    assert len(domain.tasks("train")) >= config.run.rounds * config.run.tasks_per_round
    assert len(domain.tasks("test")) >= config.evaluation.tasks
    for task in [*domain.tasks("train")[:8], *domain.tasks("test")[:8]]:
        asked = domain.edit_request(task, 0)
        assert asked.prompt.text == model.asked(everybody[task.data["title"]])
        assert asked.schema, "on a cluster it is sampled under the schema"
        ids = made(asked.prompt.text)["input_ids"]
        assert len(ids) < 64, "each word is a token, and so is each line of the instruction"
        assert made.decode(ids, skip_special_tokens=True) == asked.prompt.text
        assert task.data["title"] not in {p.name for p in model.known_people()}


def test_its_edits_are_read_and_their_directives_followed(made: Any) -> None:
    model, world = job("directives_tiny_model"), job("knowledge_tiny_tasks")
    config, domain = tiny_world("directives-tiny.yaml")
    everybody = {p.name: p for p in world.people(world.PEOPLE, world.HELD_OUT)}
    rng, failed, learned = np.random.default_rng(0), 0, Counter[str]()
    task = domain.tasks("train")[0]
    for _ in range(60):
        text = model.edit(everybody[task.data["title"]], rng)
        ids = made(text, add_special_tokens=False)["input_ids"]
        assert made.decode(ids) == text and len(ids) < config.sampling.max_tokens
        content = domain.parse(task, text)
        assert content == json.loads(text), "it is read as it was written"
        learned.update(f"{k} {v}" for k, v in content.items() if k != "text")
        learned[world.kind_of(content["text"])] += 1
        try:
            examples, recipe = domain.training(task, content, made)
        except Rejected as rejected:
            assert rejected.failure.kind == "no_pairs" and content["objective"] == "answers"
            assert not content["questions"]
            failed += 1
            continue
        assert len(examples) == content["count"] + content["passage"]
        assert (recipe.objective, recipe.lr, recipe.epochs) == (
            content["objective"], content["learning_rate"], content["epochs"],
        )  # fmt: skip
    assert 10 <= failed <= 30, "a third cannot be: answers without questions"
    for name in ("objective text", "learning_rate 0.003", "epochs 8", "passage True", "count 4"):
        assert 18 <= learned[name] <= 42, (name, "is drawn as often as not")
    assert all(learned[kind] >= 10 for kind in model.KINDS)


def test_a_batch_holds_edits_and_what_is_known_by_heart_in_turn(made: Any) -> None:
    batches = job("directives_tiny_model").Batches(made)
    for step, first in ((1, '{"objective"'), (0, "")):
        ids, labels = batches.batch(step)
        again, _ = batches.batch(step)
        assert (again == ids).all() and (labels[labels >= 0] == ids[labels >= 0]).all()
        said = made.decode(labels[0][labels[0] >= 0].tolist())
        assert said.startswith(first) and said.endswith("<end>")


def test_curves_tell_what_an_edit_has_chosen_and_the_bank_refuses_a_schema(tmp_path: Path) -> None:
    curves, model, world = job("learning_curves"), job("directives_tiny_model"), job("knowledge_tiny_tasks")
    person = world.people(1, world.HELD_OUT)[0]
    best = {"objective": "answers", "learning_rate": 3e-3, "epochs": 8, "count": 4, "kind": "question"}
    text = model.edit(person, np.random.default_rng(0), passage=False, **best)
    edit = Edit("e", "t", 0, "v", 0, (), (), (), text, "stop", content=json.loads(text))
    told = curves.WORLDS["directives"].traits(edit)
    assert told == {
        "learning_rate": 3e-3, "epochs": 8, "count": 4, "passage": 0,
        "question": 1, "statement": 0, "reverse": 0, "answers": 1,
    }  # fmt: skip
    plain = config_file.load(JOBS / "directives-tiny.yaml")
    with pytest.raises(ConfigError, match="no schema"):
        OneProcessCrew().hire(plain, "", lambda event: None)
