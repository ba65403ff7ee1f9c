"""Whether a device's kernels compute what the plain forms do, seen on small numbers before a bank relies on them."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor

# imported, they make the operations known
from seal_ray.inner.kernels import adam, blocks, grouped, norm, rotary, swiglu, vocabulary  # noqa: F401
from seal_ray.inner.kernels.compiled import library
from seal_ray.inner.kernels.operator import KERNELS, OPERATORS
from seal_ray.inner.kernels.short_attention import short_attention
from seal_ray.inner.layout import Block
from seal_ray.redaction import logger

LOG = logger(__name__)
CHOICE = "SEAL_RAY_KERNELS"  # plain: the plain forms on every device
CLOSE = {torch.float32: 1e-5, torch.bfloat16: 2e-2, torch.float16: 4e-3}  # of the largest value


@cache
def use_kernels(device: torch.device, dtype: torch.dtype) -> bool:
    """Takes the kernels into use where they agree with the plain forms; says why where they do not."""
    makers = {"cuda": triton_kernels} | ({"cpu": cpu_kernels} if dtype == torch.float32 else {})
    if device.type not in makers or os.environ.get(CHOICE) == "plain":
        return False
    try:
        kernels = makers[device.type]()
        wrong = disagreements(kernels, device, dtype)
    except Exception as error:  # whatever a compiler or driver has to say: the plain forms go on without it
        LOG.warning("no kernels of our own on %s, plain torch instead: %s: %s", device, type(error).__name__, error)
        return False
    if wrong:
        LOG.warning("kernels are off by these shares on %s and not used: %s", device, wrong)
    KERNELS[device.type].update({name: kernel for name, kernel in kernels.items() if name not in wrong})
    return not wrong


def triton_kernels() -> dict[str, Any]:
    """By the name of their operation. They need Triton, which a build of torch without CUDA does not bring."""
    from seal_ray.inner.kernels import triton_adam, triton_block, triton_grouped

    return triton_block.KERNELS | triton_adam.KERNELS | triton_grouped.KERNELS


def cpu_kernels() -> dict[str, Any]:
    """Those of float32. They need a C++ compiler, once on a machine."""
    from seal_ray.inner.kernels.cpu_block import CpuBlock

    return CpuBlock(library()).kernels()


def disagreements(kernels: Mapping[str, Any], device: torch.device, dtype: torch.dtype) -> dict[str, float]:
    """The kernels that come to something else, and how far off they are as a share of the largest value."""
    wrong: dict[str, float] = {}
    for name, arguments in samples(device, dtype):
        if name not in kernels:
            continue
        operator = OPERATORS[name]
        expected, got = (_results(form, arguments, operator.written) for form in (operator.plain, kernels[name]))
        for ours, theirs in zip(expected, got, strict=True):
            off = _off(ours, theirs)
            if not off <= max(CLOSE[dtype], CLOSE.get(ours.dtype, 0.0)):
                wrong[name] = max(off, wrong.get(name, 0.0))
    return wrong


def _off(ours: Tensor, theirs: Tensor) -> float:
    """As a share of the largest value. Where a value is as near to one code as to the next, either will do."""
    apart = (ours.float() - theirs.float()).abs().max()
    if not ours.is_floating_point():
        apart = (apart - 1).clamp(min=0)
    return float(apart / ours.float().abs().max())


def _results(form: Any, arguments: Sequence[Any], written: Sequence[int]) -> list[Tensor]:
    """What a form returns, and what becomes of the arguments that it writes to."""
    own = [a.clone() if isinstance(a, Tensor) else a for a in arguments]
    returned = form(*own)
    returned = [returned] if isinstance(returned, Tensor) else list(returned or ())
    return [*returned, *(own[n] for n in written if own[n] is not None)]


def samples(device: torch.device, dtype: torch.dtype) -> Iterator[tuple[str, list[Any]]]:
    """Arguments of every operation: widths that fill no power of two, and with and without what may be left out."""
    generator = torch.Generator().manual_seed(0)

    def some(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).to(device, dtype)

    for width in (96, 3584):
        x, y, weight, more, through = some(5, width), some(5, width), some(width), some(5, width), some(5, width)
        yield "rms_norm", [x, weight, 1e-6]
        for extra in (None, more):
            yield "add_", [y, x, extra]
            yield "add_rms_norm_", [y, x, extra, weight, 1e-6]
            yield "rms_norm_backward_", [y, extra, x, weight, 1e-6, None]
            yield "rms_norm_backward_", [y, extra, x, weight, 1e-6, through]
    gate, up, product, more = (some(5, 700) for _ in range(4))
    for extra in (None, more):
        yield "swiglu_", [gate, up, extra, more]
        yield "swiglu_", [gate, up, None, extra]
        yield "swiglu_backward_", [gate, up, product, extra]
    for heads, shared, width in ((6, 2, 24), (28, 4, 128)):
        q, k, v = some(5, heads, width), some(5, shared, width), some(5, shared, width)
        cos, sin = some(5, width), some(5, width)
        yield "rotate_", [q, k, v, None, None, None, cos, sin]
        yield "rotate_", [q, k, v, *(some(5, n * width) for n in (heads, shared, shared)), cos, sin]
        yield "rotate_backward", [q, k, cos, sin]
    ends = torch.tensor([40, 47, 49], dtype=torch.int32, device=device)
    for left, right in ((some(49, 96), some(49, 48)[:, 16:32]), (some(49, 32), some(49, 192))):
        for fresh in (True, False) if dtype != torch.float16 else ():  # no grouped product takes that
            yield "grouped_gradients_", [some(3, left.shape[1], right.shape[1]), left, right, ends, fresh]
    yield from _of_blocks(some)
    master, grads, split = torch.randn(3, 150, generator=generator).to(device), some(4, 150), 70
    slots, places = (torch.tensor(n, device=device) for n in ([2, 0], [0, 3]))
    codes = [torch.randint(*span, (3, 150), generator=generator) for span in ((-127, 128), (1, 256))]
    tops = torch.rand(3, 2, 4, generator=generator).to(device) + 0.1
    bounds = torch.tensor([0, 40, 70, 134, 150], device=device)
    for norms, copy in (([1.5, 0.2], master.to(dtype)), ([1.5, float("nan")], master.to(dtype)), ([1.5, 0.2], None)):
        rows = [[0.9, 0.999, 1e-8, 0.1, 1.0, 2.0, 2.0, 1e-2, 0.1, 0.001, 0.6, 0.4],
                [0.8, 0.95, 1e-6, 0.0, float("inf"), 0.5, 0.5, 1e-3, 0.36, 0.0975, 0.2, 0.9]]  # fmt: skip
        numbers = torch.tensor(rows, device=device)
        yield "gradient_norms", [grads, places, numbers, split]
        step = [copy, grads, slots, places, torch.tensor(norms, device=device), numbers]
        for kept_in in (torch.float32, torch.bfloat16):
            yield "adam_step_", [master, (master / 8).to(kept_in), (master.square() / 64).to(kept_in), *step, split]
        state = [master, codes[0].to(device, torch.int8), codes[1].to(device, torch.uint8), tops]
        yield "adam_step_int8_", [*state, *step, bounds, 2048, split]


def _of_blocks(some: Callable[..., Tensor]) -> Iterator[tuple[str, list[Any]]]:
    """Arguments of the operations over rows in blocks: positions in several blocks, and widths that fill no tile."""
    placed = [Block(0, 13, 3, 0, 3), Block(39, 30, 2, 1, 3, fresh=False), Block(99, 6, 2, 3, 4)]
    for width_in, width_out in ((40, 16), (16, 300), (300, 48), (5, 7)):
        rows, out, matrices = some(111, width_in), some(111, width_out), some(4, width_in, width_out)
        for add in (False, True):
            yield "rows_by_matrices_", [out, rows, matrices, placed, add]
            yield "rows_by_matrices_", [out, rows, some(4, width_out, width_in).mT, placed, add]
        part = some(111, 3 * width_in)[:, width_in : 2 * width_in]
        yield "rows_by_matrices_", [out, part, matrices, placed, True]
        yield "rows_by_rows_", [some(4, width_in, width_out), part, out, placed]
        yield "rows_by_rows_", [some(4, width_out, width_in), out, part, placed]
    for heads, groups, width in ((9, 3, 64), (2, 2, 20)):
        q, out, k, v = (some(111, count, width) for count in (heads, heads, groups, groups))
        yield "short_attention", [q, k, v, placed, width**-0.5, [None] * len(placed)]
        _, shares = short_attention.plain(q, k, v, placed, width**-0.5, [None] * len(placed))
        yield "short_attention_backward", [out, q, k, v, shares, placed, width**-0.5]
    logits = some(5, 9001) * 4
    yield "vocabulary_loss_", [logits, logits.argmax(1)]
    yield "vocabulary_loss_", [logits, logits.argmin(1)]
