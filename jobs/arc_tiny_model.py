"""Trains the tiny model of `arc-tiny.yaml`, once: a Llama of a million weights that has seen small grid puzzles.

    python jobs/arc_tiny_model.py          a few minutes on 2 CPU cores; a second call finds it and ends at once

It is kept beside the other models of this node, and .cache/arc-tiny leads to it. Most of the puzzles that it is trained
on come under their rule's name, so it knows what each rule does to a grid. A task names no rule, and to tell it from
demonstrations alone takes far longer to learn: that is what training on a task's own demonstrations can add. It also
writes random directives when it is asked for some.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
from arc_tiny_tasks import RULES, SIDE, challenges, make_puzzle
from tiny_model_files import Text, keep, make_tokenizer, padded
from tiny_training import PEAKS, WARMUP, new_llama, train

from seal_ray.config import AnsweringSection, ArcDomain
from seal_ray.domains.arc import build
from seal_ray.domains.arc.augment import FAMILIES
from seal_ray.domains.arc.formats import puzzle_text, write_grid
from seal_ray.domains.arc.grids import Puzzle
from seal_ray.records import Recipe, derive_seed, digest

LINK = Path(".cache/arc-tiny")
SEED = 20250612  # of the model and what it is trained on
STEPS = 800
BATCH = 2400  # tokens of a batch, about
NAMED, UNNAMED = (0, 0, 1, 2, 4), (2, 3, 4)  # demonstrations in a puzzle with or without its rule's name, drawn evenly
SHARE_NAMED = 0.7  # of the batches with puzzles
DIRECTIVES_EVERY = 16  # one batch in so many asks for directives
VOCABULARY = 480
CONTEXT = 1024
SHAPE: dict[str, Any] = {
    "hidden_size": 128,
    "intermediate_size": 384,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "head_dim": 32,
    "rope_parameters": {"rope_theta": 100.0, "rope_type": "default"},  # texts are short: tell near tokens apart
}
LEARNING_RATES, EPOCHS = (0.001, 0.002, 0.01), (4, 8, 12)
# a digit is a token of its own; what the prompts repeat becomes one token a piece
PIECES = r"Input:\n|Output:\n|\n\n|\n|[0-9]| ?[A-Za-z_]+|[^A-Za-z0-9\s]+ ?|\s"


# what it is trained on


def directives(rng: np.random.Generator) -> str:
    """Directives drawn evenly from what arc-tiny offers."""
    return json.dumps(
        {
            **{name: bool(rng.integers(2)) for name in FAMILIES},
            "loss": str(rng.choice(["all", "output"])),
            "learning_rate": float(rng.choice(LEARNING_RATES)),
            "epochs": int(rng.choice(EPOCHS)),
        },
        separators=(",", ":"),  # as constrained decoding writes it
    )


def edit_prompt() -> tuple[str, str]:
    """What arc-tiny's policy is asked, before and after the puzzle."""
    data = json.dumps(challenges(1, SEED)).encode()
    section = ArcDomain(data="arc-tiny", validation=0, test=0, learning_rates=LEARNING_RATES, epoch_choices=EPOCHS)
    domain = build(section, recipe=Recipe(), answering=AnsweringSection(), chat=False, seed=0, read=lambda _: data)
    text = domain.edit_request(domain.tasks("train")[0], 0).prompt.text
    return text[: text.index("Input:")], text[text.rindex("Output:\n") + len("Output:\n") :]


def draw_puzzle(shown: int, rng: np.random.Generator) -> tuple[str, Puzzle]:
    name = str(rng.choice(list(RULES)))
    return name, make_puzzle(name, shown, rng)


class Batches:
    """The training batch of each step, from the seed and the step's number."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.before, self.after = edit_prompt()
        (self.output,) = tokenizer("Output:\n", add_special_tokens=False)["input_ids"]

    def batch(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """Ids and labels, [text, token]; labels are -100 where nothing is learned."""
        rng = np.random.default_rng(derive_seed(SEED, "batch", step))
        if step % DIRECTIVES_EVERY == DIRECTIVES_EVERY - 1:
            return padded([self._directives(rng) for _ in range(BATCH // 240)])
        named = bool(rng.random() < SHARE_NAMED)
        shown = int(rng.choice(NAMED if named else UNNAMED))
        return padded([self.text(*draw_puzzle(shown, rng), named) for _ in range(self._count(shown))])

    def _count(self, shown: int) -> int:
        return max(2, BATCH // (2 * (SIDE + 1) ** 2 * (shown + 1)))

    def text(self, name: str, puzzle: Puzzle, named: bool = False) -> Text:
        """A puzzle's ids, and which of them are learned: its outputs and what ends each."""
        assert puzzle.output is not None
        heading = f"Rule: {name}\n" if named else ""
        text = heading + puzzle_text(puzzle, "digits") + write_grid(puzzle.output, "digits")
        ids = [*self.tokenizer(text)["input_ids"], self.tokenizer.eos_token_id]
        learned = [False] * len(ids)
        grid = SIDE * (SIDE + 1)  # its digits and line ends, the last of which ends the grid
        for at in (i for i, token in enumerate(ids) if token == self.output):
            learned[at + 1 : at + 1 + grid] = [True] * grid
        return ids, learned

    def _directives(self, rng: np.random.Generator) -> Text:
        _, puzzle = draw_puzzle(max(UNNAMED), rng)
        prompt = self.tokenizer(self.before + puzzle_text(puzzle, "digits") + self.after)["input_ids"]
        chosen = [*self.tokenizer(directives(rng), add_special_tokens=False)["input_ids"], self.tokenizer.eos_token_id]
        return prompt + chosen, [False] * len(prompt) + [True] * len(chosen)


# the model


def write_tokenizer(folder: Path) -> None:
    before, after = edit_prompt()
    rng = np.random.default_rng(SEED)
    names = "".join(f"Rule: {name}\n" for name in RULES)
    text = names + before + puzzle_text(draw_puzzle(2, rng)[1], "digits") + after + directives(rng)
    make_tokenizer(folder, PIECES, [text], VOCABULARY, CONTEXT)


def new_model(vocabulary: int) -> Any:
    return new_llama(
        SEED,
        vocab_size=vocabulary,
        max_position_embeddings=CONTEXT,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        **SHAPE,
    )


def make(folder: Path, steps: int, threads: int) -> None:
    """Makes tokenizer and model in an empty folder."""
    import torch

    from seal_ray import models

    torch.set_num_threads(threads)
    write_tokenizer(folder)
    batches = Batches(models.tokenizer(folder))
    train(new_model(len(batches.tokenizer)), batches.batch, steps).save_pretrained(folder)


def recipe_of(steps: int) -> str:
    """What the model's files depend on: a model that was made otherwise is another one."""
    made_of = [steps, BATCH, PEAKS, WARMUP, NAMED, UNNAMED, SHARE_NAMED, DIRECTIVES_EVERY, VOCABULARY, SHAPE, PIECES]
    return digest([*made_of, list(RULES), challenges(len(RULES), SEED), edit_prompt()])


def main() -> None:
    keep("arc-tiny", LINK, STEPS, recipe_of, make)


if __name__ == "__main__":
    main()
