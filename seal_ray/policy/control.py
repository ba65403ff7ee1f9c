"""An experiment's control: rewards that are dealt out anew, so that what is chosen has nothing to do with its worth.

A run that learns from such rewards must not get better. If it does, something besides the rewards is at work: what is
measured moves by itself, or training on anything at all helps.
"""

import random
from collections.abc import Sequence
from dataclasses import replace

from seal_ray.records import Json, Reward, derive_seed


def shuffled(rewards: Sequence[Reward], seed: int) -> tuple[Reward, ...]:
    """The rewards, their values dealt out among the edits of each task. The order of `rewards` makes no difference."""
    by_task: dict[str, list[Reward]] = {}
    for reward in sorted(rewards, key=lambda r: (r.task, r.slot, r.edit)):
        by_task.setdefault(reward.task, []).append(reward)
    dealt: list[Reward] = []
    for task, own in by_task.items():
        given = list(own)
        random.Random(derive_seed(seed, task)).shuffle(given)
        dealt += [replace(other, edit=r.edit, slot=r.slot) for r, other in zip(own, given, strict=True)]
    return tuple(dealt)


def told(rewards: Sequence[Reward], looked_at: Sequence[Reward]) -> dict[str, Json]:
    """For the ledger: what each edit was taken to be worth; nothing where that is what it is."""
    if rewards is looked_at:
        return {}
    return {"control": {"kind": "shuffled", "values": {r.edit: r.value.mean for r in looked_at}}}
