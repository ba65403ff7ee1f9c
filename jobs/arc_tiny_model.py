"""Trains the tiny model of `arc-tiny.yaml`, once: a Llama of a million weights that has seen small grid puzzles.

    python jobs/arc_tiny_model.py                      about 8 minutes on 2 CPU cores; then kept in .cache/arc-tiny
    python jobs/arc_tiny_model.py --pause-after 200    stops after 200 s, and goes on from there when called again

It learns rules of one step and writes random directives when asked for some. Rules of two steps it never sees: these
it must learn from a task's own demonstrations. The batches follow from the seed and the step's number, so pieces make
the same model as one go.
"""

import argparse
import json
import math
import time
from pathlib import Path

import numpy as np
import torch
from arc_tiny_tasks import SIDE, challenges, make_puzzle
from safetensors.torch import load_file, save_file
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from seal_ray.config import AnsweringSection, ArcDomain
from seal_ray.domains.arc import build
from seal_ray.domains.arc.augment import FAMILIES
from seal_ray.domains.arc.formats import puzzle_text, write_grid
from seal_ray.domains.arc.grids import Puzzle
from seal_ray.records import Recipe, derive_seed

OUT = Path(".cache/arc-tiny")
SEED = 20250612  # of the model and what it is trained on
STEPS = 2000
BATCH = 32
PEAK = 2e-3
WARMUP = 50
DIRECTIVES_EVERY = 12  # one batch in so many asks for directives
SPECIALS = ("<pad>", "<start>", "<end>")
VOCABULARY = 400
CONTEXT = 1024
LEARNING_RATES, EPOCHS = (0.0003, 0.001, 0.003, 0.01), (2, 4, 8)
# a digit is a token of its own; what the prompts repeat becomes one token a piece
PIECES = r"Input:\n|Output:\n|\n\n|\n|[0-9]| ?[A-Za-z_]+|[^A-Za-z0-9\s]+ ?|\s"


def directives(rng: np.random.Generator) -> str:
    """Directives drawn evenly from what arc-tiny offers."""
    return json.dumps(
        {
            **{name: bool(rng.integers(2)) for name in FAMILIES},
            "loss": str(rng.choice(["all", "output"])),
            "learning_rate": float(rng.choice(LEARNING_RATES)),
            "epochs": int(rng.choice(EPOCHS)),
        }
    )


def edit_prompt() -> tuple[str, str]:
    """What arc-tiny's policy is asked, before and after the puzzle."""
    data = json.dumps(challenges(1, SEED)).encode()
    section = ArcDomain(
        data="arc-tiny", validation=0, test=0, learning_rates=LEARNING_RATES, epoch_choices=EPOCHS, max_grid=6
    )
    domain = build(section, recipe=Recipe(), answering=AnsweringSection(), chat=False, seed=0, read=lambda _: data)
    text = domain.edit_request(domain.tasks("train")[0], 0).prompt.text
    return text[: text.index("Input:")], text[text.rindex("Output:\n") + len("Output:\n") :]


def make_tokenizer(folder: Path) -> None:
    before, after = edit_prompt()
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PIECES), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=list(SPECIALS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    rng = np.random.default_rng(SEED)
    puzzle = make_puzzle(1, 2, rng)[1]
    tokenizer.train_from_iterator([before + puzzle_text(puzzle, "digits") + after + directives(rng)] * 4, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="<start> $A", special_tokens=[("<start>", 1)])
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        **dict(zip(("pad_token", "bos_token", "eos_token"), SPECIALS, strict=True)),
        "model_max_length": CONTEXT,
        "clean_up_tokenization_spaces": False,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=1) + "\n")


def new_model(vocabulary: int) -> LlamaForCausalLM:
    torch.manual_seed(SEED)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=5,
        num_attention_heads=4,
        num_key_value_heads=4,
        head_dim=32,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        dtype="float32",
    )
    return LlamaForCausalLM(config)


class Batches:
    """The training batch of each step: texts of one length, so that nothing is padded."""

    def __init__(self, tokenizer):
        self.tokenizer = tokenizer
        self.before, self.after = edit_prompt()
        self.output = tokenizer("Output:\n", add_special_tokens=False)["input_ids"]
        assert len(self.output) == 1, "the word before an output is one token"

    def batch(self, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Ids and labels, [text, token]; labels are -100 where nothing is learned."""
        rng = np.random.default_rng(derive_seed(SEED, "batch", step))
        if step % DIRECTIVES_EVERY == DIRECTIVES_EVERY - 1:
            return self._directives(rng)
        shown = int(rng.choice([1, 2, 3, 3, 3]))
        puzzles = [make_puzzle(1, shown, rng)[1] for _ in range(BATCH)]
        ids = torch.tensor([self._ids(puzzle) for puzzle in puzzles])
        labels = torch.full_like(ids, -100)
        grid = SIDE * (SIDE + 1)  # its digits and line ends, the last of which ends the grid
        for start in (ids[0] == self.output[0]).nonzero().flatten().tolist():
            labels[:, start + 1 : start + 1 + grid] = ids[:, start + 1 : start + 1 + grid]
        return ids, labels

    def _ids(self, puzzle: Puzzle) -> list[int]:
        assert puzzle.output is not None
        text = puzzle_text(puzzle, "digits") + write_grid(puzzle.output, "digits")
        return [*self.tokenizer(text)["input_ids"], self.tokenizer.eos_token_id]

    def _directives(self, rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        texts, learned = [], []
        for _ in range(BATCH // 2):
            puzzle = make_puzzle(1, 3, rng)[1]
            prompt = self.tokenizer(self.before + puzzle_text(puzzle, "digits") + self.after)["input_ids"]
            chosen = self.tokenizer(directives(rng), add_special_tokens=False)["input_ids"]
            texts.append([*prompt, *chosen, self.tokenizer.eos_token_id])
            learned.append(len(prompt))
        longest = max(map(len, texts))
        ids = torch.zeros((len(texts), longest), dtype=torch.long)
        labels = torch.full_like(ids, -100)
        for row, (text, start) in enumerate(zip(texts, learned, strict=True)):
            ids[row, : len(text)] = torch.tensor(text)  # padding comes last, where no token looks back at it
            labels[row, start : len(text)] = ids[row, start : len(text)]
        return ids, labels


def rate(step: int, steps: int) -> float:
    if step < WARMUP:
        return PEAK * (step + 1) / WARMUP
    return PEAK * (0.05 + 0.95 * (1 + math.cos(math.pi * (step - WARMUP) / max(1, steps - WARMUP))) / 2)


def train(folder: Path, steps: int, pause_after: float, threads: int) -> bool:
    """Trains on from the last pause. True when the model is done."""
    torch.set_num_threads(threads)
    began = time.monotonic()
    unfinished = folder / "unfinished"
    unfinished.mkdir(parents=True, exist_ok=True)
    make_tokenizer(unfinished)
    tokenizer = AutoTokenizer.from_pretrained(unfinished)
    model = new_model(len(tokenizer)).train()
    named = dict(model.named_parameters())
    optimiser = torch.optim.AdamW(named.values(), lr=PEAK, betas=(0.9, 0.98), weight_decay=0.01)
    state = {"step": 0, "seconds": 0.0, "steps": steps}
    if (unfinished / "state.json").exists():
        state = json.loads((unfinished / "state.json").read_text())
        _restore(unfinished, named, optimiser, state["step"])
    batches = Batches(tokenizer)
    first, before = state["step"], state["seconds"]
    for step in range(first, state["steps"]):
        ids, labels = batches.batch(step)
        for group in optimiser.param_groups:
            group["lr"] = rate(step, state["steps"])
        with torch.autocast("cpu", torch.bfloat16):
            loss = model(input_ids=ids, labels=labels, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(named.values(), 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        state["step"] = step + 1
        state["seconds"] = round(before + time.monotonic() - began, 1)
        if step % 50 == 49:
            print(f"step {step + 1} of {state['steps']}, loss {loss.item():.3f}, {state['seconds']:.0f} s", flush=True)
        if pause_after and time.monotonic() - began > pause_after and step + 1 < state["steps"]:
            _save(unfinished, named, optimiser, state)
            print(f"paused at step {step + 1} of {state['steps']}; call again to go on")
            return False
    model.eval().save_pretrained(folder)
    tokenizer_files = ("tokenizer.json", "tokenizer_config.json")
    for name in tokenizer_files:
        (folder / name).write_bytes((unfinished / name).read_bytes())
    for path in unfinished.iterdir():
        path.unlink()
    unfinished.rmdir()
    count = sum(p.numel() for p in named.values())
    print(f"{folder}: {count / 1e6:.2f} M weights, trained for {state['seconds']:.0f} s")
    return True


def _save(folder: Path, named: dict[str, torch.nn.Parameter], optimiser: torch.optim.AdamW, state: dict) -> None:
    tensors = {name: p.detach() for name, p in named.items()}
    for name, p in named.items():
        tensors |= {f"{name}/{key}": optimiser.state[p][key] for key in ("exp_avg", "exp_avg_sq")}
    save_file(tensors, folder / "state.safetensors")
    (folder / "state.json").write_text(json.dumps(state))


def _restore(folder: Path, named: dict[str, torch.nn.Parameter], optimiser: torch.optim.AdamW, step: int) -> None:
    tensors = load_file(folder / "state.safetensors")
    with torch.no_grad():
        for name, p in named.items():
            p.copy_(tensors[name])
            moments = {key: tensors[f"{name}/{key}"] for key in ("exp_avg", "exp_avg_sq")}
            optimiser.state[p] = {"step": torch.tensor(float(step)), **moments}


def main() -> None:
    parser = argparse.ArgumentParser(description="train the tiny model of arc-tiny.yaml, unless it is there")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--pause-after", type=float, default=0, help="seconds; 0 is to train to the end")
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    if (given.out / "model.safetensors").exists():
        print(f"{given.out} is there already; delete it to train anew")
        return
    train(given.out, given.steps, given.pause_after, given.threads)


if __name__ == "__main__":
    main()
