"""Clearing away what no reader of a run looks at."""

from collections.abc import Iterator
from dataclasses import dataclass

from seal_ray.storage import epochs
from seal_ray.storage.connection import Connection
from seal_ray.storage.ledger import Ledger
from seal_ray.storage.objects import StoredObject, UnfinishedUpload
from seal_ray.storage.round_parts import NAME
from seal_ray.storage.rounds import RoundLedger
from seal_ray.storage.seen import read_seen
from seal_ray.storage.segments import parse
from seal_ray.storage.verification import check_named, is_index


@dataclass(frozen=True)
class Waste:
    """An object that no reader looks at."""

    path: str
    size: int
    reason: str
    upload: str = ""  # it is no object but the parts of an upload that was never completed


def gc(ledger: Ledger, *, dry_run: bool) -> list[Waste]:
    """What no reader looks at: late writes, parts set aside, working folders of committed rounds, old heartbeats."""
    if dry_run:
        return list(_waste(ledger))
    drives = ledger.holds
    with ledger.held("seal-ray gc"):
        if not drives:  # what a driver that was killed has left stands in its heartbeat, which is about to go
            note = ledger.note()
            ledger.leave_note(lambda: note)
        waste = list(_waste(ledger))
        for entry in waste:
            if entry.upload:
                ledger.store.give_up_upload(UnfinishedUpload(entry.path, entry.upload, 0.0))
            else:
                ledger.store.delete(entry.path)
        return waste


def _waste(ledger: Ledger) -> Iterator[Waste]:
    store = ledger.store
    seen = read_seen(store)
    connection = Connection(store, ledger.settings, read_only=True, seen=seen)
    top = epochs.highest(store)
    for entry in store.list(""):
        name = entry.path.rpartition("/")[2]
        if entry.path.startswith("epochs/"):
            number = int(name[:6]) if name[:6].isdecimal() else top
            if (name.endswith(".beat.json") and number < top) or (name.endswith(".seen.json") and number < seen.epoch):
                yield Waste(entry.path, entry.size, "of an epoch that is over")
        elif name.startswith((".probe-", ".clock-")):
            yield Waste(entry.path, entry.size, "left behind by a trial write")
        elif entry.path.startswith("events/") and not seen.accepts(entry.path):
            yield Waste(entry.path, entry.size, "written by a driver that had been replaced")
    for number in ledger.rounds():
        yield from _waste_of_round(connection, number)
    uploads, files = store.unfinished(), store.left_behind()
    # what is younger may be on its way
    old = store.now() - ledger.settings.lease if uploads or files else 0.0
    for upload in uploads:
        if upload.begun < old:
            yield Waste(upload.path, 0, "an upload that was never completed", upload.upload)
    yield from (Waste(e.path, e.size, "half-written") for e in files if e.modified < old)


def _waste_of_round(connection: Connection, number: int) -> Iterator[Waste]:
    prefix, store = f"rounds/{number:04d}", connection.store
    part = RoundLedger(connection, number)
    entries = store.list(f"{prefix}/")
    manifest = part.manifest()
    if manifest is not None:
        listed = {p["path"] for p in manifest["parts"]}
        own = part.manifest_path()
        for entry in entries:
            if entry.path not in listed and entry.path != own:
                yield Waste(entry.path, entry.size, "no part of the committed round")
        return
    aside = part.records("discards")
    folders = set()
    for path in same_stems(entries, prefix):
        if is_index(path):
            value = None if path in aside else check_named(connection, path)[1]
            if value is not None:
                folders.add(value["folder"])
    for entry in entries:
        if entry.path in aside:
            yield Waste(entry.path, entry.size, "set aside")
        elif parse(entry.path):
            if not connection.seen().accepts(entry.path):
                yield Waste(entry.path, entry.size, "written by a driver that had been replaced")
        elif entry.path.count("/") > 3 and not any(entry.path.startswith(f"{f}/") for f in folders):
            yield Waste(entry.path, entry.size, "in a folder that was not kept")
        elif entry.path.count("/") == 2 and (problem := check_named(connection, entry.path)[0]):
            yield Waste(entry.path, entry.size, "damaged" if problem.grave else "of a driver that had been replaced")


def same_stems(entries: list[StoredObject], prefix: str) -> list[str]:
    """The named parts of a round among these."""
    return [e.path for e in entries if e.path.count("/") == 2 and NAME.fullmatch(e.path[len(prefix) + 1 :])]
