"""A text as an adapter is trained on it: its tokens, which of them carry loss, and what a teacher expects there."""

from collections.abc import Sequence
from dataclasses import dataclass

from seal_ray.inner.distill import TopTokens
from seal_ray.records import Example


@dataclass(frozen=True)
class TrainingText:
    """Without a teacher, the loss is that of the labelled tokens themselves."""

    ids: Sequence[int]
    labelled: Sequence[int]  # which tokens carry loss; the first of a text never does
    teacher: TopTokens | None = None  # at these tokens
    dropout: float = 0.0  # share of the adapter's inputs that is left out
    key: int = 0  # what that is drawn from

    @staticmethod
    def of(example: Example, teacher: TopTokens | None = None) -> "TrainingText":
        return TrainingText(example.ids, [i for i, labelled in enumerate(example.mask) if i and labelled], teacher)
