"""How much memory a wave takes, from shapes alone: plain numbers, so that a plan can be made without a device.

training = base + N x adapter + rows x (activations of a row) + logits
adapter  = 18 bytes a parameter: float32 weights, two moments and gradient (16), weights in the model's dtype (2)
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

LINEAR = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
BLOCK_PADDING = 1.15  # rows of a packed forward for each row of text
LOGITS_BYTES = {
    "cpu": 8_000_000 * 10,
    "cuda": 256_000_000 * 10,
}  # one chunk: in the dtype, float32, and in the dtype again


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


def row_bytes(shape: ModelShape, *, rank: int = 32, checkpointing: bool = False) -> int:
    """What the backward needs of one row: kept from every block, or with checkpointing of one block and all inputs."""
    e = shape.dtype_bytes
    q, kv = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    norms = 2 * (4 + (e if e < 4 else 0)) * shape.hidden
    inputs = e * (2 * shape.hidden + q + shape.intermediate)
    attention = e * (2 * q + 2 * kv)
    mlp = e * 3 * shape.intermediate
    inner = e * 7 * rank
    block = norms + inputs + attention + mlp + inner
    kept = e * shape.hidden
    return shape.layers * kept + block if checkpointing else shape.layers * block


def training_bytes(
    shape: ModelShape,
    *,
    adapters: int,
    rows: int,
    rank: int = 32,
    targets: tuple[str, ...] = ("all-linear",),
    checkpointing: bool = False,
    device: str = "cuda",
    base_bytes: int | None = None,
) -> int:
    """The peak while `adapters` are trained with `rows` rows of text in one forward."""
    base = shape.parameters * shape.dtype_bytes if base_bytes is None else base_bytes
    banked = adapters * adapter_bytes(adapter_parameters(shape, rank, targets), shape.dtype_bytes)
    activations = math.ceil(rows * BLOCK_PADDING) * row_bytes(shape, rank=rank, checkpointing=checkpointing)
    return base + banked + activations + LOGITS_BYTES.get(device, LOGITS_BYTES["cuda"])


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

    At least 1: whether one fits is seen when it is tried.
    """
    adapter = adapter_bytes(adapter_parameters(shape, rank, targets), shape.dtype_bytes)
    row = row_bytes(shape, rank=rank) * BLOCK_PADDING
    room = free_bytes * share - LOGITS_BYTES.get(device, LOGITS_BYTES["cuda"])
    rows = batch * text_tokens
    fitting = room / (adapter + rows * row)
    if fitting * rows > tokens_limit:  # a step is then taken in several forwards, each of the limit at most
        fitting = (room - tokens_limit * row) / adapter
    return max(1, min(most, int(fitting)))
