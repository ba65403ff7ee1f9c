"""How much memory training takes, from shapes alone: plain numbers, so that a plan can be made without a device.

training = slots x adapter + finished x weights + rows x (activations of a row) + what comes and goes, beside the base
adapter  = 16 bytes a parameter on a GPU: float32 weights and two moments (12), gradient and a copy in 16 bits (4);
           12 with moments in 16 bits, and 10 with moments in 8; 2 more where gradients are in float32
weights  = 2 bytes a parameter, in main memory: an adapter that has been trained and waits for its questions
"""

import math
from dataclasses import dataclass

from seal_ray.records import MomentKind
from seal_ray.shapes import Shape

MOMENT_BYTES: dict[MomentKind, int] = {"float32": 8, "bfloat16": 4, "int8": 2}  # both; an int8 block's largest beside
BLOCK_PADDING = 1.1  # rows of a packed forward for each row of text
LOGITS = {"cpu": 8_000_000, "cuda": 128_000_000}  # of one chunk of the vocabulary loss
TOKENS_LIMIT = 2048  # rows of one packed forward: enough for full products, and activations stay small


@dataclass(frozen=True)
class BankSetup:
    """What the memory of training depends on, apart from the model and from how many adapters are trained."""

    dtype_bytes: int = 2  # of one weight of the base
    rank: int = 32
    targets: tuple[str, ...] = ("all-linear",)
    device: str = "cuda"
    checkpointing: bool = False
    step_tokens: float = 46  # of one candidate's step, on average: those of a text where a step takes one
    tokens_limit: int = TOKENS_LIMIT
    moments: MomentKind = "float32"
    gradient_bytes: int = 0  # of one parameter; 0: as a device has them that groups products, or a CPU


def adapter_bytes(parameters: int, setup: BankSetup) -> int:
    """One adapter in training: weights in float32, its moments, its gradient and what it is computed with.

    Gradients are in the model's type where products are grouped (GPUs from Hopper on, ranks that are multiples of 8),
    else in float32, and for methods that look at them. A worker counts what it has; plans made without a device are
    made for the former.
    """
    gradient = setup.gradient_bytes or (4 if setup.device == "cpu" else setup.dtype_bytes)
    return parameters * (4 + MOMENT_BYTES[setup.moments] + gradient + setup.dtype_bytes)


def block_bytes(shape: Shape, setup: BankSetup) -> float:
    """What the backward of one decoder block of the usual build needs of one row."""
    q, kv = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    attention = 2 * q + 2 * kv  # query, key and value, and what goes into the output layer
    if setup.device == "cpu":  # plain products keep the row's weights over its text
        attention += shape.heads * setup.step_tokens
    # the residual stream twice; gate and up, whose product is made again, as what the norms put out
    values = 2 * shape.hidden + attention + 2 * shape.intermediate + len(shape.linears) * setup.rank
    return setup.dtype_bytes * values


def activation_bytes(shape: Shape, setup: BankSetup, rows: float) -> float:
    """What a forward and backward of some rows takes beside weights: what is kept, and what comes and goes."""
    dtype_bytes, device = setup.dtype_bytes, setup.device
    block = rows * block_bytes(shape, setup)
    passing = rows * dtype_bytes * 3 * (shape.intermediate + shape.hidden)  # a block's gradients
    chunk = min(rows * shape.vocabulary, LOGITS.get(device, LOGITS["cuda"]))
    logits = chunk * (dtype_bytes + (0 if device == "cpu" else 8))  # a processor's float32 shares stay in its cache
    if setup.checkpointing:
        return shape.layers * rows * dtype_bytes * shape.hidden + max(block + passing, logits)
    return shape.layers * block + max(passing, logits)


def training_bytes(shape: Shape, setup: BankSetup, *, adapters: int, rows: float, finished: int = 0) -> int:
    """The peak beside the base while `adapters` train with `rows` rows of text in one forward, and others are done."""
    parameters = shape.adapter_parameters(setup.rank, setup.targets)
    in_training = adapters * adapter_bytes(parameters, setup)
    waiting = finished * parameters * setup.dtype_bytes
    return math.ceil(in_training + waiting + activation_bytes(shape, setup, rows * BLOCK_PADDING))


def slots_for(
    free_bytes: int, shape: Shape, setup: BankSetup, *, longest: int, candidates: int, share: float = 0.85
) -> int:
    """How many of these candidates to train at once in memory that is free beside the base.

    As many as fill a forward with the tokens of their steps, if they fit. A step with more rows than `tokens_limit` is
    taken in several forwards, so no forward is planned for more, unless one text is. At least 1: whether one fits is
    seen when it is tried.
    """
    limit = setup.tokens_limit

    def needed(slots: int) -> int:
        rows = max(longest, min(slots * setup.step_tokens * 2, limit) / BLOCK_PADDING)
        finished = candidates - slots if setup.device == "cpu" else 0
        return training_bytes(shape, setup, adapters=slots, rows=rows, finished=finished)

    filling = max(1, min(candidates, math.ceil(limit / max(1.0, setup.step_tokens))))
    fitting = [n for n in range(1, filling + 1) if needed(n) <= free_bytes * share]
    return max(fitting, default=1)
