"""The teacher: the model itself, without the candidates' adapters, where it reads more than the student does.

A version's own adapter stays on: the teacher is what the student was before it was trained. It never moves.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from seal_ray.inner.distill import TOP, TopTokens, top_tokens
from seal_ray.inner.frozen import Frozen
from seal_ray.inner.head import chunks
from seal_ray.inner.layout import Text, pack
from seal_ray.inner.products import Adapters
from seal_ray.records import Example, Failure


@dataclass(frozen=True)
class Reading:
    """What a teacher reads, and at which of its tokens it is asked what comes next."""

    ids: tuple[int, ...]
    asked: tuple[int, ...]
    temperature: float

    @staticmethod
    def of(example: Example, temperature: float) -> "Reading":
        """Of an example that has a teacher: its own text with more before it."""
        first, before = example.first, len(example.teacher)
        labelled = [i for i in range(first, len(example.ids)) if example.mask[i]]
        # the last token is predicted and never read
        ids = (*example.teacher, *example.ids[first:-1])
        return Reading(ids, tuple(before + i - first - 1 for i in labelled), temperature)

    @staticmethod
    def before(teacher: Sequence[int], written: Sequence[int], temperature: float) -> "Reading":
        """Of an answer that the student has written."""
        ids = (*teacher, *written[:-1])
        return Reading(ids, tuple(range(len(teacher) - 1, len(ids))), temperature)


@torch.no_grad()
def expectations(
    frozen: Frozen, readings: Sequence[Reading], limit: int, adapters: Mapping[str, Adapters] | None = None
) -> list[TopTokens]:
    """What the teacher expects in each reading. Each different one goes through the model once. Only while attached.

    `adapters`: of one adapter, that the teacher has on.
    """
    different = list(dict.fromkeys(readings))
    made: dict[Reading, TopTokens] = {}
    plain = [Text(n, reading.ids) for n, reading in enumerate(different)]
    packed = (
        pack([plain], limit=limit, cost=frozen.block_cost)
        if adapters
        else pack([], plain, limit=limit, cost=frozen.block_cost)
    )
    for layout in packed:
        own = [different[text.key] for text in layout.texts]
        at = [start + row for reading, start in zip(own, layout.starts, strict=True) for row in reading.asked]
        states = frozen.packed(layout, adapters or {})[torch.tensor(at, device=frozen.device)]
        degrees = torch.tensor([r.temperature for r in own for _ in r.asked], device=frozen.device)
        parts = [top_tokens(frozen.head(states[rows]), degrees[rows])
                 for rows in chunks(len(at), frozen.vocabulary, frozen.device)]  # fmt: skip
        whole, row = TopTokens.joined(parts), 0
        for reading in own:
            made[reading] = whole.at(slice(row, row + len(reading.asked)))
            row += len(reading.asked)
    return [made[reading] for reading in readings]


def uncovered(examples: Sequence[Example], teachers: Sequence[TopTokens | None]) -> Failure | None:
    """Why an answer can't be taught, if so: the teacher itself, with all that it has read, expects nothing of it."""
    for number, (example, teacher) in enumerate(zip(examples, teachers, strict=True), 1):
        if teacher is None:
            continue
        tokens = [t for i, t in enumerate(example.ids) if i >= example.first and example.mask[i]]
        # that a text ends says nothing about it
        tokens = tokens[:-1] or tokens
        expected = (teacher.ids[: len(tokens)].cpu() == torch.tensor(tokens)[:, None]).any()
        if not expected:
            message = f"of the {len(tokens)} tokens of text {number} none is among the {TOP} that the teacher expects"
            return Failure("not_expected", f"{message} in their place; is it about the context at all?")
    return None
