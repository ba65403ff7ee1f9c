"""Trains the tiny model of `math-tiny.yaml`, once: a small Llama that has seen made-up arithmetic.

    python jobs/math_tiny_model.py         two minutes of CPU; a second call finds it and ends at once

It is kept beside the other models of this node, and .cache/math-tiny leads to it. It knows what each rule does to two
digits where the rule is named, or shown by examples; a bare problem names none. It also writes edits when it is asked
for them, in several ways, of which only one teaches much: true examples in number. Which one, it does not know.
"""

import re
from pathlib import Path
from typing import Any

import numpy as np
from math_tiny_tasks import CLOCK, HEADS, LETTERS, RULES, WAYS, context, draw_problems
from tiny_model_files import Text, keep, make_tokenizer, padded
from tiny_training import PEAKS, WARMUP, new_llama, train

from seal_ray.domains.math.prompts import edit_prompt, question_prompt
from seal_ray.records import derive_seed, digest

LINK = Path(".cache/math-tiny")
SEED = 20251125  # of the model and what it is trained on
STEPS = 1600
BATCH = 1000  # tokens of a batch, about
PIECES = r"\n\n|\n|[0-9]| ?[A-Za-z]+|[^A-Za-z0-9\s]+ ?|\s"  # a digit is a token of its own
VOCABULARY = 420
CONTEXT = 512
SHAPE: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 192,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "rope_parameters": {"rope_theta": 100.0, "rope_type": "default"},
}
# kinds of texts in a batch: named rule, examples alone, bare problems, edits, true edits of which answers are learned
SHARES = {"named": 0.2, "examples": 0.1, "bare": 0.05, "edit": 0.3, "true": 0.35}
MANY, FEW = 8, 2


def asked(letter: str, rule: str, shown: str) -> str:
    """What math-tiny's policy is asked."""
    return edit_prompt("similar", context(letter, rule), shown, chat=False, thought=False)


def written(pairs: list[tuple[str, str]]) -> str:
    return "\n\n".join(f"Problem: {problem}\nAnswer: {answer}" for problem, answer in pairs)


def edit(letter: str, rule: str, rng: np.random.Generator, way: str = "") -> tuple[str, str]:
    """An edit in one of the ways, drawn by their shares unless it is given, and which that is."""
    way = way or str(rng.choice(list(WAYS), p=list(WAYS.values())))
    pairs = draw_problems(letter, rule, {"few": FEW, "same": 1}.get(way, MANY), rng)
    if way == "same":
        pairs *= MANY
    if way == "untrue":
        pairs = [(p, str((int(right) + int(rng.integers(1, CLOCK))) % CLOCK)) for p, right in pairs]
    return f"{HEADS[way]}\n\n{written(pairs)}", way


class Batches:
    """The training batch of each step, from the seed and the step's number."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer

    def batch(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """Ids and labels, [text, token]; labels are -100 where nothing is learned."""
        rng = np.random.default_rng(derive_seed(SEED, "batch", step))
        kind = str(rng.choice(list(SHARES), p=list(SHARES.values())))
        texts: list[Text] = []
        while sum(len(ids) for ids, _ in texts) < BATCH:
            letter, rule = str(rng.choice(list(LETTERS))), str(rng.choice(list(RULES)))
            texts.append(self.text(kind, letter, rule, rng))
        return padded(texts)

    def text(self, kind: str, letter: str, rule: str, rng: np.random.Generator) -> Text:
        """One text's ids, and which of them are learned: answers and what ends them; of an edit, all of it."""
        if kind == "edit":
            (shown, _), *_ = draw_problems(letter, rule, 1, rng)
            return self._joined([(asked(letter, rule, shown), False), (edit(letter, rule, rng)[0], True)])
        if kind == "true":
            return self._true_edit(letter, rule, rng)
        parts = [(context(letter, rule) + "\n\n", False)] if kind == "named" else []
        count = {"named": 6, "examples": 10, "bare": 1}[kind]
        for number, (problem, answer) in enumerate(draw_problems(letter, rule, count, rng)):
            prompt = question_prompt(problem, chat=False, thought=False).text
            parts += [("\n\n" * bool(number) + prompt, False), (f" {answer}", True)]
        return self._joined(parts)

    def _true_edit(self, letter: str, rule: str, rng: np.random.Generator) -> Text:
        """An edit whose examples are true; what is learned of it is to answer, and not what to ask."""
        (shown, _), *_ = draw_problems(letter, rule, 1, rng)
        text, _ = edit(letter, rule, rng, str(rng.choice(["many", "few", "same"])))
        parts = [(asked(letter, rule, shown), False)]
        parts += [(piece, piece[1:].isdigit()) for piece in re.split(r"(?<=Answer:)( \d)", text)]
        return self._joined(parts)

    def _joined(self, parts: list[tuple[str, bool]]) -> Text:
        ids, learned = [self.tokenizer.bos_token_id], [False]
        for text, learns in parts:
            own = self.tokenizer(text, add_special_tokens=False)["input_ids"]
            ids += own
            learned += [learns] * len(own)
        return [*ids, self.tokenizer.eos_token_id], [*learned, True]


def write_tokenizer(folder: Path) -> None:
    words = "\n".join(context(letter, rule) for letter in LETTERS for rule in RULES)
    prompts = asked("A", "a plus b", "1 A 2") + "\n".join(HEADS.values()) + written([("1 A 2", "3")])
    make_tokenizer(folder, PIECES, [words + prompts], VOCABULARY, CONTEXT)


def make(folder: Path, steps: int, threads: int) -> None:
    """Makes tokenizer and model in an empty folder."""
    import torch

    from seal_ray import models

    torch.set_num_threads(threads)
    write_tokenizer(folder)
    batches = Batches(models.tokenizer(folder))
    size = len(batches.tokenizer)
    ends = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    model = new_llama(SEED, vocab_size=size, max_position_embeddings=CONTEXT, **ends, **SHAPE)
    train(model, batches.batch, steps).save_pretrained(folder)


def recipe_of(steps: int) -> str:
    """What the model's files depend on: a model that was made otherwise is another one."""
    made_of = [steps, BATCH, PEAKS, WARMUP, SHARES, WAYS, HEADS, MANY, FEW, VOCABULARY, SHAPE, PIECES, SEED]
    rng = np.random.default_rng(SEED)
    texts = [asked("A", rule, "1 A 2") + edit("A", rule, rng, way)[0] for rule in RULES for way in WAYS]
    return digest([*made_of, texts, question_prompt("1 A 2", chat=False, thought=False).text])


def main() -> None:
    keep("math-tiny", LINK, STEPS, recipe_of, make)


if __name__ == "__main__":
    main()
