"""How large a model is, from its configuration alone: what a plan needs before any weight is at hand."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

LARGEST = 10**9  # of any one size


@dataclass(frozen=True)
class Shape:
    """The sizes of a decoder with gated feed-forward layers."""

    kind: str
    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    tied: bool
    biased: bool  # query, key and value have a bias
    context: int  # the most tokens that it reads; 0 where its configuration does not say

    @property
    def linears(self) -> Mapping[str, tuple[int, int]]:
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
    def block_parameters(self) -> int:
        """Weights of one block's linear layers."""
        return sum(i * o for i, o in self.linears.values())

    @property
    def parameters(self) -> int:
        bias = sum(self.linears[n][1] for n in ("q_proj", "k_proj", "v_proj")) if self.biased else 0
        blocks = self.layers * (self.block_parameters + bias + 2 * self.hidden)
        return blocks + self.hidden + self.vocabulary * self.hidden * (1 if self.tied else 2)

    def targeted(self, targets: tuple[str, ...]) -> Mapping[str, tuple[int, int]]:
        """The linear layers of a block that get an adapter."""
        return {n: s for n, s in self.linears.items() if "all-linear" in targets or n in targets}

    def adapter_parameters(self, rank: int, targets: tuple[str, ...] = ("all-linear",)) -> int:
        """Weights of a LoRA adapter."""
        return self.layers * rank * sum(i + o for i, o in self.targeted(targets).values())


def shape_of(config: Mapping[str, Any]) -> Shape:
    """The shape that a model's config.json (read as JSON) describes."""
    config = config.get("text_config") or config  # models that see or hear keep the decoder's sizes one level down

    def size(key: str, default: int | None = None) -> int:
        value = config.get(key)
        value = default if value is None else value
        if type(value) is not int:
            raise ValueError(f"the model's configuration has no {key}: its size can't be told")
        if not (0 if key == "max_position_embeddings" else 1) <= value <= LARGEST:
            raise ValueError(f"the model's configuration has {key} {str(value)[:40]}, which is no size")
        return value

    hidden, heads, kind = size("hidden_size"), size("num_attention_heads"), str(config.get("model_type", ""))
    return Shape(
        kind=kind,
        layers=size("num_hidden_layers"),
        hidden=hidden,
        intermediate=size("intermediate_size"),
        heads=heads,
        kv_heads=size("num_key_value_heads", heads),
        head_dim=size("head_dim", hidden // max(1, heads)),
        vocabulary=size("vocab_size"),
        tied=bool(config.get("tie_word_embeddings", False)),
        biased=bool(config.get("attention_bias", kind == "qwen2")),
        context=size("max_position_embeddings", 0),
    )


def _published(
    hidden: int, intermediate: int, layers: int, heads: int, kv_heads: int, vocabulary: int, *,
    kind: str = "llama", tied: bool = False, context: int = 131072,
) -> dict[str, Any]:  # fmt: skip
    return {
        "model_type": kind,
        "hidden_size": hidden,
        "intermediate_size": intermediate,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "vocab_size": vocabulary,
        "tie_word_embeddings": tied,
        "max_position_embeddings": context,
    }


KNOWN_CONFIGS: Mapping[str, dict[str, Any]] = {
    "smollm2-135m": _published(576, 1536, 30, 9, 3, 49152, tied=True, context=8192),
    "llama-3.2-1b": _published(2048, 8192, 16, 32, 8, 128256, tied=True),
    "llama-3.1-70b": _published(8192, 28672, 80, 64, 8, 128256),
    "qwen2.5-3b": _published(2048, 11008, 36, 16, 2, 151936, kind="qwen2", tied=True, context=32768),
    "qwen2.5-7b": _published(3584, 18944, 28, 28, 4, 152064, kind="qwen2"),
}
KNOWN_SHAPES: Mapping[str, Shape] = {name: shape_of(config) for name, config in KNOWN_CONFIGS.items()}


def known_shape(name: str) -> Shape | None:
    """The shape of a well-known name: `qwen2.5-7b`, `Qwen/Qwen2.5-7B-Instruct`, `builtin:smollm2-135m`."""
    last = name.lower().removeprefix("builtin:").rstrip("/").rsplit("/", 1)[-1]
    return KNOWN_SHAPES.get(last.removesuffix("-instruct"))
