"""The memory formula is held to what a fit really takes, and says how large a wave may be."""

import gc
import weakref
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.profiler import ProfilerActivity, profile
from transformers import LlamaConfig, LlamaForCausalLM

from seal_ray.inner import capacity, fit
from seal_ray.inner.memory import (
    BLOCK_PADDING,
    TOKENS_LIMIT,
    BankSetup,
    adapter_bytes,
    slots_for,
    training_bytes,
)
from seal_ray.inner.stack import Stack
from seal_ray.inner.training import Course, gradient_type
from seal_ray.records import Example, MomentKind, Recipe
from seal_ray.shapes import KNOWN_SHAPES, shape_of

QWEN_7B = KNOWN_SHAPES["qwen2.5-7b"]


def peak_bytes(work: Any) -> int:
    """The most that torch had allocated at once, counted from where it began."""
    gc.collect()  # what others have left behind is not to be given back in here
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as found:
        work()
    held = most = 0
    results: Any = found.profiler
    for event in results.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            most = max(most, held)
    return most


@pytest.mark.parametrize(
    ("adapters", "length", "moments", "checkpointing"),
    [
        *((*sizes, "float32", again) for sizes in ((8, 46), (16, 120), (32, 20)) for again in (False, True)),
        (32, 20, "bfloat16", False),
        (32, 20, "int8", False),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32])  # the formula knows a type by its width alone
def test_the_formula_is_within_15_percent_of_the_measured_peak(dtype, adapters, length, moments, checkpointing):
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=4000,
        hidden_size=128,
        intermediate_size=352,
        num_hidden_layers=6,
        num_attention_heads=4,
        num_key_value_heads=2,
    )
    model: Any = LlamaForCausalLM(config).to(dtype)
    text = Example(tuple(range(3, 3 + length)), (True,) * length)
    recipe = Recipe(rank=16, epochs=1, moments=moments)
    sets = [[text]] * adapters
    peak = peak_bytes(lambda: fit(model, sets, [recipe] * adapters, list(range(adapters)), checkpointing=checkpointing))
    setup = BankSetup(
        dtype_bytes=dtype.itemsize,
        rank=16,
        device="cpu",
        checkpointing=checkpointing,
        step_tokens=length,
        moments=moments,
    )
    rows = adapters * length / BLOCK_PADDING  # texts of one length need no padding
    planned = training_bytes(shape_of(config.to_dict()), setup, adapters=adapters, rows=rows)
    assert planned == pytest.approx(peak, rel=0.15)


def test_parameters_are_those_of_the_published_models():
    assert QWEN_7B.parameters == 7_615_616_512
    assert QWEN_7B.adapter_parameters(32) == 80_740_352
    assert adapter_bytes(100, BankSetup(dtype_bytes=4, device="cpu")) == 2000
    each: dict[MomentKind, int] = {"float32": 16, "bfloat16": 12, "int8": 10}
    for moments, size in each.items():
        assert adapter_bytes(80_740_352, BankSetup(moments=moments)) == size * 80_740_352
    assert adapter_bytes(100, BankSetup(gradient_bytes=4)) == 1800, "rows in blocks: gradients in float32"
    assert QWEN_7B.adapter_parameters(32, ("q_proj", "v_proj")) == 28 * 32 * (3584 + 3584 + 3584 + 512)


@pytest.mark.parametrize("text_tokens", [46, 300])
def test_the_most_slots_that_are_planned_fit_and_one_more_does_not(text_tokens):
    free = int(80e9 - 2 * QWEN_7B.parameters)
    setup = BankSetup(step_tokens=text_tokens)
    about: dict[str, Any] = {"longest": 400, "candidates": 64}

    def needed(slots: int) -> int:
        rows = min(slots * text_tokens * 2, TOKENS_LIMIT) / BLOCK_PADDING
        return training_bytes(QWEN_7B, setup, adapters=slots, rows=max(400, rows))

    slots = slots_for(free, QWEN_7B, setup, share=1.0, **about)
    if text_tokens == 300:
        assert slots == -(-TOKENS_LIMIT // 300), "no more than fill a forward"
    else:
        assert 16 < slots < 64
        assert needed(slots) <= free < needed(slots + 1)
    assert slots_for(0, QWEN_7B, setup, **about) == 1, "whether one fits is seen when it is tried"
    assert slots_for(free, QWEN_7B, setup, **{**about, "candidates": 3}) == 3


def test_moments_in_fewer_bits_let_more_adapters_of_a_7b_into_80_gb():
    """Rank 32, all linear layers, texts of 46 tokens, forwards of at most 4096 rows, beside the base in 16 bits."""
    kinds: tuple[MomentKind, ...] = ("float32", "bfloat16", "int8")
    free = int(80e9 - 2 * QWEN_7B.parameters)

    def slots(moments: MomentKind, share: float) -> int:
        setup = BankSetup(moments=moments, tokens_limit=4096)
        return slots_for(free, QWEN_7B, setup, longest=400, candidates=96, share=share)

    assert [slots(moments, 0.85) for moments in kinds] == [34, 43, 51]
    assert [slots(moments, 1.0) for moments in kinds] == [40, 52, 63]


def test_a_configuration_without_sizes_is_refused():
    with pytest.raises(ValueError, match="no intermediate_size"):
        shape_of({"num_hidden_layers": 2, "hidden_size": 8, "num_attention_heads": 2, "vocab_size": 9})


@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_steps_copy_of_the_adapters_is_gone_when_the_next_one_makes_its_own(monkeypatch, checkpointing):
    config = LlamaConfig(
        vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4
    )
    model: Any = LlamaForCausalLM(config)
    model.to(torch.bfloat16)
    copies: list[Any] = []
    real = Stack.views

    def views(self: Stack, rows: torch.Tensor, grads: torch.Tensor) -> Any:
        assert not [size for copy, size in copies if copy() is not None], "an earlier step's is still held"
        copies.append((weakref.ref(rows), rows.nbytes))
        return real(self, rows, grads)

    monkeypatch.setattr(Stack, "views", views)
    text = Example(tuple(range(3, 12)), (True,) * 9)
    fit(model, [[text]] * 2, [Recipe(rank=4, epochs=4)] * 2, [1, 2], slots=2, checkpointing=checkpointing)
    assert len(copies) == 4


def test_a_copy_of_the_adapters_takes_its_own_room_and_a_rows_while_it_is_made():
    stack = Stack.of({"up": torch.nn.Linear(96, 70, device="meta")}, ["up"], 8)
    slots, scale = [7, 0, 3, 5, 1, 6, 2, 4], torch.linspace(0.5, 2, 8)
    rows, grads = torch.randn(8, stack.size), torch.zeros(8, stack.size)
    made: list[Any] = []
    peak = peak_bytes(lambda: made.append(stack.trained(rows, slots, scale, torch.bfloat16, grads)))
    copied = made[0]["up"]
    assert torch.equal(copied.a, stack.a(rows[slots], "up").bfloat16())
    assert torch.equal(copied.b, (stack.b(rows[slots], "up") * scale[:, None, None]).bfloat16())
    assert peak <= (2 * 8 + 4) * stack.size + 1000


def test_a_worker_counts_gradients_in_the_type_that_they_have(monkeypatch):
    """Of rows in blocks, or that a method looks at, in float32; where products are grouped in the base's."""
    stack = Stack.of({"up": torch.nn.Linear(96, 72, device="meta")}, ["up"], 8)
    frozen = SimpleNamespace(device=torch.device("cuda"), dtype=torch.bfloat16)
    bank: Any = SimpleNamespace(frozen=frozen, stack=stack)
    plain = Course(0, Recipe(), [], [])
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))
    assert gradient_type(bank, [plain]) == torch.bfloat16
    keeper: Any = object()
    assert gradient_type(bank, [replace(plain, keeper=keeper)]) == torch.float32
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (8, 0))
    assert gradient_type(bank, [plain]) == torch.float32
    sizes: list[int] = []
    monkeypatch.setattr(capacity, "slots_for", lambda free, shape, setup, **_: sizes.append(adapter_bytes(100, setup)))
    monkeypatch.setattr(capacity, "free_memory", lambda _: 10**9)
    texts = [[Example((3, 4, 5), (True,) * 3)]]
    for size in (2, 4):
        capacity.fitting_slots(
            frozen.device, QWEN_7B, texts, [Recipe()], dtype_bytes=2, gradient_bytes=size, tokens_limit=64
        )
    assert sizes == [1600, 1800]


@pytest.mark.parametrize(
    ("files", "left"),
    [
        ({}, None),
        ({"memory.max": "max\n", "memory.current": "700\n"}, None),
        ({"memory.max": "1000\n", "memory.current": "700\n", "memory.stat": "file 250\ninactive_file 200\n"}, 500),
        ({"memory.max": "1000\n", "memory.current": "700\n"}, 300),
        (
            {
                "memory/memory.limit_in_bytes": "1000\n",
                "memory/memory.usage_in_bytes": "700\n",
                "memory/memory.stat": "inactive_file 20\ntotal_inactive_file 200\n",
            },
            500,
        ),
    ],
)
def test_a_containers_limit_leaves_what_nobody_uses_and_files_that_nobody_reads(monkeypatch, tmp_path, files, left):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(capacity, "CGROUP", tmp_path)
    monkeypatch.setattr(capacity, "kept_unused", lambda: 0)
    free = capacity.free_memory(torch.device("cpu"))
    assert free == left if left else free > 10**6, "the machine's own"
