"""Adapter products on CPU, one matrix product for each adapter of a batch.

They stand in for vLLM's own of the same names and arguments, which copy the adapter's weights once for each token (a
prompt of 300 tokens takes minutes and gigabytes) and give requests without an adapter (index -1) the last one loaded.
"""

from collections.abc import Iterator

import torch
from torch import Tensor


def shrink(inputs: Tensor, weights: Tensor, output: Tensor, indices: Tensor, scaling: float = 1.0) -> None:
    """output[row] = scaling * A[index of row] @ inputs[row]; rows without an adapter are left at zero."""
    for adapter, rows in _groups(indices, inputs.shape[0]):
        down = _matrix(weights, adapter).to(output.dtype)
        product = scaling * (inputs[rows].to(output.dtype) @ down.T)
        output[rows, : product.shape[1]] = product


def expand(inputs: Tensor, weights: Tensor, output: Tensor, indices: Tensor, add_inputs: bool = True) -> None:
    """output[row] += B[index of row] @ inputs[row]; rows without an adapter stay as they are."""
    expand_slice(inputs, weights, output, indices, 0, min(weights.shape[-2], output.shape[1]), add_inputs)


def expand_slice(
    inputs: Tensor,
    weights: Tensor,
    output: Tensor,
    indices: Tensor,
    slice_offset: int,
    slice_size: int,
    add_inputs: bool = True,
) -> None:
    """The same for some of the output's columns."""
    columns = slice(slice_offset, slice_offset + slice_size)
    for adapter, rows in _groups(indices, inputs.shape[0]):
        up = _matrix(weights, adapter)[:slice_size].to(output.dtype)
        product = inputs[rows].to(output.dtype) @ up.T
        if add_inputs:
            output[rows, columns] += product
        else:
            output[rows, columns] = product


def shrink_texts(
    inputs: Tensor,
    weights: Tensor,
    output: Tensor,
    starts: Tensor,
    lengths: Tensor,
    indices: Tensor,
    batches: int,
    longest: int,
    tokens: int,
    scaling: float,
) -> None:
    """`shrink` where whole texts come in: one index for each text."""
    shrink(inputs, weights, output, torch.repeat_interleave(indices, lengths), scaling)


def expand_texts(
    inputs: Tensor,
    weights: Tensor,
    output: Tensor,
    starts: Tensor,
    lengths: Tensor,
    indices: Tensor,
    batches: int,
    longest: int,
    tokens: int,
    add_inputs: bool = False,
) -> None:
    expand(inputs, weights, output, torch.repeat_interleave(indices, lengths), add_inputs)


def expand_slice_texts(
    inputs: Tensor,
    weights: Tensor,
    output: Tensor,
    starts: Tensor,
    lengths: Tensor,
    indices: Tensor,
    batches: int,
    longest: int,
    tokens: int,
    slice_offset: int,
    slice_size: int,
    add_inputs: bool = False,
) -> None:
    exploded = torch.repeat_interleave(indices, lengths)
    expand_slice(inputs, weights, output, exploded, slice_offset, slice_size, add_inputs)


# vLLM's name -> ours
PRODUCTS = {
    "bgmv_shrink": shrink,
    "bgmv_expand": expand,
    "bgmv_expand_slice": expand_slice,
    "sgmv_shrink": shrink_texts,
    "sgmv_expand": expand_texts,
    "sgmv_expand_slice": expand_slice_texts,
}


def _groups(indices: Tensor, rows: int) -> Iterator[tuple[int, slice | Tensor]]:
    """Each adapter of the batch and its rows; a batch of one adapter is taken whole, without copying it."""
    indices = indices[:rows]
    first = int(indices[0]) if rows else -1
    if bool((indices == first).all()):
        if first >= 0:
            yield first, slice(None)
        return
    for adapter in indices.unique().tolist():
        if adapter >= 0:
            yield adapter, (indices == adapter).nonzero(as_tuple=True)[0]


def _matrix(weights: Tensor, adapter: int) -> Tensor:
    """An adapter's matrix out of [adapters, 1, rows, columns] or [adapters, rows, columns]."""
    chosen = weights[adapter]
    return chosen[0] if chosen.dim() == 3 else chosen
