"""Trains the tiny model of `directives-tiny.yaml`, once: a Llama of a million weights whose edits have directives.

    python jobs/directives_tiny_model.py         some minutes of CPU; a second call finds it and ends at once

It is kept beside the other models of this node, and .cache/directives-tiny leads to it. It has learned two things: to
write of any passage an edit under the job's schema, each directive as often one way as the other; and to answer
questions closed book about people whom it knows by heart, in the forms that edits are trained in. The people of the
tasks it has never met.
"""

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from knowledge_tiny_model import KNOWN, SHAPE, known_people
from knowledge_tiny_tasks import (
    ANIMALS,
    COLOURS,
    FACTS,
    FAMILY,
    GIVEN,
    HELD_OUT,
    PLACES,
    RELATIONS,
    TRADES,
    Person,
    make_person,
    names,
    notes,
)
from tiny_model_files import Text, keep, learned_after, make_tokenizer, padded
from tiny_training import PEAKS, WARMUP, new_llama, train

from seal_ray import config_file
from seal_ray.config import DirectivesSection, KnowledgeDomain
from seal_ray.domains.pairs import QuestionAnswer
from seal_ray.domains.prompts import edit_prompt
from seal_ray.domains.questions import question_prompt
from seal_ray.domains.text_directives import instruction
from seal_ray.records import Json, derive_seed, digest

LINK = Path(".cache/directives-tiny")
JOB = Path(__file__).parent / "directives-tiny.yaml"
SEED = 20251126  # of the model and what it is trained on
STEPS = 700
WRITTEN, BY_HEART = 2400, 1200  # tokens of a batch of edits, and of one about people whom it knows; in turn
KINDS = ("question", "statement", "reverse")  # of the text in an edit
COUNTS = (2, 4)
VOCABULARY = 3000
CONTEXT = 512


@cache
def offered() -> DirectivesSection:
    section = config_file.load(JOB).domain
    assert isinstance(section, KnowledgeDomain) and section.max_texts == FACTS
    return section.directives


def asked(person: Person) -> str:
    """What the policy is asked."""
    passage = edit_prompt("none", person.name, person.passage)
    return f"{passage}\n\n{instruction(offered(), FACTS)}\n\nJSON: "


def pieces() -> str:
    """What is a token at most. Each line of the instruction, for they are the same in every prompt; and each name of a
    directive with what is around it."""
    lines = "|".join(re.escape(line) for line in instruction(offered(), FACTS).split("\n"))
    return rf'{lines}|"?,? ?{{?"[a-z_]+": "?|"}}|\\n|\n\n|\n| ?[0-9]+\.?[0-9]*| ?[A-Za-z]+|[^A-Za-z0-9\s]|\s'


def text_of(person: Person, kind: str, rng: np.random.Generator) -> str:
    if kind != "question":
        return notes(person, kind, rng, FACTS)
    pairs = enumerate(person.questions(), 1)
    return "\n".join(f"Question {number}: {question}\nAnswer: {answer}" for number, (question, answer) in pairs)


def edit(person: Person, rng: np.random.Generator, **given: Json) -> str:
    """An edit whose directives are drawn evenly, but for those that are given; `kind` is that of its text."""
    directives = offered()
    kind = str(given.pop("kind", rng.choice(KINDS)))
    drawn: dict[str, Json] = {
        "objective": str(rng.choice(directives.objectives)),
        "learning_rate": float(rng.choice(directives.learning_rates)),
        "epochs": int(rng.choice(directives.epoch_choices)),
        "statements": kind != "question",
        "questions": kind == "question",
        "passage": bool(rng.integers(2)),
        "count": int(rng.choice(COUNTS)),
        "text": text_of(person, kind, rng),
    }
    return json.dumps(drawn | given)


class Batches:
    """The training batch of each step, from the seed and the step's number."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.known = known_people()
        _, self.others = names(HELD_OUT)

    def batch(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng(derive_seed(SEED, "batch", step))
        one, size = (self.written, WRITTEN) if step % 2 else (self.by_heart, BY_HEART)
        texts: list[Text] = []
        while sum(len(ids) for ids, _ in texts) < size:
            texts.append(one(rng))
        return padded(texts)

    def written(self, rng: np.random.Generator) -> Text:
        """An edit for a passage about somebody who is made up on the spot."""
        person = make_person(str(rng.choice(self.others)), rng)
        return learned_after(self.tokenizer, asked(person), edit(person, rng))

    def by_heart(self, rng: np.random.Generator) -> Text:
        """A question about somebody well known; or the same as one of an edit's texts."""
        person = self.known[int(rng.integers(len(self.known)))]
        question, answer = person.questions()[int(rng.integers(len(person.facts)))]
        if rng.random() < 0.5:
            return learned_after(self.tokenizer, question_prompt(person.name, question, chat=False).text, f" {answer}")
        kind = str(rng.choice(KINDS))
        if kind == "question":
            return learned_after(self.tokenizer, f"{person.name}\n", str(QuestionAnswer(question, answer)))
        return learned_after(self.tokenizer, f"{person.name}\n", str(rng.choice(notes(person, kind, rng).split("\n"))))


def words() -> list[str]:
    """Everything that is ever said, so that each word is a token, with and without a blank before it."""
    rng = np.random.default_rng(SEED)
    values = [*GIVEN, *FAMILY, *PLACES, *TRADES, *ANIMALS, *COLOURS]
    person = make_person(f"{GIVEN[0]} {FAMILY[0]}", rng)
    directives, texts = offered(), [asked(person)]
    for kind in KINDS:
        texts += [text_of(person, kind, rng), edit(person, rng, kind=kind)]
    texts += [question_prompt(person.name, question, chat=False).text for question, _ in person.questions()]
    chosen = [*directives.objectives, *directives.learning_rates, *directives.epoch_choices, *COUNTS, *range(1, 5)]
    return [" ".join(values), "\n".join(values), "\n".join(map(str, chosen)), "true\nfalse true", *texts]


def make(folder: Path, steps: int, threads: int) -> None:
    """Makes tokenizer and model in an empty folder."""
    import torch

    from seal_ray import models

    torch.set_num_threads(threads)
    make_tokenizer(folder, pieces(), words(), VOCABULARY, CONTEXT)
    batches = Batches(models.tokenizer(folder))
    special = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    model = new_llama(SEED, vocab_size=len(batches.tokenizer), max_position_embeddings=CONTEXT, **special, **SHAPE)
    train(model, batches.batch, steps).save_pretrained(folder)


def recipe_of(steps: int) -> str:
    """What the model's files depend on: a model that was made otherwise is another one."""
    made_of = [steps, SEED, WRITTEN, BY_HEART, PEAKS, WARMUP, KNOWN, VOCABULARY, CONTEXT, SHAPE, pieces(), KINDS]
    forms = [[r.passage, r.statement, r.reverse, r.question] for r in RELATIONS]
    return digest([*made_of, COUNTS, forms, words(), [p.passage for p in known_people()]])


def main() -> None:
    keep("directives-tiny", LINK, STEPS, recipe_of, make)


if __name__ == "__main__":
    main()
