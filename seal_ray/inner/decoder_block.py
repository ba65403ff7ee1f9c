"""A decoder block of the usual build as few nodes: what lies between its products runs as one operation each.

Usual: RMS norm, query, key and value with rotary positions, attention, output; RMS norm, gate and up, SwiGLU, down.
Of a row the backward is left the residual stream twice, query, key, value and what attention put out, gate and up.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from seal_ray.inner.attention import AttentionCall, attend
from seal_ray.inner.fan import AdaptedFan, Fan
from seal_ray.inner.kernels.norm import add, add_rms_norm, rms_norm, rms_norm_backward
from seal_ray.inner.kernels.rotary import rotate, rotate_backward
from seal_ray.inner.kernels.swiglu import swiglu, swiglu_backward
from seal_ray.inner.linear import Beneath

PARTS = {"self_attn", "mlp", "input_layernorm", "post_attention_layernorm"}
LINEARS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
FANS = (slice(0, 3), slice(3, 4), slice(4, 6), slice(6, 7))  # those of them that read the same rows


@dataclass(frozen=True)
class Norm:
    weight: Tensor
    eps: float


@dataclass(frozen=True)
class DecoderBlock:
    """The parts of a block."""

    norm: Norm
    heads: Fan
    head_width: int
    attention: AttentionCall
    out: Fan
    mlp_norm: Norm
    gated: Fan
    down: Fan

    def forward(self, positions: tuple[Tensor, Tensor], anchor: Tensor, bank_pass: Any, hidden: Tensor) -> Tensor:
        """`[1, rows, width]` to the same. `positions`: cosines and sines, `[1, rows, head width]`."""
        x = hidden.view(hidden.shape[1], -1)
        cos, sin = (t.view(len(x), -1) for t in positions)
        with_own = [f.with_adapters(bank_pass.adapters, bank_pass.adapted)
                    for f in (self.heads, self.out, self.gated, self.down)]  # fmt: skip
        # without adapters here or below, nothing asks for a gradient and no backward comes by
        first, then = (anchor if any(own.members for own in part) else None for part in (with_own[:1], with_own[1:]))
        x, q, k, v = _Heads.apply(x, first, self, with_own[0], cos, sin)  # type: ignore[misc]
        seen = attend(self.attention, (q, k, v), bank_pass)
        y: Any = _Rest.apply(x, seen.reshape(len(x), -1), then, self, *with_own[1:])
        return y.view(hidden.shape)


class _Heads(torch.autograd.Function):
    """The residual stream as it was, and query, key and value at their positions, `[rows, heads, width]`."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, x: Tensor, anchor: Tensor | None, block: DecoderBlock, fan: AdaptedFan, cos: Tensor, sin: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        ys, more, h = fan.forward(rms_norm(x, block.norm.weight, block.norm.eps))
        q, k, v = (y.view(len(x), -1, block.head_width) for y in ys)
        q, k = rotate(q, k, v, *more, cos, sin)
        ctx.save_for_backward(x, h, cos, sin)
        ctx.block, ctx.fan = block, fan
        return x.view_as(x), q, k, v

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        x, h, cos, sin = ctx.saved_tensors
        norm, fan = ctx.block.norm, ctx.fan
        through, dq, dk, dv = grads
        dys = [d.reshape(len(x), -1) for d in (*rotate_backward(dq.contiguous(), dk.contiguous(), cos, sin), dv)]
        dh = fan.inner_gradient(dys)
        if not ctx.needs_input_grad[0]:
            fan.keep_gradients(rms_norm(x, norm.weight, norm.eps), dys, h, dh)
            return None, None, None, None, None, None
        dx, more = fan.input_gradient(dys, dh)
        normed = rms_norm_backward(dx, more, x, norm.weight, norm.eps, through)
        fan.keep_gradients(normed, dys, h, dh)
        return dx, None, None, None, None, None


class _Rest(torch.autograd.Function):
    """The residual stream after what attention has seen and the gated unit are added to it."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, x: Tensor, seen: Tensor, anchor: Tensor | None, block: DecoderBlock, *fans: AdaptedFan
    ) -> Tensor:
        out, gated, down = fans
        norm = block.mlp_norm
        (middle,), (more,), h_out = out.forward(seen)
        normed = add_rms_norm(middle, x, more, norm.weight, norm.eps)
        (gate, up), (more_gate, more_up), h_gated = gated.forward(normed)
        (y,), (more,), h_down = down.forward(swiglu(gate, up, more_gate, more_up))
        add(y, middle, more)
        ctx.save_for_backward(seen, middle, gate, up, h_out, h_gated, h_down)
        ctx.block, ctx.fans = block, fans
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        seen, middle, gate, up, h_out, h_gated, h_down = ctx.saved_tensors
        norm, (out, gated, down), dy = ctx.block.mlp_norm, ctx.fans, grads[0]
        dh = down.inner_gradient([dy])
        product = swiglu_backward(gate, up, *down.input_gradient([dy], dh))
        down.keep_gradients(product, [dy], h_down, dh)
        del product
        dh = gated.inner_gradient([gate, up])
        dx, more = gated.input_gradient([gate, up], dh)
        normed = rms_norm_backward(dx, more, middle, norm.weight, norm.eps, dy)
        gated.keep_gradients(normed, [gate, up], h_gated, dh)
        dh = out.inner_gradient([dx])
        d_seen, more = out.input_gradient([dx], dh)
        if more is not None:
            d_seen.add_(more)
        out.keep_gradients(seen, [dx], h_out, dh)
        return dx, d_seen, None, None, None, None, None


def decoder_block(
    block: nn.Module, beneath: Mapping[str, Beneath | None], layers: Mapping[str, Any], norms: Mapping[Any, float]
) -> DecoderBlock | None:
    """The parts of a block; None where it has others. What they compute is to be compared with the block's own.

    `beneath` and `layers` are of all linear layers, in the order in which a bank's rows have them.
    """
    parts: dict[str, Any] = dict(block.named_children())
    if set(parts) != PARTS:
        return None
    attention = parts["self_attn"]
    linears = dict(attention.named_children()) | dict(parts["mlp"].named_children())
    linears.pop("act_fn", None)
    names = {linear: name for name, linear in layers.items()}
    own = [names.get(linears.get(n), "") for n in LINEARS]
    usual = set(linears) == set(LINEARS) and [n for n in layers if n in own] == own
    plain = [b for b in map(beneath.get, own) if b is not None]
    both = [parts[n] for n in ("input_layernorm", "post_attention_layernorm")]
    if not usual or len(plain) < len(own) or any(norm not in norms for norm in both):
        return None
    heads, out, gated, down = (Fan(tuple(own[s]), tuple(plain[s])) for s in FANS)
    norm, mlp_norm = (Norm(module.weight, norms[module]) for module in both)
    call = AttentionCall(attention.layer_idx, attention.scaling, None)
    return DecoderBlock(norm, heads, attention.head_dim, call, out, mlp_norm, gated, down)
