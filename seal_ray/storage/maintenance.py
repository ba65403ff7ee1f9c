"""Looking after a run's record: find what is damaged, clear away what nobody reads, take a task's texts out."""

import contextlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from seal_ray.errors import DataError, Missing, SealError
from seal_ray.records import Json, canonical, digest, encode
from seal_ray.storage import codec, epochs
from seal_ray.storage.access import Access, tombstones
from seal_ray.storage.listing import Part, StoredObject
from seal_ray.storage.local import LocalFiles
from seal_ray.storage.rounds import KINDS, NAME, RoundLedger, listed, same_name
from seal_ray.storage.segments import parse
from seal_ray.storage.store import Store

if TYPE_CHECKING:
    from seal_ray.storage.ledger import Ledger

TELLING = 24  # characters from which a string of a task is looked for wherever it may stand


@dataclass(frozen=True)
class Problem:
    """Something in the record that is not as it should be."""

    path: str
    what: str  # missing, damaged, late
    message: str
    grave: bool = True  # False: readers pass over it and nothing is lost


@dataclass(frozen=True)
class Waste:
    """An object that no reader looks at."""

    path: str
    size: int
    reason: str


@dataclass(frozen=True)
class Deletion:
    """What deleting a task did, and what it could not."""

    tombstone: str
    objects: int  # rewritten
    records: int  # taken out
    leftovers: tuple[str, ...]  # objects that still hold a text of the task
    versions: tuple[str, ...]  # folders of weights that were trained while the task was there


# finding damage


def verify(ledger: "Ledger") -> list[Problem]:
    """Read every object that counts and compare it with its digest."""
    store = ledger.store
    found = [_check_part(store, "run.json")]
    entries = {e.path: e for e in store.list("")}
    found += [_check_part(store, p) for p in entries if p.startswith(("epochs/", "tombstones/"))]
    found = [p for p in found if p]
    if any(p.path.endswith(".seen.json") for p in found):
        return found  # without it nobody can say what counts
    access = Access(store, ledger.settings, read_only=True, seen=epochs.read_seen(store))
    for number in ledger.rounds():
        prefix = f"rounds/{number:04d}"
        below = {p: e for p, e in entries.items() if p.startswith(f"{prefix}/")}
        found += _verify_round(access, prefix, below)
    found += _verify_segments(access, "events", [p for p in entries if p.startswith("events/")], grave=False)
    return found


def _verify_round(access: Access, prefix: str, entries: Mapping[str, StoredObject]) -> Iterator[Problem]:
    store = access.store
    manifest: dict[str, Json] | None = None
    faults: list[Problem] = []
    for path in same_name(entries, f"{prefix}/manifest"):
        problem, value = _named(access, path)
        if problem:
            yield problem
        if value is not None:
            wrong = list(_verify_listed(access, entries, [Part(**p) for p in value["parts"]]))
            if manifest is None or not wrong:
                manifest, faults = value, wrong
                if not wrong:
                    break
    if manifest is not None:
        yield from faults
        return
    tops = [p for p in entries if p.count("/") == 2 and not p.startswith(f"{prefix}/manifest")]
    for path in tops:
        problem, value = _named(access, path)
        if problem:
            yield problem
        elif path.endswith(".files.json") and value is not None:
            yield from _verify_listed(access, entries, listed(value))
    for kind in KINDS:
        folder = f"{prefix}/{kind}"
        yield from _verify_segments(access, folder, [p for p in entries if p.startswith(f"{folder}/")])
    stray = [p for p in entries if p.count("/") > 2 and not parse(p) and p.split("/")[2] in KINDS]
    for path in stray:
        yield Problem(path, "damaged", f"{store.uri(path)} is no segment: nobody here wrote it", grave=False)


def _verify_listed(access: Access, entries: Mapping[str, StoredObject], parts: list[Part]) -> Iterator[Problem]:
    for part in parts:
        uri = access.store.uri(part.path)
        if part.path not in entries:
            yield Problem(part.path, "missing", f"{uri} is gone")
            continue
        now = access.store.part(part.path)
        if now != part and not access.is_redacted(now):
            size = f"{now.size} bytes instead of {part.size}" if now.size != part.size else "another digest"
            yield Problem(part.path, "damaged", f"{uri} is damaged: it has {size}")


def _verify_segments(access: Access, folder: str, paths: list[str], *, grave: bool = True) -> Iterator[Problem]:
    seen, store = access.seen(), access.store
    for epoch, number in seen.expected(folder):
        path = f"{folder}/e{epoch:06d}-{number:08d}.jsonl"
        if path not in paths:
            yield Problem(path, "missing", f"{store.uri(path)} is gone", grave)
    for path in paths:
        if not parse(path):
            continue
        if not seen.accepts(path):
            message = f"{store.uri(path)} was written by a driver that had been replaced; nobody reads it"
            yield Problem(path, "late", message, grave=False)
            continue
        try:
            header, _ = codec.unpack_segment(store.read(path), store.uri(path))
            if (folder, header["epoch"], header["number"]) != parse(path):
                yield Problem(path, "damaged", f"{store.uri(path)} is damaged: it is another segment", grave)
        except SealError as error:
            yield Problem(path, "damaged", error.message, grave)


def _named(access: Access, path: str) -> tuple[Problem | None, Json]:
    """What is wrong with a named part, and its value if it counts."""
    uri = access.store.uri(path)
    try:
        value, envelope = codec.unpack_part(access.store.read(path), uri)
    except SealError as error:
        return Problem(path, "damaged", error.message), None
    if not access.counts(path, envelope["epoch"]):
        return Problem(path, "late", f"{uri} was written by a driver that had been replaced", grave=False), None
    return None, value


def _check_part(store: Store, path: str) -> Problem | None:
    try:
        codec.unpack_part(store.read(path), store.uri(path))
    except Missing as error:
        return Problem(path, "missing", error.message)
    except SealError as error:
        return Problem(path, "damaged", error.message)
    return None


# clearing away


def gc(ledger: "Ledger", *, dry_run: bool) -> list[Waste]:
    """What no reader looks at: late writes, parts set aside, working folders of committed rounds, old heartbeats."""
    if dry_run:
        return list(_waste(ledger))
    with _held(ledger, "gc"):
        found = list(_waste(ledger))
        for waste in found:
            ledger.store.delete(waste.path)
        return found


def _waste(ledger: "Ledger") -> Iterator[Waste]:
    store = ledger.store
    seen = epochs.read_seen(store)
    access = Access(store, ledger.settings, read_only=True, seen=seen)
    top = epochs.highest(store)
    for entry in store.list(""):
        name = entry.path.rpartition("/")[2]
        if entry.path.startswith("epochs/"):
            number = int(name[:6]) if name[:6].isdigit() else top
            if (name.endswith(".beat.json") and number < top) or (name.endswith(".seen.json") and number < seen.epoch):
                yield Waste(entry.path, entry.size, "of an epoch that is over")
        elif name.startswith((".probe-", ".clock-")):
            yield Waste(entry.path, entry.size, "left behind by a trial write")
        elif entry.path.startswith("events/") and not seen.accepts(entry.path):
            yield Waste(entry.path, entry.size, "written by a driver that had been replaced")
    for number in ledger.rounds():
        yield from _waste_of_round(access, number)
    backend = store._backend
    if isinstance(backend, LocalFiles):
        old = store.now() - ledger.settings.lease
        yield from (Waste(e.path, e.size, "half-written") for e in backend.left_behind() if e.modified < old)


def _waste_of_round(access: Access, number: int) -> Iterator[Waste]:
    prefix, store = f"rounds/{number:04d}", access.store
    part = RoundLedger(access, number)
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
        if path.endswith(".files.json") or ".files.e" in path:
            value = None if path in aside else _named(access, path)[1]
            if value is not None:
                folders.add(value["folder"])
    for entry in entries:
        if entry.path in aside:
            yield Waste(entry.path, entry.size, "set aside")
        elif parse(entry.path):
            if not access.seen().accepts(entry.path):
                yield Waste(entry.path, entry.size, "written by a driver that had been replaced")
        elif entry.path.count("/") > 3 and not any(entry.path.startswith(f"{f}/") for f in folders):
            yield Waste(entry.path, entry.size, "in a folder that was not kept")
        elif entry.path.count("/") == 2 and (problem := _named(access, entry.path)[0]):
            yield Waste(entry.path, entry.size, "damaged" if problem.grave else "of a driver that had been replaced")


def same_stems(entries: list[StoredObject], prefix: str) -> list[str]:
    """The named parts of a round among these."""
    return [e.path for e in entries if e.path.count("/") == 2 and NAME.fullmatch(e.path[len(prefix) + 1 :])]


# deleting a task


def delete_task(ledger: "Ledger", task_id: str) -> Deletion:
    """Take every record of a task out of every object. The objects are rewritten; a tombstone says what they became."""
    with _held(ledger, "delete"):
        store = ledger.store
        entries = [e for e in store.list("") if not e.path.startswith(("epochs/", "tombstones/"))]
        entries = [e for e in entries if not e.path.endswith(".safetensors") and e.path != "run.json"]
        texts = {e.path: store.read(e.path) for e in entries}
        ours, needles = _traces(texts, task_id)
        stone = digest(["task", task_id])
        known = any(s["task"] == stone for s in tombstones(store))
        if not ours and not needles and not known:
            raise DataError(f"{store.uri()} holds no task {task_id!r}", hint="`seal-ray inspect` lists a run's tasks")
        changed: dict[str, bytes] = {}
        removed = 0
        for path, data in texts.items():
            with contextlib.suppress(codec.Damaged):
                new, count = _without(path, data, store.uri(path), task_id, ours)
                if count:
                    changed[path] = new
                    removed += count
        number = 1 + max((int(n[:6]) for n in store.names("tombstones/") if n[:6].isdigit()), default=0)
        tombstone = f"tombstones/{number:06d}.json"
        replaced = [encode(Part(p, len(d), codec.sha256(d))) for p, d in sorted(changed.items())]
        # the tombstone first: whoever meets a rewritten object finds there that it is meant to be so
        store.create(tombstone, codec.pack_part("tombstone", number, {"task": stone, "replaced": replaced}))
        # and the tasks last: as long as they are there an interrupted deletion finds its texts again
        for path in sorted(changed, key=lambda p: "/tasks." in p):
            store.write(path, changed[path])
            texts[path] = changed[path]
        ledger.forget()
        left = tuple(p for p, d in texts.items() if any(n in d for n in needles))
        versions = {p.path.rpartition("/")[0] for p in store.list("rounds/") if p.path.endswith(".safetensors")}
        return Deletion(tombstone, len(changed), removed, left, tuple(sorted(versions)))


@contextlib.contextmanager
def _held(ledger: "Ledger", purpose: str) -> Iterator[None]:
    """Nobody drives the run meanwhile."""
    if ledger.holds:
        yield
        return
    ledger.acquire(f"seal-ray {purpose}")
    try:
        yield
    finally:
        ledger.release()


def _traces(texts: Mapping[str, bytes], task_id: str) -> tuple[set[str], list[bytes]]:
    """Ids of the task's edits and candidates, and its longer strings as they stand in JSON."""
    ours: set[str] = set()
    strings: set[str] = set()
    for path, data in texts.items():
        with contextlib.suppress(codec.Damaged):
            for value in _values(path, data):
                if isinstance(value, dict) and value.get("task") == task_id:
                    ours.update(str(value[k]) for k in ("id", "candidate") if k in value)
                for task in (value.get("tasks") or []) if isinstance(value, dict) else []:
                    if isinstance(task, dict) and task.get("id") == task_id:
                        strings.update(s for s in _strings(task) if len(s) >= TELLING)
    forms = {json.dumps(s, ensure_ascii=ascii_only)[1:-1].encode() for s in strings for ascii_only in (True, False)}
    return ours, sorted(forms)


def _values(path: str, data: bytes) -> Iterator[Json]:
    if parse(path):
        yield from (json.loads(line) for line in codec.unpack_segment(data, path)[1])
    elif path.count("/") == 2 and path.startswith("rounds/"):
        yield codec.unpack_part(data, path)[0]


def _strings(value: Json) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for v in value.values():
            yield from _strings(v)
    elif isinstance(value, list):
        for v in value:
            yield from _strings(v)


def _without(path: str, data: bytes, uri: str, task_id: str, ours: set[str]) -> tuple[bytes, int]:
    """The object without the task, and how many records went."""
    if segment := parse(path):
        header, lines = codec.unpack_segment(data, uri)
        kept = [line for line in lines if not _is_about(json.loads(line), task_id, ours)]
        return codec.pack_segment(header["kind"], segment[1], segment[2], kept), len(lines) - len(kept)
    if path.count("/") == 2 and path.startswith("rounds/"):
        value, envelope = codec.unpack_part(data, uri)
        new = _prune(value, task_id, ours)
        gone = 0 if canonical(new) == canonical(value) else 1
        return codec.pack_part(envelope["name"], envelope["epoch"], new), gone
    return data, 0


def _is_about(value: Json, task_id: str, ours: set[str]) -> bool:
    """Whether a record, or an entry of a list in a part, belongs to the task."""
    if not isinstance(value, dict):
        return False
    inner = value.get("data")
    if isinstance(inner, dict) and (inner.get("task") == task_id or _names(inner, "candidate", ours)):
        return True
    is_task = value.get("id") == task_id and "data" in value
    mine = value.get("task") == task_id or _names(value, "candidate", ours) or _names(value, "edit", ours)
    return is_task or mine


def _names(value: dict[str, Json], key: str, ours: set[str]) -> bool:
    """Whether what stands under the key is one of those names. An arm is called `edit` too, and is none."""
    name = value.get(key)
    return isinstance(name, str) and name in ours


def _prune(value: Any, task_id: str, ours: set[str]) -> Any:
    if isinstance(value, list):
        return [_prune(v, task_id, ours) for v in value if not _is_about(v, task_id, ours)]
    if isinstance(value, dict):
        return {
            k: _prune(v, task_id, ours) for k, v in value.items() if k != task_id and not _is_about(v, task_id, ours)
        }
    return value
