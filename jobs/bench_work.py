"""What the benchmark of the inner loop gives every arm: published edits, or made-up texts that are as long."""

import json
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seal_ray.records import Example

MAX_TEXTS = 30
QUESTIONS = 5  # per candidate, about what a passage of the published test has


@dataclass
class Work:
    """What every arm is given: for each candidate its texts and its questions' prompts."""

    examples: list[list[Example]]
    prompts: list[list[list[int]]]
    eos: tuple[int, ...]

    @property
    def tokens(self) -> int:
        return sum(len(e.ids) for own in self.examples for e in own)


def published(file: Path, tokenizer: Any, count: int, variant: str) -> Work:
    """Candidates from published edits: the edit line by line, each line after the title, the passage last."""
    end = tokenizer.eos_token_id
    examples, prompts = [], []
    for passage in json.loads(file.read_text()):
        edit = passage["edits"].get(variant) or ""
        lines = [line.strip() for part in edit.split("---") for line in part.split("\n") if line.strip()]
        if not lines or len(examples) == count:
            continue
        texts = [f"{passage['title']}\n{line}" for line in [*lines[: MAX_TEXTS - 1], passage["context"]]]
        ids = [(*tokenizer(text)["input_ids"], end) for text in texts]
        examples.append([Example(i, (True,) * len(i)) for i in ids])
        asked = [f"Topic: {passage['title']}\nQuestion: {q['question']}\nAnswer:" for q in passage["questions"]]
        prompts.append([list(tokenizer(text)["input_ids"]) for text in asked[:QUESTIONS]])
    if len(examples) < count:
        raise SystemExit(
            f"{file} has {len(examples)} passages with a {variant!r} edit; ask for --candidates up to that"
        )
    return Work(examples, prompts, (end,))


def made_up(count: int, vocabulary: int, scale: float, uneven: bool) -> Work:
    """Random tokens in texts as long as the published ones: 8.6 texts an edit, 46 tokens on average, median 30.

    With a `scale` all texts are that many times as long; `uneven` candidates have from half to twice as many texts.
    """
    rng = random.Random(0)

    def ids(low: float, middle: float, spread: float, high: float) -> tuple[int, ...]:
        length = round(scale * min(high, max(low, rng.gauss(middle, spread))))
        return tuple(rng.randrange(3, vocabulary) for _ in range(length))

    examples, prompts = [], []
    for _ in range(count):
        texts = min(14, max(3, rng.gauss(7.6, 2))) * (rng.choice((0.5, 1, 2)) if uneven else 1)
        lines = [ids(12, 29, 9, 70) for _ in range(round(texts))]
        passage = ids(80, 178, 50, 400)
        examples.append([Example(t, (True,) * len(t)) for t in [*lines, passage]])
        prompts.append([list(ids(18, 30, 6, 50)) for _ in range(QUESTIONS)])
    return Work(examples, prompts, ())
