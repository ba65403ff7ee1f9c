"""How much memory training takes, from shapes alone: plain numbers, so that a plan can be made without a device.

training = base + slots x adapter + finished x weights + rows x (activations of a row) + what comes and goes
adapter  = 16 bytes a parameter on a GPU: float32 weights and two moments (12), gradient and a copy in 16 bits (4)
weights  = 2 bytes a parameter, in main memory: an adapter that has been trained and waits for its questions
"""

import math

from seal_ray.shapes import Shape

BLOCK_PADDING = 1.1  # rows of a packed forward for each row of text
LOGITS = {"cpu": 8_000_000, "cuda": 128_000_000}  # of one chunk of the vocabulary loss
TOKENS_LIMIT = 2048  # rows of one packed forward: enough for full products, and activations stay small


def adapter_bytes(parameters: int, dtype_bytes: int = 2, device: str = "cuda") -> int:
    """One adapter in training: weights and moments in float32, its gradient and what it is computed with.

    Gradients are in the model's type where products are grouped (GPUs from Hopper on), else in float32. Plans are made
    for the former: older GPUs and studies take 2 bytes more of the share that is left free.
    """
    gradient = 4 if device == "cpu" else dtype_bytes
    return parameters * (12 + gradient + dtype_bytes)


def block_bytes(
    shape: Shape, *, dtype_bytes: int = 2, rank: int = 32, device: str = "cuda", text_tokens: float = 46
) -> float:
    """What the backward of one decoder block of the usual build needs of one row."""
    q, kv = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    attention = 2 * q + 2 * kv  # query, key and value, and what goes into the output layer
    if device == "cpu":  # plain products keep the row's weights over its text
        attention += shape.heads * text_tokens
    # the residual stream twice; gate and up, whose product is made again, as what the norms put out
    return dtype_bytes * (2 * shape.hidden + attention + 2 * shape.intermediate + len(shape.linears) * rank)


def activation_bytes(
    shape: Shape,
    rows: float,
    *,
    dtype_bytes: int = 2,
    rank: int = 32,
    checkpointing: bool = False,
    device: str = "cuda",
    text_tokens: float = 46,
) -> float:
    """What a forward and backward of some rows takes beside weights: what is kept, and what comes and goes."""
    block = rows * block_bytes(shape, dtype_bytes=dtype_bytes, rank=rank, device=device, text_tokens=text_tokens)
    passing = rows * dtype_bytes * 3 * (shape.intermediate + shape.hidden)  # a block's gradients
    chunk = min(rows * shape.vocabulary, LOGITS.get(device, LOGITS["cuda"]))
    logits = chunk * (dtype_bytes + (0 if device == "cpu" else 8))  # a processor's float32 shares stay in its cache
    if checkpointing:
        return shape.layers * rows * dtype_bytes * shape.hidden + max(block + passing, logits)
    return shape.layers * block + max(passing, logits)


def training_bytes(
    shape: Shape,
    *,
    adapters: int,
    rows: float,
    dtype_bytes: int = 2,
    rank: int = 32,
    targets: tuple[str, ...] = ("all-linear",),
    checkpointing: bool = False,
    device: str = "cuda",
    text_tokens: float = 46,
    base_bytes: int | None = None,
    finished: int = 0,
) -> int:
    """The peak while `adapters` are trained with `rows` rows of text in one forward, and others are finished."""
    base = shape.parameters * dtype_bytes if base_bytes is None else base_bytes
    parameters = shape.adapter_parameters(rank, targets)
    banked = adapters * adapter_bytes(parameters, dtype_bytes, device) + finished * parameters * dtype_bytes
    laid = rows * BLOCK_PADDING
    kept = activation_bytes(
        shape,
        laid,
        dtype_bytes=dtype_bytes,
        rank=rank,
        checkpointing=checkpointing,
        device=device,
        text_tokens=text_tokens,
    )
    return math.ceil(base + banked + kept)


def slots_for(
    free_bytes: int,
    shape: Shape,
    *,
    step_tokens: float,
    longest: int,
    candidates: int,
    dtype_bytes: int = 2,
    rank: int = 32,
    targets: tuple[str, ...] = ("all-linear",),
    tokens_limit: int = TOKENS_LIMIT,
    device: str = "cuda",
    share: float = 0.85,
) -> int:
    """How many of these candidates to train at once in memory that is free beside the base.

    As many as fill a forward with their `step_tokens` (of one candidate's step, on average), if they fit. A step with
    more rows than `tokens_limit` is taken in several forwards, so no forward is planned for more, unless one text is.
    At least 1: whether one fits is seen when it is tried.
    """

    def needed(slots: int) -> int:
        return training_bytes(
            shape,
            adapters=slots,
            finished=candidates - slots if device == "cpu" else 0,
            rows=max(longest, min(slots * step_tokens * 2, tokens_limit) / BLOCK_PADDING),
            dtype_bytes=dtype_bytes,
            rank=rank,
            targets=targets,
            device=device,
            text_tokens=step_tokens,
            base_bytes=0,
        )

    filling = max(1, min(candidates, math.ceil(tokens_limit / max(1.0, step_tokens))))
    fitting = [n for n in range(1, filling + 1) if needed(n) <= free_bytes * share]
    return max(fitting, default=1)
