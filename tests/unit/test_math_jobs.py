"""The tiny world of mathematics: a file that its seed makes, a model that learns the very prompts that the job uses."""

import json
from importlib import import_module as job
from typing import Any

import numpy as np
from tiny_worlds import JOBS, tiny_world

from seal_ray import config_file, models


def tiny() -> Any:
    return tiny_world("math-tiny.yaml")[1]


def test_the_file_is_what_its_seed_makes_and_true():
    made = job("math_tiny_tasks")
    kept = [json.loads(line) for line in made.FILE.read_text().splitlines()]
    assert kept == made.rows(made.GROUPS, made.HELD_OUT)
    for row in kept[:50]:
        a, letter, b = row["problem"].split()
        rule = row["context"].split(f"a {letter} b is ")[1]
        assert row["answer"] == str(made.RULES[rule](int(a), int(b)) % made.CLOCK)


def test_the_job_has_held_out_tasks_whose_rules_are_not_among_those_that_are_learned():
    config, domain = config_file.load(JOBS / "math-tiny.yaml"), tiny()
    by_split = {s: domain.tasks(s) for s in ("train", "validation", "test")}
    assert len(by_split["train"]) >= config.run.rounds * config.run.tasks_per_round
    assert len(by_split["test"]) >= config.evaluation.tasks
    contexts = {s: {t.data["context"] for t in tasks} for s, tasks in by_split.items()}
    assert not contexts["train"] & contexts["test"]
    assert all(len(t.data["asked"]) == 8 for tasks in by_split.values() for t in tasks)


def test_the_model_learns_the_prompts_that_the_job_uses_and_edits_that_it_reads(tmp_path):
    model, made, domain = job("math_tiny_model"), job("math_tiny_tasks"), tiny()
    model.write_tokenizer(tmp_path)
    tokenizer = models.tokenizer(tmp_path)
    task = domain.tasks("train")[0]
    letter, rule = task.data["context"].split(" ")[1], task.data["context"].split(" is ")[1]
    prompt = domain.edit_request(task, 0).prompt.text
    assert prompt == model.asked(letter, rule, task.data["shown"][0])
    rng, ways = np.random.default_rng(0), {}
    for _ in range(30):
        text, way = model.edit(letter, rule, rng)
        assert domain.parse(task, text) == text and len(tokenizer(text)["input_ids"]) < 128
        texts = domain.texts(task, text)
        ways[way] = len(set(texts))
        true = [t.split("Answer: ")[1] == made.answer(rule, int(t[9]), int(t[13])) for t in texts]
        assert all(true) if way != "untrue" else not any(true)
        assert made.way_of(text, rule) == (way, float(way != "untrue"))
    assert ways == {"many": model.MANY, "few": model.FEW, "untrue": model.MANY, "same": 1}
    batches = model.Batches(tokenizer)
    (ids, labels), (again, _) = batches.batch(0), batches.batch(0)
    assert (ids == again).all() and (labels[labels >= 0] == ids[labels >= 0]).all()
    ids, learned = batches.text("named", "Q", "a plus b", rng)
    said = tokenizer.decode([i for i, one in zip(ids, learned, strict=True) if one])
    assert said.endswith("<end>") and len(said.split("<end>")[0].split()) == 6
