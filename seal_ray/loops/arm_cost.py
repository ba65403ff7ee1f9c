"""What an arm has cost: tokens that were written, read and trained on, optimiser steps, seconds on the devices."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from seal_ray.models import text_ids
from seal_ray.records import Edit, Trial


@dataclass(frozen=True)
class ArmCost:
    """Totals over an arm's candidates, without the baselines."""

    candidates: int = 0
    failed: int = 0
    edit_tokens: int = 0  # of the edits themselves, whoever wrote them
    written: int = 0  # tokens that adapters wrote while they were trained
    taught: int = 0  # tokens that a teacher read for them
    trained: int = 0  # tokens that went through training
    steps: int = 0
    seconds: float = 0.0


def arm_cost(edits: Iterable[Edit], trials: Iterable[Trial], tokenizer: Any) -> ArmCost:
    """`trials` of the arm's own candidates. Of an edit from elsewhere the tokens are counted as the model reads it."""
    tokens = sum(len(e.ids) or len(text_ids(tokenizer, e.text)) for e in edits)
    tried = list(trials)
    costs = [t.cost for t in tried]
    return ArmCost(
        candidates=len(tried),
        failed=sum(t.failure is not None for t in tried),
        edit_tokens=tokens,
        written=sum(c.written for c in costs),
        taught=sum(c.taught for c in costs),
        trained=sum(c.tokens for c in costs),
        steps=sum(c.steps for c in costs),
        seconds=round(sum(c.seconds for c in costs), 3),
    )
