"""The tiny world of knowledge: people that their seed makes, kinds of notes that differ, a model made in pieces."""

import json
from importlib import import_module as job
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_worlds import tiny_world

from seal_ray import models
from seal_ray.records import Verdict


def tiny() -> tuple[Any, Any]:
    return tiny_world("knowledge-tiny.yaml")


def test_the_people_in_the_file_are_those_that_the_seed_makes() -> None:
    world = job("knowledge_tiny_tasks")
    kept = json.loads(world.FILE.read_text())
    assert world.passages(len(kept), world.HELD_OUT) == kept
    own, others = world.names(world.HELD_OUT)
    assert {p["title"] for p in kept} <= set(own) and not set(own) & set(others)
    for passage in kept:
        assert len({q["question"] for q in passage["questions"]}) == world.FACTS
        assert all(q["answer"] in passage["context"] for q in passage["questions"])


def test_there_are_tasks_for_the_rounds_and_held_out_ones_beside() -> None:
    config, domain = tiny()
    assert len(domain.tasks("train")) >= config.run.rounds * config.run.tasks_per_round
    assert len(domain.tasks("test")) >= config.evaluation.tasks
    assert all(
        len(wrong) == config.domain.distractors for t in domain.tasks("test") for wrong in t.distractors.values()
    )


def test_kinds_of_notes_say_what_they_are_for() -> None:
    world = job("knowledge_tiny_tasks")
    rng = np.random.default_rng(0)
    person = world.make_person("Zor Thorn", rng)
    answers = {value for _, value in person.facts}
    for kind in world.KINDS:
        text = world.notes(person, kind, rng, world.FACTS)
        lines = text.split("\n")
        assert len(lines) == world.FACTS and all("Zor Thorn" in line for line in lines)
        right = sum(any(f" {line} ".replace(".", " ").find(f" {a} ") >= 0 for a in answers) for line in lines)
        assert right == {"vague": 0, "wrong": 0}.get(kind, world.FACTS)
        assert world.kind_of(text) == {"wrong": "statement"}.get(kind, kind)
    assert world.kind_of("and so on") == "other"
    assert {len(world.notes(person, "question", rng).split("\n")) for _ in range(40)} == {2, 3, 4}


def test_the_model_learns_the_very_prompts_that_the_job_uses_and_has_not_met_its_people(tmp_path: Path) -> None:
    model = job("knowledge_tiny_model")
    _, domain = tiny()
    model.make_tokenizer(tmp_path, model.PIECES, model.words(), model.VOCABULARY, model.CONTEXT)
    tokenizer = models.tokenizer(tmp_path)
    for task in [*domain.tasks("train"), *domain.tasks("test")]:
        asked = domain.edit_request(task, 0).prompt.text
        ids = tokenizer(asked, add_special_tokens=False)["input_ids"]
        assert tokenizer.decode(ids) == asked and len(ids) < 60, "each word is a token"
        assert task.data["title"] not in {p.name for p in model.known_people()}
    batches = model.Batches(tokenizer)
    ids, labels = batches.batch(1)
    text, learned = (tokenizer.decode([i for i in row if i > 0]) for row in (ids[0].tolist(), labels[0].tolist()))
    prompt, _, written = text.partition("\n\n")
    assert learned == written and written.endswith("<end>") and prompt.startswith("<start>")
    again, _ = batches.batch(1)
    assert (again == ids).all()


def test_the_model_is_made_once_and_found_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = job("knowledge_tiny_model")
    monkeypatch.setattr(model, "BATCH", 200)
    words = ["", "--steps", "2", "--threads", "1", "--cache", str(tmp_path / "cache"), "--link", str(tmp_path / "link")]
    monkeypatch.setattr("sys.argv", words)
    model.main()
    models.check(tmp_path / "link", "the model that was trained")
    assert "step 2 of 2" in capsys.readouterr().out
    model.main()
    assert "step" not in capsys.readouterr().out
    one = model.recipe_of(2)
    monkeypatch.setattr(model, "KNOWN", 3)
    assert one != model.recipe_of(2)


def test_false_homes_are_planted_and_rights_are_counted_by_arm() -> None:
    program = job("false_lines_tiny")
    _, domain = tiny()
    tasks = list(domain.tasks("train"))[:6]
    for kind in program.NOTES:
        for name, one in program.planted_notes(tasks, kind).items():
            (place,) = one.planted
            context = next(t for t in tasks if t.id == name).data["context"]
            assert [n for n, (a, b) in enumerate(zip(one.clean, one.false, strict=True)) if a != b] == [place]
            assert one.false[place].rstrip(".").split()[-1] not in context
            assert one.kept == tuple(n for n in range(4) if n != place), "the check takes the false line and no other"
    task = tasks[0]
    asked = [q["question"] for q in task.data["questions"]]
    home = next(n for n, q in enumerate(asked) if q.startswith("Where does"))
    verdicts = [
        (arm, task, Verdict("c", f"{task.id}#{n}", "exact", right, float(right)))
        for arm, right in (("clean", True), ("false", False), ("checked", True))
        for n in range(len(asked))
        if n == home or arm != "false"
    ]
    assert program.rights(verdicts, of_home=True) == [{"clean": 1.0, "false": 0.0, "checked": 1.0}]
    assert program.rights(verdicts, of_home=False) == [], "a task that lacks an arm is not compared"
