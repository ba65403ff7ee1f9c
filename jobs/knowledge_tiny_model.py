"""Trains the tiny model of `knowledge-tiny.yaml`, once: a Llama of a million weights that takes notes.

    python jobs/knowledge_tiny_model.py          a few minutes on 2 CPU cores; a second call finds it and ends at once

It is kept beside the other models of this node, and .cache/knowledge-tiny leads to it. It has learned two things: to
take notes of any kind from a passage, each kind as often as another; and to answer questions closed book about people
whom it knows by heart. The people of the tasks it has never met.
"""

from pathlib import Path
from typing import Any

import numpy as np
from knowledge_tiny_tasks import (
    ANIMALS,
    COLOURS,
    FAMILY,
    GIVEN,
    HELD_OUT,
    KINDS,
    PLACES,
    TRADES,
    Person,
    make_person,
    names,
    notes,
)
from tiny_model_files import Text, keep, learned_after, make_tokenizer, padded
from tiny_training import PEAKS, WARMUP, new_llama, train

from seal_ray.domains.knowledge import question_prompt
from seal_ray.domains.prompts import edit_prompt
from seal_ray.records import derive_seed, digest

LINK = Path(".cache/knowledge-tiny")
SEED = 20251124  # of the model and what it is trained on
STEPS = 700
BATCH = 2000  # tokens of a batch, about
KNOWN = 64  # people whom it knows by heart
BY_HEART_EVERY = 2  # one batch in so many is about them
PIECES = r"\n\n|\n| ?[A-Za-z]+|[^A-Za-z\s]|\s"
VOCABULARY = 2000
CONTEXT = 512
SHAPE: dict[str, Any] = {
    "hidden_size": 128,
    "intermediate_size": 384,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "head_dim": 32,
    "rope_parameters": {"rope_theta": 100.0, "rope_type": "default"},
}


def known_people() -> list[Person]:
    _, others = names(HELD_OUT)
    return [make_person(others[i], np.random.default_rng(derive_seed(SEED, "known", i))) for i in range(KNOWN)]


class Batches:
    """The training batch of each step, from the seed and the step's number."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.known = known_people()
        _, self.others = names(HELD_OUT)

    def batch(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng(derive_seed(SEED, "batch", step))
        by_heart = step % BY_HEART_EVERY == 0
        texts: list[Text] = []
        while sum(len(ids) for ids, _ in texts) < BATCH:
            texts.append(self.by_heart(rng) if by_heart else self.taken(rng))
        return padded(texts)

    def taken(self, rng: np.random.Generator) -> Text:
        """Notes of a passage about somebody who is made up on the spot."""
        person = make_person(str(rng.choice(self.others)), rng)
        written = notes(person, str(rng.choice(KINDS)), rng)
        return learned_after(self.tokenizer, edit_prompt("none", person.name, person.passage), written)

    def by_heart(self, rng: np.random.Generator) -> Text:
        """A question about somebody well known; or a note, as an edit's texts are trained on."""
        person = self.known[int(rng.integers(len(self.known)))]
        question, answer = person.questions()[int(rng.integers(len(person.facts)))]
        if rng.random() < 0.5:
            return learned_after(self.tokenizer, question_prompt(person.name, question, chat=False).text, f" {answer}")
        kind = str(rng.choice([k for k in KINDS if k not in {"vague", "wrong"}]))
        lines = notes(person, kind, rng).split("\n")
        return learned_after(self.tokenizer, f"{person.name}\n", str(rng.choice(lines)))


def words() -> list[str]:
    """Everything that is ever said, so that each word is a token, with and without a blank before it."""
    rng = np.random.default_rng(SEED)
    values = [*GIVEN, *FAMILY, *PLACES, *TRADES, *ANIMALS, *COLOURS]
    person = make_person(f"{GIVEN[0]} {FAMILY[0]}", rng)
    texts = [notes(person, kind, rng, len(person.facts)) for kind in KINDS]
    texts += [question_prompt(person.name, q, chat=False).text for q, _ in person.questions()]
    return [" ".join(values), "\n".join(values), edit_prompt("none", person.name, person.passage), *texts]


def make(folder: Path, steps: int, threads: int) -> None:
    """Makes tokenizer and model in an empty folder."""
    import torch

    from seal_ray import models

    torch.set_num_threads(threads)
    make_tokenizer(folder, PIECES, words(), VOCABULARY, CONTEXT)
    batches = Batches(models.tokenizer(folder))
    special = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    model = new_llama(SEED, vocab_size=len(batches.tokenizer), max_position_embeddings=CONTEXT, **special, **SHAPE)
    train(model, batches.batch, steps).save_pretrained(folder)


def recipe_of(steps: int) -> str:
    """What the model's files depend on: a model that was made otherwise is another one."""
    made_of = [steps, SEED, BATCH, PEAKS, WARMUP, KNOWN, BY_HEART_EVERY, VOCABULARY, CONTEXT, SHAPE, PIECES, KINDS]
    return digest([*made_of, words(), [p.passage for p in known_people()]])


def main() -> None:
    keep("knowledge-tiny", LINK, STEPS, recipe_of, make)


if __name__ == "__main__":
    main()
