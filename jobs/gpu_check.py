"""What a GPU shows before it is relied on: kernels beside plain torch, a bank beside PEFT, memory, launches a step.

    python jobs/gpu_check.py                         a minute; every line says what was looked at and what came of it
    python jobs/gpu_check.py --shape qwen2.5-7b      launches and time of a step at that size, too
    SEAL_RAY_TEST_DEVICE=cuda pytest tests/parity    the tests against PEFT and transformers, on the GPU

Needs torch, transformers, peft and a GPU that computes in bfloat16, and nothing of a cluster. Ends with 1 if anything
is not as it should be.
"""

import argparse
import random
import statistics
import time
from collections import Counter
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from seal_ray.inner import capacity, fit
from seal_ray.inner.kernels import canary
from seal_ray.inner.reference import fit_one
from seal_ray.records import Ask, Attempt, Candidate, Example, Recipe
from seal_ray.shapes import KNOWN_CONFIGS
from seal_ray.trials.wave import try_wave

GPU = torch.device("cuda", 0)
SIZES: dict[str, Any] = {
    "vocab_size": 512, "hidden_size": 128, "intermediate_size": 320, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 512, "eos_token_id": 2,
}  # fmt: skip
RECIPE = Recipe(rank=8, alpha=16, epochs=3, lr=3e-3)


def small(dtype: torch.dtype) -> Any:
    torch.manual_seed(11)
    model = LlamaForCausalLM(LlamaConfig(**SIZES))
    for parameter in model.parameters():
        if parameter.dim() > 1:
            parameter.data.mul_(3)
    return model.eval().requires_grad_(False).to(GPU, dtype)  # type: ignore[arg-type]


def texts(rng: random.Random, lengths: list[int], vocabulary: int) -> list[Example]:
    return [Example(tuple(rng.randrange(3, vocabulary) for _ in range(n)), (True,) * n) for n in lengths]


def kernels() -> dict[str, Any]:
    """The kernels that come to something else than plain torch does: there should be none."""
    made = canary.triton_kernels()
    return {str(dtype).removeprefix("torch."): canary.disagreements(made, GPU, dtype) for dtype in canary.CLOSE}


def parity() -> dict[str, Any]:
    """Losses in 16 bits beside those of PEFT in float32: a bank should be no further from them than PEFT in 16 bits."""
    rng = random.Random(5)
    sets = [texts(rng, [4 + rng.randrange(60) for _ in range(1 + i % 5)], SIZES["vocab_size"]) for i in range(12)]
    seeds = list(range(len(sets)))
    exact, rounded = small(torch.float32), small(torch.bfloat16)

    def one_by_one(model: nn.Module) -> list[list[float]]:
        losses = []
        for own, seed in zip(sets, seeds, strict=True):
            result = fit_one(model, own, RECIPE, seed)
            losses.append(result.losses)
            result.close()
        return losses

    expected = one_by_one(exact)
    found = {
        "bank, float32": fit(exact, sets, [RECIPE] * len(sets), seeds).losses,
        "PEFT, bfloat16": one_by_one(rounded),
        "bank, bfloat16": fit(rounded, sets, [RECIPE] * len(sets), seeds).losses,
        "bank of three slots, bfloat16": fit(rounded, sets, [RECIPE] * len(sets), seeds, slots=3).losses,
    }
    return {name: _apart(losses, expected) for name, losses in found.items()}


def _apart(losses: list[list[float]], expected: list[list[float]]) -> dict[str, float]:
    off = [abs(a - b) for own, other in zip(losses, expected, strict=True) for a, b in zip(own, other, strict=True)]
    return {"mean": round(statistics.fmean(off), 6), "most": round(max(off), 6)}


def overflow() -> dict[str, Any]:
    """A wave that does not fit into what a process may have: fewer slots, and every candidate has its trial."""
    model, rng = small(torch.bfloat16), random.Random(1)
    recipe = Recipe(rank=64, alpha=64, epochs=1)
    attempts = [
        Attempt(
            Candidate(f"c{i}", "t", "edit", f"e{i}", 0, 0, i, recipe),
            tuple(texts(rng, [200, 300], SIZES["vocab_size"])),
            (Ask("q", (5, 6, 7), ((8, 9),), 8),),
        )
        for i in range(64)
    ]
    total = torch.cuda.mem_get_info(GPU)[1]
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + 400e6) / total)
    try:
        trials = try_wave(model, _Numbers(), attempts, wave=64)
        seen = capacity.free_memory(GPU)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    return {
        "trials": len(trials),
        "failed": Counter(t.failure.kind for t in trials if t.failure),
        "free_mb": seen >> 20,
    }


class _Numbers:
    """A tokenizer of which a wave wants little."""

    eos_token_id = 2

    def decode(self, ids: list[int], **_: Any) -> str:
        return " ".join(map(str, ids))


def step(shape: str, candidates: int, layers: int) -> dict[str, Any]:
    """Kernels that the device runs in a step, and how long one takes, with as many texts in it as candidates."""
    sizes: dict[str, Any] = KNOWN_CONFIGS[shape] | ({"num_hidden_layers": layers} if layers else {})
    config = AutoConfig.for_model(**sizes)
    torch.set_default_dtype(torch.bfloat16)
    with GPU:
        model: Any = AutoModelForCausalLM.from_config(config)
    torch.set_default_dtype(torch.float32)
    model.eval().requires_grad_(False)
    rng = random.Random(0)
    sets = [texts(rng, [max(12, min(400, round(rng.gauss(46, 30))))], config.vocab_size) for _ in range(candidates)]

    def train(steps: int) -> float:
        recipe = Recipe(rank=32, alpha=64, epochs=steps)
        torch.cuda.synchronize()
        began = time.perf_counter()
        fit(model, sets, [recipe] * candidates, list(range(candidates)), slots=candidates)
        torch.cuda.synchronize()
        return time.perf_counter() - began

    def launches(steps: int) -> Counter[str]:
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as seen:
            train(steps)
        return Counter(e.name for e in seen.events() or () if e.device_type == torch.autograd.DeviceType.CUDA)

    train(2)  # what is compiled and planned once
    few, many = launches(2), launches(6)
    more = Counter({name: (many[name] - few[name]) / 4 for name in many})
    copies = {name: round(n, 1) for name, n in more.items() if name.startswith(("Memcpy", "Memset")) and n}
    short, long = train(4), train(24)
    return {
        "kernels a step": round(sum(n for name, n in more.items() if not name.startswith(("Memcpy", "Memset")))),
        "copies a step": copies,
        "most often": {name[:60]: round(n) for name, n in more.most_common(12)},
        "milliseconds a step": round(1000 * (long - short) / 20, 2),
        "rows a step": sum(len(own[0].ids) for own in sets),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="what a GPU shows before it is relied on")
    parser.add_argument("--shape", choices=sorted(KNOWN_CONFIGS), help="launches and time of a step at this size, too")
    parser.add_argument("--candidates", type=int, default=24)
    parser.add_argument("--layers", type=int, default=0, help="of the shape; 0: all")
    given = parser.parse_args()
    if not torch.cuda.is_available() or not torch.cuda.is_bf16_supported(including_emulation=False):
        raise SystemExit("there is no GPU here that computes in bfloat16")
    properties = torch.cuda.get_device_properties(GPU)
    print(
        f"device: {properties.name}, {properties.total_memory / 2**30:.0f} GiB, torch {torch.__version__}", flush=True
    )
    wrong = []
    for name, look, fine in (
        ("kernels", kernels, lambda found: not any(found.values())),
        ("parity", parity, _close),
        ("overflow", overflow, lambda found: not found["failed"]),
    ):
        began = time.perf_counter()
        try:
            found = look()
            good = fine(found)
        except Exception as error:  # the other looks are worth having all the same
            found, good = f"{type(error).__name__}: {error}", False
        wrong += [] if good else [name]
        print(f"{name}: {'as it should be' if good else 'NOT AS IT SHOULD BE'}: {found}", end=" ")
        print(f"({time.perf_counter() - began:.1f} s)", flush=True)
    if given.shape:
        print(f"step: {step(given.shape, given.candidates, given.layers)}", flush=True)
    if wrong:
        raise SystemExit(f"not as it should be: {', '.join(wrong)}")


def _close(found: dict[str, Any]) -> bool:
    peft = found["PEFT, bfloat16"]["mean"]
    return found["bank, float32"]["most"] < 1e-4 and all(
        found[name]["mean"] < 1.5 * peft for name in found if name.startswith("bank") and name.endswith("bfloat16")
    )


if __name__ == "__main__":
    main()
