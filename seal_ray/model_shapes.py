"""How large a model is, from its configuration alone: what a plan needs before any weight is at hand."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from seal_ray.errors import DataError

Shape = dict[str, Any]


def _llama(
    hidden: int, inner: int, layers: int, heads: int, kv_heads: int, vocab: int, tied: bool, context: int, bias: bool
) -> dict[str, Any]:
    return {
        "model_type": "qwen2" if bias else "llama",
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "vocab_size": vocab,
        "tie_word_embeddings": tied,
        "max_position_embeddings": context,
    }


KNOWN_CONFIGS: dict[str, dict[str, Any]] = {
    "smollm2-135m": _llama(576, 1536, 30, 9, 3, 49152, True, 8192, False),
    "llama-3.2-1b": _llama(2048, 8192, 16, 32, 8, 128256, True, 131072, False),
    "llama-3.1-70b": _llama(8192, 28672, 80, 64, 8, 128256, False, 131072, False),
    "qwen2.5-3b": _llama(2048, 11008, 36, 16, 2, 151936, True, 32768, True),
    "qwen2.5-7b": _llama(3584, 18944, 28, 28, 4, 152064, False, 131072, True),
}


def shape_of_config(config: Mapping[str, Any], where: str) -> Shape:
    """Sizes of a decoder with gated feed-forward layers; `linears` are the layers of one block, as (in, out)."""
    try:
        hidden, inner = int(config["hidden_size"]), int(config["intermediate_size"])
        layers, heads, vocab = (
            int(config["num_hidden_layers"]),
            int(config["num_attention_heads"]),
            int(config["vocab_size"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{where}: the size {error} can't be read from the model's configuration",
            mend="use a decoder whose config.json says hidden_size, intermediate_size and so on",
        ) from None
    kv_heads = int(config.get("num_key_value_heads") or heads)
    head = int(config.get("head_dim") or hidden // heads)
    tied = bool(config.get("tie_word_embeddings", False))
    kind = str(config.get("model_type", ""))
    linears = {
        "q_proj": (hidden, heads * head),
        "k_proj": (hidden, kv_heads * head),
        "v_proj": (hidden, kv_heads * head),
        "o_proj": (heads * head, hidden),
        "gate_proj": (hidden, inner),
        "up_proj": (hidden, inner),
        "down_proj": (inner, hidden),
    }
    biased = bool(config.get("attention_bias", kind == "qwen2"))
    bias = sum(linears[name][1] for name in ("q_proj", "k_proj", "v_proj")) if biased else 0
    block = sum(a * b for a, b in linears.values())
    return {
        "model_type": kind,
        "hidden": hidden,
        "intermediate": inner,
        "layers": layers,
        "heads": heads,
        "kv_heads": kv_heads,
        "head_dim": head,
        "vocab": vocab,
        "tied": tied,
        "max_length": int(config.get("max_position_embeddings") or 0),
        "linears": linears,
        "linear_parameters": layers * block,
        "parameters": layers * (block + bias + 2 * hidden) + hidden + vocab * hidden * (1 if tied else 2),
    }


KNOWN_SHAPES: dict[str, Shape] = {name: shape_of_config(config, name) for name, config in KNOWN_CONFIGS.items()}


def known_shape(name: str) -> Shape | None:
    """The shape of a well-known name: `qwen2.5-7b`, `Qwen/Qwen2.5-7B-Instruct`, `builtin:smollm2-135m`."""
    last = name.lower().removeprefix("builtin:").rstrip("/").rsplit("/", 1)[-1]
    return KNOWN_SHAPES.get(last.removesuffix("-instruct"))


def shape_of_folder(folder: str | Path) -> Shape:
    path = Path(folder) / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: not a model's configuration: {error}", mend="name a folder with a model") from None
    # models that see or hear keep the decoder's sizes one level down
    return shape_of_config(config.get("text_config", config), str(path))
