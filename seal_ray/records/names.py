"""Seeds and names, from what they stand for."""

from collections.abc import Mapping, Set

from seal_ray.plain_data import Json, digest, encode
from seal_ray.records.training import Recipe


def derive_seed(*parts: int | str) -> int:
    """A seed from where it is used (run seed, round, task, slot, repeat), never from the clock. Below 2**31."""
    return int(digest(list(parts))[:16], 16) % 2**31


# The fields of a recipe when the first candidates were named. They are in every name, whatever their value.
_FIRST_FIELDS = """
rank alpha targets epochs batch_size accumulation lr schedule warmup clip weight_decay betas eps max_length pad_to
shuffle
"""
NAMED_FIELDS = frozenset(_FIRST_FIELDS.split())


def identity(values: Mapping[str, Json], always: Set[str], defaults: Mapping[str, Json]) -> dict[str, Json]:
    """Settings as they enter a name: a setting that is newer than the first names only where it is not its default.

    So a run that was begun before there was such a setting finds its candidates under the names that they have.
    """
    return {k: v for k, v in values.items() if k in always or v != defaults[k]}


def candidate_id(version: str, task: str, edit: Json, recipe: Recipe | None, answering: Json, seed: int) -> str:
    """What makes two candidates the same: doing one twice is harmless, and the first record counts."""
    named = identity(encode(recipe), NAMED_FIELDS, encode(Recipe())) if recipe else None
    return digest([version, task, edit, named, answering, seed])[:32]
