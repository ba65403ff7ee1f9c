"""Attention for packed rows: each text by itself, and while answering each row over its own keys and values.

Blocks hold texts of one padded length, so attention is a few dense causal products and never a rows x rows matrix.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.attention.varlen import varlen_attn

from seal_ray.inner.kernels.short_attention import causal, short_attention, short_attention_backward
from seal_ray.inner.layout import Block

NAME = "seal_bank"
SHORT = 512  # tokens up to which a text's whole matrix of scores is little
GROWTH = 32  # tokens by which a cache grows


class KeyValueCache:
    """Keys and values of every layer for rows that are being continued, one slot a token."""

    def __init__(self) -> None:
        self.keys: dict[int, Tensor] = {}  # layer -> [row, head, token, width]
        self.values: dict[int, Tensor] = {}
        self.lengths = torch.zeros(0, dtype=torch.long)  # tokens of each row
        self.longest = 0
        self.filling = True  # the prompts' forwards write whole texts, later ones a token for each row
        self.prompts: dict[int, tuple[list[Tensor], list[Tensor]]] = {}  # layer -> keys and values, block by block
        self.visible: Tensor | None = None

    def fill(self, layer: int, keys: list[Tensor], values: list[Tensor]) -> None:
        """Keeps prompts block by block: `[texts, heads, length, width]` each."""
        for kept, more in zip(self.prompts.setdefault(layer, ([], [])), (keys, values), strict=True):
            kept += more

    def begin(self, lengths: list[int], device: torch.device) -> None:
        """Ends the filling: how many tokens each row really has."""
        self.filling = False
        self.lengths = torch.tensor(lengths, device=device)
        self.longest = max(lengths, default=0)
        while self.prompts:
            layer, filled = self.prompts.popitem()
            capacity = max(part.shape[2] for part in filled[0]) + GROWTH
            self.keys[layer], self.values[layer] = (
                torch.cat([F.pad(part, (0, 0, 0, capacity - part.shape[2])) for part in parts]) for parts in filled
            )

    def select(self, rows: list[int]) -> None:
        """Keeps these rows, in this order; a row may be named more than once."""
        index = torch.tensor(rows, device=self.lengths.device)
        for store in (self.keys, self.values):
            for layer, kept in store.items():
                store[layer] = kept.index_select(0, index)
        self.lengths = self.lengths.index_select(0, index)

    def step(self) -> None:
        """Makes room for one more token of each row, and says what each row may see once it is in."""
        self.longest += 1
        any_key = next(iter(self.keys.values()))
        if self.longest > any_key.shape[2]:
            for store in (self.keys, self.values):
                for layer, kept in store.items():
                    store[layer] = F.pad(kept, (0, 0, 0, GROWTH))
        steps = torch.arange(self.longest, device=self.lengths.device)
        self.visible = (steps[None] <= self.lengths[:, None])[:, None, None]

    def append(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Writes one token of each row (`[row, head, width]`) and gives all that is kept."""
        rows = torch.arange(len(self.lengths), device=self.lengths.device)
        for store, new in ((self.keys, key), (self.values, value)):
            store[layer][rows, :, self.lengths] = new
        return self.keys[layer][:, :, : self.longest], self.values[layer][:, :, : self.longest]


@dataclass(frozen=True)
class AttentionCall:
    """What a layer asks of attention beside query, key and value."""

    layer: int
    scaling: float | None
    window: int | None


@dataclass(frozen=True)
class Forks:
    """Of each row of a packed row in which texts fork: its branch (0 is the trunk) and its position in its text."""

    segments: Tensor
    positions: Tensor


def packed_attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None = None,
    scaling: float | None = None,
    bank_pass: Any = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """The attention function that transformers calls while a bank is attached: `[1, heads, rows, width]` each."""
    for name in ("softcap", "s_aux"):
        if kwargs.get(name) is not None:
            raise ValueError(f"the model's attention uses {name}, which a bank does not know how to apply")
    assert bank_pass is not None, "the bank's attention runs only inside a bank's forward"
    rows = [t.squeeze(0).transpose(0, 1) for t in (query, key, value)]  # [rows, heads, width]
    call = AttentionCall(module.layer_idx, scaling, kwargs.get("sliding_window"))
    bank_pass.calls[call.layer] = call
    return attend(call, rows, bank_pass).unsqueeze(0), None


def attend(call: AttentionCall, rows: Sequence[Tensor], bank_pass: Any) -> Tensor:
    """Attention of a packed row: query, key, value and what is returned are `[rows, heads, width]`."""
    cache = bank_pass.cache
    if cache is not None and not cache.filling:
        return _continued(call, rows, cache)
    if bank_pass.bounds is not None and rows[0].device.type == "cuda":
        return _any_lengths(call, rows, bank_pass.bounds, max(b.length for b in bank_pass.blocks))
    blocks = bank_pass.blocks
    masks = [bank_pass.mask(block, call.window) for block in blocks]
    if cache is not None:
        cache.fill(call.layer, *([_of_texts(block, r) for block in blocks] for r in rows[1:]))
    short = [rows[0].device.type == "cpu" and block.length <= SHORT for block in blocks]
    scaling = call.scaling or rows[0].shape[-1] ** -0.5
    if all(short):
        return ShortAttention.apply(*rows, scaling, blocks, masks)  # type: ignore[return-value]
    outs: list[Any] = []
    for block, mask, is_short in zip(blocks, masks, short, strict=True):
        if is_short:
            alone = (r[block.row : block.stop] for r in rows)
            outs.append(ShortAttention.apply(*alone, scaling, [replace(block, row=0)], [mask]))
        else:
            q, k, v = (_of_texts(block, r) for r in rows)
            outs.append(_block_attention(q, k, v, scaling, mask).transpose(1, 2).flatten(0, 1))
    return torch.cat(outs)


def _of_texts(block: Block, rows: Tensor) -> Tensor:
    """`[texts, heads, length, width]` of a block."""
    return rows[block.row : block.stop].unflatten(0, (block.texts, block.length)).transpose(1, 2)


def _any_lengths(call: AttentionCall, rows: Sequence[Tensor], bounds: Tensor, longest: int) -> Tensor:
    """Causal attention of texts of any lengths in one kernel."""
    query, key, value = rows
    seen = (call.window - 1 if call.window is not None else -1, 0)
    out = varlen_attn(
        query, key, value, bounds, bounds, longest, longest,
        scale=call.scaling, window_size=seen, enable_gqa=query.shape[1] != key.shape[1],
    )  # fmt: skip
    assert isinstance(out, Tensor)
    return out


def _block_attention(q: Tensor, k: Tensor, v: Tensor, scaling: float, mask: Tensor | None) -> Tensor:
    """Attention of `[texts, heads, length, width]`: causal, or what the mask `[texts, 1, length, length]` allows."""
    shared = q.shape[1] // k.shape[1]
    # of a GPU's kernels only the one for 16 bits and no mask takes query heads that share keys: with what is left all
    # scores would be written out in float32
    if shared > 1 and (mask is not None or q.dtype == torch.float32):
        k, v = (t.repeat_interleave(shared, dim=1) for t in (k, v))
    return F.scaled_dot_product_attention(
        q, k, v, attn_mask=mask, is_causal=mask is None, scale=scaling, enable_gqa=q.shape[1] != k.shape[1]
    )


class ShortAttention(torch.autograd.Function):
    """Attention of short texts on CPU, of all blocks at once."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, scaling: float, blocks: Sequence[Block],
        masks: Sequence[Tensor | None],
    ) -> Tensor:  # fmt: skip
        out, shares = short_attention(q, k, v, blocks, scaling, masks)
        ctx.save_for_backward(q, k, v, shares)
        ctx.blocks, ctx.scaling = blocks, scaling
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        d_q, d_k, d_v = short_attention_backward(grads[0], *ctx.saved_tensors, ctx.blocks, ctx.scaling)
        return d_q, d_k, d_v, None, None, None


def _continued(call: AttentionCall, rows: Sequence[Tensor], cache: KeyValueCache) -> Tensor:
    query, key, value = rows
    keys, values = cache.append(call.layer, key, value)
    visible = cache.visible
    assert visible is not None
    if call.window is not None and cache.longest > call.window:
        steps = torch.arange(cache.longest, device=visible.device)
        visible = visible & (steps[None] > cache.lengths[:, None] - call.window)[:, None, None]
    # query heads that share keys stand as tokens of one head: a GPU's kernels take no mask where heads share keys
    heads = query.unflatten(1, (keys.shape[1], -1))
    return F.scaled_dot_product_attention(heads, keys, values, attn_mask=visible, scale=call.scaling).flatten(1, 2)


def block_mask(block: Block, forks: Forks | None, window: int | None, device: torch.device) -> Tensor | None:
    """What the tokens of a block's texts see, `[texts or 1, 1, length, length]`; None where that is simply causal."""
    windowed = window is not None and block.length > window
    if forks is None:
        return causal(block.length, device, window)[None, None] if windowed else None
    rows = slice(block.row, block.stop)
    segment, position = (t[rows].view(block.texts, 1, block.length) for t in (forks.segments, forks.positions))
    own, other = segment[..., :, None], segment[..., None, :]
    visible = ((other == 0) | (own == other)) & causal(block.length, device)
    if window is not None and windowed:
        visible = visible & (position[..., :, None] - position[..., None, :] < window)
    return visible
