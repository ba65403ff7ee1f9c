"""The few-shot domain with real parts: a bank that trains and answers, and a grammar that constrains."""

import json
import random

import pytest
from arc_data import domain

from seal_ray import models
from seal_ray.config import ArcDomain
from seal_ray.domains.arc.directives import Directives, output_schema, read_directives
from seal_ray.models.builtin import make_tiny
from seal_ray.records import Ask, Attempt, Candidate, Recipe
from seal_ray.trials.wave import try_wave

PAIRS = [{"input": [[i, i + 1]], "output": [[i + 1, i]]} for i in range(3)]
TASK = {"train": PAIRS, "test": [{"input": [[5, 6]], "output": [[6, 5]]}]}
CHOSEN = {
    "basic": False,
    "size": False,
    "chain": False,
    "repeat": False,
    "loss": "output",
    "learning_rate": 0.01,
    "epochs": 4,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("tiny")
    make_tiny(made)
    return made


def test_a_bank_trains_on_directives_and_its_answers_get_verdicts(folder):
    tokenizer, model = models.tokenizer(folder), models.load(folder, dtype="float32")
    arc = domain(
        {"challenges.json": json.dumps({"t": TASK}).encode()},
        recipe=Recipe(rank=8, epochs=4, batch_size=2, max_length=512),
        max_grid=2,
        views=2,
    )
    (task,) = arc.tasks("train")
    asks = tuple(
        Ask(
            q.id,
            tuple(models.render(tokenizer, q.prompt)),
            tuple((*tokenizer(g, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id) for g in q.gold),
            q.max_tokens,
            q.stop,
        )
        for q in arc.questions(task)
    )
    examples, recipe = arc.training(task, CHOSEN, tokenizer)
    candidates = [
        Attempt(Candidate("before", "t", "baseline", None, -1, 0, 1, None), (), asks),
        Attempt(Candidate("after", "t", "edit", "e", 0, 0, 1, recipe), tuple(examples), asks),
    ]
    before, after = try_wave(model, tokenizer, candidates)
    assert before.failure is None and after.failure is None
    assert after.cost.steps == recipe.steps(len(examples))
    assert {a.question for a in after.answers} == {"0/v0", "0/v1"}
    (verdict,) = arc.verdicts(task, "after", after.answers)
    assert verdict.failure is None and verdict.score in (0.0, 1.0)
    gold = [sum(x.logprob for x in trial.likelihoods) for trial in (before, after)]
    assert gold[1] > gold[0] + 1  # digits and their end are likelier once such outputs were learned


@pytest.mark.parametrize(
    "section",
    [
        ArcDomain(data="c", learning_rates=(1e-5, 3e-4, 0.01), epoch_choices=(1, 10)),
        ArcDomain(data="c", learning_rates=(0.001,), max_epochs=7),
    ],
)
def test_whatever_is_drawn_under_the_schema_is_a_set_of_directives(folder, section):
    xgrammar = pytest.importorskip("xgrammar")
    tokenizer = models.tokenizer(folder)
    info = xgrammar.TokenizerInfo.from_huggingface(tokenizer, vocab_size=len(tokenizer))
    compiled = xgrammar.GrammarCompiler(info).compile_json_schema(
        json.dumps(output_schema(section)), any_whitespace=False
    )
    draw, seen = random.Random(0), set()
    for _ in range(20):
        matcher, ids = xgrammar.GrammarMatcher(compiled), []
        bitmask = xgrammar.allocate_token_bitmask(1, len(tokenizer))
        while not matcher.is_terminated():
            matcher.fill_next_token_bitmask(bitmask)
            allowed = [i for i in range(len(tokenizer)) if bitmask[0, i // 32].item() >> (i % 32) & 1]
            ids.append(draw.choice(allowed))
            assert matcher.accept_token(ids[-1]) and len(ids) < 256
        found = read_directives(tokenizer.decode(ids, skip_special_tokens=True), section)
        assert isinstance(found, Directives)
        seen.add(found)
    assert len(seen) > 10
