"""Taking every text of a task out of a run."""

import contextlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from seal_ray.errors import DataError
from seal_ray.records import Json, canonical, digest, encode
from seal_ray.storage import codec
from seal_ray.storage.connection import tombstones
from seal_ray.storage.ledger import Ledger
from seal_ray.storage.objects import Part
from seal_ray.storage.segments import parse

TELLING = 24  # characters from which a string of a task is looked for wherever it may stand


@dataclass(frozen=True)
class Deletion:
    """What deleting a task did, and what it could not."""

    tombstone: str
    objects: int  # rewritten
    records: int  # taken out
    leftovers: tuple[str, ...]  # objects that still hold a text of the task
    versions: tuple[str, ...]  # folders of weights that were trained while the task was there


def delete_task(ledger: Ledger, task_id: str) -> Deletion:
    """Take every record of a task out of every object. The objects are rewritten; a tombstone says what they became."""
    with ledger.held("seal-ray delete"):
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
