"""Adapter products on CPU: each row gets its own adapter, and a row without one gets none."""

import pytest
import torch

from seal_ray.sampling import cpu_lora

ROWS, WIDTH, RANK, OUT, ADAPTERS = 7, 5, 3, 11, 3


def numbers(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


@pytest.mark.parametrize("indices", [[0, 2, -1, 1, 1, -1, 0], [2] * ROWS, [-1] * ROWS, [1] * (ROWS - 1) + [-1]])
def test_each_row_gets_its_own_adapter_and_rows_without_one_get_none(indices: list[int]) -> None:
    inputs, base = numbers(ROWS, WIDTH), numbers(ROWS, OUT + 4)
    down, up = numbers(ADAPTERS, 1, RANK, WIDTH), numbers(ADAPTERS, 1, OUT, RANK)
    at = torch.tensor(indices)
    hidden, output = torch.zeros(ROWS, RANK), base.clone()
    cpu_lora.shrink(inputs, down, hidden, at, 0.5)
    cpu_lora.expand_slice(hidden, up, output, at, 2, OUT)
    expected = base.clone()
    for row, adapter in enumerate(indices):
        if adapter >= 0:
            expected[row, 2 : 2 + OUT] += up[adapter, 0] @ (0.5 * (down[adapter, 0] @ inputs[row]))
    torch.testing.assert_close(output, expected)


def test_whole_texts_have_one_index_each() -> None:
    inputs, down, up = numbers(ROWS, WIDTH), numbers(ADAPTERS, 1, RANK, WIDTH), numbers(ADAPTERS, 1, OUT, RANK)
    lengths, indices = torch.tensor([3, 1, 3]), torch.tensor([2, -1, 0])
    texts, rows = torch.zeros(ROWS, OUT), torch.zeros(ROWS, OUT)
    for output, whole in ((texts, True), (rows, False)):
        hidden = torch.zeros(ROWS, RANK)
        at = torch.repeat_interleave(indices, lengths)
        if whole:
            starts = torch.tensor([0, 3, 4])
            cpu_lora.shrink_texts(inputs, down, hidden, starts, lengths, indices, 3, 3, ROWS, 1.0)
            cpu_lora.expand_texts(hidden, up, output, starts, lengths, indices, 3, 3, ROWS, True)
        else:
            cpu_lora.shrink(inputs, down, hidden, at)
            cpu_lora.expand(hidden, up, output, at)
    torch.testing.assert_close(texts, rows)
    assert texts[3].abs().max() == 0 and texts[0].abs().max() > 0
