"""Looking after a run: what is wrong with its record, what can go, what a deletion did; in words and as data."""

import contextlib
from dataclasses import asdict
from typing import Any

from seal_ray.config import StorageSection
from seal_ray.errors import LedgerError
from seal_ray.storage.deletion import Deletion
from seal_ray.storage.garbage import Waste
from seal_ray.storage.ledger import Ledger
from seal_ray.storage.recorded import recorded_settings
from seal_ray.storage.verification import Problem

HARMLESS = "harmless"


def open_as_it_is(uri: str, given: StorageSection) -> Ledger:
    """The ledger for reading, also where its first page is damaged or gone: that is a finding like others."""
    with contextlib.suppress(LedgerError):
        given = recorded_settings(uri, given)
    return Ledger(uri, given, read_only=True)


def problems_as_data(problems: list[Problem]) -> dict[str, Any]:
    return {"whole": not any(p.grave for p in problems), "problems": [asdict(p) for p in problems]}


def show_problems(uri: str, problems: list[Problem]) -> str:
    grave = [p for p in problems if p.grave]
    harmless = [p for p in problems if not p.grave]
    lines = [f"{p.what}: {p.message}" for p in grave]
    lines += [f"{p.what}, {HARMLESS}: {p.message}" for p in harmless]
    if grave:
        parts = "one object is" if len(grave) == 1 else f"{len(grave)} objects are"
        end = f"{uri} is not whole: {parts} missing or damaged; what a round lacks is done again when the run goes on"
    else:
        end = f"{uri} is whole" + (f" ({len(harmless)} harmless findings)" if harmless else "")
    return "\n".join([*lines, end])


def waste_as_data(waste: list[Waste], deleted: bool) -> dict[str, Any]:
    return {"waste": [asdict(w) for w in waste], "bytes": sum(w.size for w in waste), "deleted": deleted}


def show_waste(waste: list[Waste], deleted: bool) -> str:
    if not waste:
        return "nothing can go"
    lines = [f"{w.path}  {amount(w.size)}  {w.reason}" for w in waste]
    total = f"{len(waste)} objects, {amount(sum(w.size for w in waste))}"
    end = f"deleted: {total}" if deleted else f"can go: {total}; nothing is deleted without --delete"
    return "\n".join([*lines, end])


def deletion_as_data(done: Deletion) -> dict[str, Any]:
    return asdict(done) | {"leftovers": list(done.leftovers), "versions": list(done.versions)}


def show_deletion(task: str, done: Deletion) -> str:
    lines = [
        f"{task}: {done.records} records taken out of {done.objects} objects; {done.tombstone} says which",
    ]
    if done.leftovers:
        lines.append("a text of the task still stands in, and is not ours to rewrite:")
        lines += [f"  {path}" for path in done.leftovers]
    if done.versions:
        lines.append("these weights may have been trained on it, and stay:")
        lines += [f"  {path}" for path in done.versions]
    if done.purged:
        lines.append(f"{done.purged} earlier states of these objects were deleted from the bucket")
    if done.noncurrent is None:
        lines.append("whether the bucket keeps earlier states of these objects could not be found out; ask its owner")
    elif done.noncurrent:
        lines.append(
            f"the bucket keeps {done.noncurrent} earlier states of these objects, with the text; --purge deletes them "
            "for good"
        )
    return "\n".join(lines)


def amount(size: int) -> str:
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= scale:
            return f"{size / scale:.1f} {unit}"
    return f"{size} B"
