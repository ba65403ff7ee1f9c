"""What the models of the tiny worlds share besides their training: a tokenizer of few words, batches, a place."""

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from seal_ray.models.cache import ModelCache

SPECIALS = ("<pad>", "<start>", "<end>")
Text = tuple[list[int], list[bool]]  # ids, and which of them are learned


def make_tokenizer(folder: Path, pieces: str, texts: Sequence[str], vocabulary: int, context: int) -> None:
    """Byte pairs within pieces, so that it can write anything, and one token for each piece that the texts hold."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pieces), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=list(SPECIALS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([*texts] * 4, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="<start> $A", special_tokens=[("<start>", 1)])
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        **dict(zip(("pad_token", "bos_token", "eos_token"), SPECIALS, strict=True)),
        "model_max_length": context,
        "clean_up_tokenization_spaces": False,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=1) + "\n")


def learned_after(tokenizer: Any, before: str, after: str) -> Text:
    """A text of which only what comes after is learned, to its end."""
    prompt = tokenizer(before)["input_ids"]
    learned = [*tokenizer(after, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
    return prompt + learned, [False] * len(prompt) + [True] * len(learned)


def padded(texts: Sequence[Text]) -> tuple[np.ndarray, np.ndarray]:
    """Ids and labels, [text, token]; labels are -100 where nothing is learned."""
    ids = np.zeros((len(texts), max(len(text) for text, _ in texts)), dtype=np.int64)
    labels = np.full_like(ids, -100)
    for row, (text, learned) in enumerate(texts):
        ids[row, : len(text)] = text  # padding comes last, where no token looks back at it
        labels[row, : len(text)] = np.where(learned, text, -100)
    return ids, labels


def keep(name: str, link: Path, steps: int, recipe_of: Callable[[int], str], make: Callable[..., Any]) -> None:
    """The program around `make(folder, steps, threads)`: it is run once, and the link leads to what it has made."""
    parser = argparse.ArgumentParser(description=f"train the tiny model of {name}.yaml, unless it is there")
    parser.add_argument("--link", type=Path, default=link, help="what leads to the model, for model.name")
    parser.add_argument("--cache", default="", help="folder of this node's models; empty: as model.cache does")
    parser.add_argument("--steps", type=int, default=steps)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    if given.link.exists() and not given.link.is_symlink():
        parser.error(f"--link: {given.link} is there and no link; move it away")
    cache = ModelCache(given.cache)
    folder = cache.take(cache.key(name, recipe_of(given.steps)), lambda made: make(made, given.steps, given.threads))
    given.link.parent.mkdir(parents=True, exist_ok=True)
    given.link.unlink(missing_ok=True)
    given.link.symlink_to(folder)
    print(f"{given.link} -> {folder}")
