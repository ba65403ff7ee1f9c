"""Attention of short texts on a CPU, as plain products: torch's own is ten times slower in its backward there."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from seal_ray.inner.kernels.operator import Operator
from seal_ray.inner.layout import Block


def causal(length: int, device: torch.device, window: int | None = None) -> Tensor:
    """What a token sees: itself and what comes before it, with a window only the nearest of that."""
    steps = torch.arange(length, device=device)
    distance = steps[:, None] - steps[None]
    return (distance >= 0) & (distance < (window or length))


def shares_size(blocks: Sequence[Block], heads: int) -> int:
    """Of all texts and heads: what each token gives to each."""
    return sum(block.texts * heads * block.length**2 for block in blocks)


def _texts(block: Block, x: Tensor, heads: int) -> Tensor:
    """A block's rows `[row, head, width]` head by head; those that share a key stand below each other."""
    own = x[block.row : block.stop].unflatten(0, (block.texts, block.length)).transpose(1, 2)
    return own.reshape(block.texts * heads, -1, x.shape[2])


def _place(block: Block, x: Tensor, own: Tensor) -> None:
    """Writes a block's rows, back in their order."""
    of_texts = own.view(block.texts, x.shape[1], block.length, x.shape[2])
    x[block.row : block.stop].unflatten(0, (block.texts, block.length)).copy_(of_texts.transpose(1, 2))


def _parts(blocks: Sequence[Block], shares: Tensor, heads: int) -> Iterator[tuple[Block, Tensor]]:
    sizes = [shares_size([block], heads) for block in blocks]
    for block, part in zip(blocks, shares.split(sizes), strict=True):
        yield block, part.view(block.texts, heads, block.length, block.length)


def _attention(
    q: Tensor, k: Tensor, v: Tensor, blocks: Sequence[Block], scaling: float, masks: Sequence[Tensor | None]
) -> tuple[Tensor, Tensor]:
    out, groups, heads = torch.empty_like(q), k.shape[1], q.shape[1]
    shares = q.new_empty(shares_size(blocks, heads))
    for (block, share), mask in zip(_parts(blocks, shares, heads), masks, strict=True):
        q_own, k_own, v_own = (_texts(block, x, groups) for x in (q, k, v))
        visible = causal(block.length, q.device) if mask is None else mask
        scores = torch.bmm(q_own * scaling, k_own.mT).view(share.shape).masked_fill_(~visible, float("-inf"))
        torch.softmax(scores, -1, out=share)
        _place(block, out, torch.bmm(share.view(len(k_own), -1, block.length), v_own))
    return out, shares


def _attention_backward(
    d_out: Tensor, q: Tensor, k: Tensor, v: Tensor, shares: Tensor, blocks: Sequence[Block], scaling: float
) -> tuple[Tensor, Tensor, Tensor]:
    d_q, d_k, d_v = (torch.empty_like(x) for x in (q, k, v))
    for block, of_texts in _parts(blocks, shares, q.shape[1]):
        q_own, k_own, v_own, d_own = (_texts(block, x, k.shape[1]) for x in (q, k, v, d_out))
        share = of_texts.view(len(k_own), -1, block.length)
        d_share = torch.bmm(d_own, v_own.mT)
        d_scores = torch._softmax_backward_data(d_share, share, -1, share.dtype).mul_(scaling)
        _place(block, d_v, torch.bmm(share.mT, d_own))
        _place(block, d_q, torch.bmm(d_scores, k_own))
        _place(block, d_k, torch.bmm(d_scores.mT, q_own))
    return d_q, d_k, d_v


# query `[row, head, width]`, key and value; each block's texts see what their mask allows, None: all that comes before.
# Returns what they see, and what each token gives to each
short_attention = Operator(
    "short_attention(Tensor q, Tensor k, Tensor v, Block[] blocks, float scaling, Tensor?[] masks) -> (Tensor, Tensor)",
    _attention,
)

short_attention_backward = Operator(
    "short_attention_backward(Tensor d_out, Tensor q, Tensor k, Tensor v, Tensor shares, Block[] blocks, float scaling)"
    " -> (Tensor, Tensor, Tensor)",
    _attention_backward,
)
