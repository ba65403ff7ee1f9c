"""A model's name becomes a folder on this node, and the folder a frozen model, a tokenizer, a digest, token ids.

Importing this room imports neither torch nor transformers.
"""

from seal_ray.models.digests import digest_of
from seal_ray.models.files import adapter_rank, check, has_chat_template, header_of, shape
from seal_ray.models.loading import change_adapter, load, pick_dtype, thinks, tokenizer
from seal_ray.models.names import describe, fetch, reach, weight_bytes, whole
from seal_ray.tokens import render, text_ids

__all__ = [
    "adapter_rank",
    "change_adapter",
    "check",
    "describe",
    "digest_of",
    "fetch",
    "has_chat_template",
    "header_of",
    "load",
    "pick_dtype",
    "reach",
    "render",
    "shape",
    "text_ids",
    "thinks",
    "tokenizer",
    "weight_bytes",
    "whole",
]
