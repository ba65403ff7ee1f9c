"""How much memory a wave takes, from shapes alone: plain numbers, so that a plan can be made without a device.

training = base + N x adapter + rows x (activations of a row) + what comes and goes
adapter  = 18 bytes a parameter: float32 weights, two moments and gradient (16), weights in the model's dtype (2)
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

LINEAR = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
BLOCK_PADDING = 1.1  # rows of a packed forward for each row of text
LOGITS = {"cpu": 8_000_000, "cuda": 256_000_000}  # of one chunk of the vocabulary loss
LOGIT_BYTES = 10  # in the model's dtype, in float32, and in the dtype again


@dataclass(frozen=True)
class ModelShape:
    """The numbers of a decoder that decide about memory."""

    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    tied: bool = False
    dtype_bytes: int = 2
    qkv_bias: bool = False

    @property
    def widths(self) -> Mapping[str, tuple[int, int]]:
        """Input and output width of each linear layer of a block."""
        q, kv = self.heads * self.head_dim, self.kv_heads * self.head_dim
        return {
            "q_proj": (self.hidden, q),
            "k_proj": (self.hidden, kv),
            "v_proj": (self.hidden, kv),
            "o_proj": (q, self.hidden),
            "gate_proj": (self.hidden, self.intermediate),
            "up_proj": (self.hidden, self.intermediate),
            "down_proj": (self.intermediate, self.hidden),
        }

    @property
    def parameters(self) -> int:
        block = sum(i * o for i, o in self.widths.values()) + 2 * self.hidden
        if self.qkv_bias:
            block += sum(self.widths[n][1] for n in ("q_proj", "k_proj", "v_proj"))
        return self.layers * block + self.hidden + self.vocabulary * self.hidden * (1 if self.tied else 2)


def shape_of(config: Mapping[str, object], dtype_bytes: int = 2) -> ModelShape:
    """The shape that a model's config.json (read as JSON) describes."""

    def number(key: str, default: int | None = None) -> int:
        value = config.get(key)
        if value is None:
            value = default
        if not isinstance(value, int):
            raise ValueError(f"the model's configuration has no {key}; memory can't be planned for it")
        return value

    hidden, heads = number("hidden_size"), number("num_attention_heads")
    return ModelShape(
        layers=number("num_hidden_layers"),
        hidden=hidden,
        intermediate=number("intermediate_size"),
        heads=heads,
        kv_heads=number("num_key_value_heads", heads),
        head_dim=number("head_dim", hidden // heads),
        vocabulary=number("vocab_size"),
        tied=bool(config.get("tie_word_embeddings", False)),
        dtype_bytes=dtype_bytes,
        qkv_bias=config.get("model_type") == "qwen2",
    )


def adapter_parameters(shape: ModelShape, rank: int, targets: tuple[str, ...] = ("all-linear",)) -> int:
    names = LINEAR if "all-linear" in targets else tuple(n for n in LINEAR if n in targets)
    return shape.layers * rank * sum(sum(shape.widths[n]) for n in names)


def adapter_bytes(parameters: int, dtype_bytes: int = 2) -> int:
    """One adapter in training. 18 bytes a parameter in bfloat16, 20 in float32."""
    return parameters * (16 + dtype_bytes)


def block_bytes(shape: ModelShape, *, rank: int = 32, device: str = "cuda", text_tokens: float = 46) -> float:
    """What the backward of one decoder block needs of one row."""
    q, kv = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    attention = 2 * q + 2 * kv  # query, key and value, and what goes into the output layer
    # a fused kernel keeps its own output as well; plain products keep the row's weights over its text
    attention += q if device != "cpu" else shape.heads * text_tokens
    return shape.dtype_bytes * (4 * shape.hidden + attention + 4 * shape.intermediate + len(LINEAR) * rank)


def activation_bytes(
    shape: ModelShape,
    rows: float,
    *,
    rank: int = 32,
    checkpointing: bool = False,
    device: str = "cuda",
    text_tokens: float = 46,
) -> float:
    """What a forward and backward of some rows takes beside weights: what is kept, and what comes and goes."""
    block = rows * block_bytes(shape, rank=rank, device=device, text_tokens=text_tokens)
    passing = rows * shape.dtype_bytes * 4 * (shape.intermediate + shape.hidden)  # a block's gradients
    logits = min(rows * shape.vocabulary, LOGITS.get(device, LOGITS["cuda"])) * LOGIT_BYTES
    if checkpointing:
        return shape.layers * rows * shape.dtype_bytes * shape.hidden + max(block + passing, logits)
    return shape.layers * block + max(passing, logits)


def training_bytes(
    shape: ModelShape,
    *,
    adapters: int,
    rows: float,
    rank: int = 32,
    targets: tuple[str, ...] = ("all-linear",),
    checkpointing: bool = False,
    device: str = "cuda",
    text_tokens: float = 46,
    base_bytes: int | None = None,
) -> int:
    """The peak while `adapters` are trained with `rows` rows of text in one forward."""
    base = shape.parameters * shape.dtype_bytes if base_bytes is None else base_bytes
    banked = adapters * adapter_bytes(adapter_parameters(shape, rank, targets), shape.dtype_bytes)
    laid = rows * BLOCK_PADDING
    kept = activation_bytes(shape, laid, rank=rank, checkpointing=checkpointing, device=device, text_tokens=text_tokens)
    return math.ceil(base + banked + kept)


def wave_size(
    free_bytes: int,
    shape: ModelShape,
    *,
    text_tokens: float,
    rank: int = 32,
    targets: tuple[str, ...] = ("all-linear",),
    batch: int = 1,
    tokens_limit: int = 16384,
    device: str = "cuda",
    share: float = 0.9,
    most: int = 256,
) -> int:
    """How many adapters can be trained at once in memory that is free beside the base, texts of that many tokens.

    At least 1: whether one fits is seen when it is tried. A step with more rows than `tokens_limit` is taken in
    several forwards, so no forward is planned for more.
    """

    def needed(adapters: int) -> int:
        rows = max(batch * text_tokens, min(adapters * batch * text_tokens, tokens_limit / BLOCK_PADDING))
        return training_bytes(
            shape,
            adapters=adapters,
            rows=rows,
            rank=rank,
            targets=targets,
            device=device,
            text_tokens=text_tokens,
            base_bytes=0,
        )

    fitting = [n for n in range(1, most + 1) if needed(n) <= free_bytes * share]
    return max(fitting, default=1)
