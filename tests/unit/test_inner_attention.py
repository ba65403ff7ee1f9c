"""Attention where query heads share keys: never asked of a GPU in a way that its kernels do not take."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from seal_ray.inner import attention
from seal_ray.inner.attention import AttentionCall, Forks, KeyValueCache, attend
from seal_ray.inner.frozen import Pass
from seal_ray.inner.layout import Block

HEADS, SHARED, WIDTH = 6, 2, 8
CPU = torch.device("cpu")
CALL = AttentionCall(0, 0.3, None)
own_attention = F.scaled_dot_product_attention


def attention_of_a_gpu(q: Tensor, k: Tensor, v: Tensor, attn_mask: Tensor | None = None, **more: Any) -> Tensor:
    """Stands in for torch's on a GPU, without cuDNN's: it takes what has a kernel there that writes no scores out."""
    if q.shape[1] != k.shape[1]:
        assert attn_mask is None, "no kernel takes a mask where heads share keys"
        assert q.dtype == torch.bfloat16, "no kernel takes float32 where heads share keys"
    return own_attention(q, k, v, attn_mask=attn_mask, **more)


@pytest.fixture(autouse=True)
def _on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "SHORT", 0)  # plain products are a processor's
    monkeypatch.setattr(F, "scaled_dot_product_attention", attention_of_a_gpu)


def rows(count: int, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """Query, key and value of some rows."""
    generator = torch.Generator().manual_seed(count)
    return [torch.randn(count, heads, WIDTH, generator=generator).to(dtype) for heads in (HEADS, SHARED, SHARED)]


def by_hand(q: Tensor, k: Tensor, v: Tensor, visible: Tensor) -> Tensor:
    """`[rows, heads, width]` of one text, head by head."""
    out = torch.empty_like(q)
    for head in range(HEADS):
        at = head // (HEADS // SHARED)
        scores = (q[:, head].float() @ k[:, at].float().mT * 0.3).masked_fill(~visible, float("-inf"))
        out[:, head] = (scores.softmax(-1) @ v[:, at].float()).to(q.dtype)
    return out


@pytest.mark.parametrize(("dtype", "close"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
@pytest.mark.parametrize(("window", "forked"), [(None, False), (3, False), (None, True)])
def test_texts_of_a_block(dtype, close, window, forked):
    length = 7
    both = rows(2 * length, dtype)
    segments = torch.tensor([0, 0, 0, 1, 1, 2, 2] * 2)
    forks = Forks(segments, torch.tensor([0, 1, 2, 3, 4, 3, 4] * 2)) if forked else None
    got = attend(AttentionCall(0, 0.3, window), both, Pass([Block(0, length, 2)], {}, None, CPU, forks=forks))
    visible = torch.ones(length, length, dtype=torch.bool).tril()
    if window:
        visible &= ~torch.ones(length, length, dtype=torch.bool).tril(-window)
    if forked:
        own = segments[:length]
        visible &= (own[None] == 0) | (own[None] == own[:, None])
    for text in (slice(0, length), slice(length, None)):
        q, k, v = (t[text] for t in both)
        expected = by_hand(q, k, v, visible)
        assert torch.allclose(got[text].float(), expected.float(), rtol=0, atol=close)


def test_texts_that_are_continued():
    lengths = [5, 3]
    prompts, new = [rows(n) for n in lengths], rows(2)
    cache = KeyValueCache()
    for _, k, v in prompts:
        cache.fill(0, [k.transpose(0, 1)[None]], [v.transpose(0, 1)[None]])
    cache.begin(lengths, CPU)
    cache.step()
    got = attend(CALL, new, Pass([], {}, None, CPU, cache))
    for n, (_, k, v) in enumerate(prompts):
        keys, values = torch.cat([k, new[1][n : n + 1]]), torch.cat([v, new[2][n : n + 1]])
        expected = by_hand(new[0][n : n + 1], keys, values, torch.ones(len(keys), dtype=torch.bool))
        assert torch.allclose(got[n : n + 1], expected, rtol=0, atol=1e-5)
