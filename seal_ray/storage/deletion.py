"""Taking every text of a task out of a run, its regrades and its judge's cache included.

A tombstone is written first. It holds what the records of the task are known by (digests, no text), so that a deletion
that was interrupted knows what is left to do, and whoever meets a rewritten object learns that it is meant to be so.
"""

import contextlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from seal_ray.errors import DataError, Missing
from seal_ray.records import Json, canonical, digest, encode
from seal_ray.storage import codec
from seal_ray.storage.ledger import Ledger
from seal_ray.storage.objects import Part
from seal_ray.storage.segments import parse
from seal_ray.storage.store import Store
from seal_ray.storage.tombstones import tombstones

TELLING = 24  # characters from which a string of a task is looked for wherever it may stand
SHORT = 4  # characters of a string that no other task has
KEYED_BY_TASK = {"abstained", "reasons", "scores"}  # maps whose keys are tasks
LISTS_TASKS = {"tasks", "sequences", "skills", "exam"}  # lists, of any depth, in which a task stands by its name
NUMBERED = re.compile(r"(?:open|route)?(\d+)\|")  # how an exam of many tasks names a question of one of them
UNTOUCHED = ("epochs/", "tombstones/")


@dataclass(frozen=True)
class Deletion:
    """What deleting a task did, and what it could not."""

    tombstone: str
    objects: int  # rewritten
    records: int  # taken out
    leftovers: tuple[str, ...]  # objects that still hold a text of the task
    versions: tuple[str, ...]  # folders of weights that were trained while the task was there
    noncurrent: int | None = None  # earlier states of rewritten objects that the bucket keeps; None: it would not say
    purged: int = 0  # of those, how many were deleted for good


@dataclass
class _Traces:
    """What a task is known by."""

    ids: set[str] = field(default_factory=set)  # of its edits, its candidates and its questions in exams
    own: set[str] = field(default_factory=set)  # its strings
    others: set[str] = field(default_factory=set)  # strings of other tasks

    def needles(self) -> list[bytes]:
        """The strings that tell of this task alone, as they stand in JSON."""
        long = {s for s in self.own if len(s) >= TELLING}
        short = {s for s in self.own - long if len(s) >= SHORT and not self._is_shared(s)}
        forms = {json.dumps(s, ensure_ascii=ascii_only) for s in long | short for ascii_only in (True, False)}
        # a short one counts where it stands for itself, in its quotes
        return sorted((form if len(form) < TELLING + 2 else form[1:-1]).encode() for form in forms)

    def _is_shared(self, text: str) -> bool:
        return any(text in other for other in self.others)


def delete_task(ledger: Ledger, task_id: str, *, purge: bool = False) -> Deletion:
    """Take every record of a task out of every object. With `purge` the bucket's earlier states of them go as well."""
    with ledger.held("seal-ray delete"):
        store = ledger.store
        paths = _paths(store)
        stone = digest(["task", task_id])
        before = [s for s in tombstones(store) if s["task"] == stone]
        traces = _traces(store, paths, task_id)
        if not traces.ids and not traces.own and not before:
            raise DataError(f"{store.uri()} holds no task {task_id!r}", hint="`seal-ray inspect` lists a run's tasks")
        traces.ids.update(i for s in before for i in s.get("ids", []))
        needles = traces.needles()
        number = 1 + max((int(n[:6]) for n in store.names("tombstones/") if n[:6].isdecimal()), default=0)
        tombstone = f"tombstones/{number:06d}.json"
        changed = {
            path: new
            for path, data in _each(store, paths)
            if (new := _without(store, path, data, task_id, traces, needles))
        }
        replaced = [encode(new.part(path)) for path, new in sorted(changed.items()) if new.data is not None]
        value = {"task": stone, "ids": sorted(traces.ids), "replaced": replaced}
        store.create(tombstone, codec.pack_part(tombstone, number, value))
        # the tasks last: as long as they are there an interrupted deletion finds its texts again
        for path in sorted(changed, key=lambda p: ("/tasks." in p, p)):
            if (data := changed[path].data) is None:
                store.delete(path)
            else:
                store.write(path, data)
        ledger.forget()
        rewritten = {p for s in [*before, value] for p in (r["path"] for r in s["replaced"])} | changed.keys()
        noncurrent, purged = _noncurrent(store, rewritten, purge)
        return Deletion(
            tombstone,
            len(changed),
            sum(new.records for new in changed.values()),
            tuple(path for path, data in _each(store, _paths(store)) if any(n in data for n in needles)),
            tuple(sorted({e.path.rpartition("/")[0] for e in store.list("rounds/") if _is_weights(e.path)})),
            noncurrent,
            purged,
        )


@dataclass(frozen=True)
class _Rewritten:
    """An object without the task; no data means that it goes altogether."""

    data: bytes | None
    records: int

    def part(self, path: str) -> Part:
        assert self.data is not None
        return Part(path, len(self.data), codec.sha256(self.data))


def _paths(store: Store) -> list[str]:
    everything = [e.path for e in store.list("")]
    return [p for p in everything if not p.startswith(UNTOUCHED) and not _is_weights(p) and p != "run.json"]


def _is_weights(path: str) -> bool:
    return path.endswith((".safetensors", ".pt", ".bin"))


def _each(store: Store, paths: list[str]) -> Iterator[tuple[str, bytes]]:
    for path, data in zip(paths, store.read_many(paths), strict=True):
        if isinstance(data, bytes):
            yield path, data
        elif not isinstance(data, Missing):  # what can't be looked into may hold the task
            raise data


def _noncurrent(store: Store, paths: set[str], purge: bool) -> tuple[int | None, int]:
    """How many earlier states of these objects the bucket still keeps, and how many were deleted for good."""
    earlier = store.noncurrent()
    if earlier is None:
        return None, 0
    mine = [state for state in earlier if state.path in paths]
    if purge:
        for state in mine:
            store.purge(state)
    return (0, len(mine)) if purge else (len(mine), 0)


def _traces(store: Store, paths: list[str], task_id: str) -> _Traces:
    traces = _Traces()
    for path, data in _each(store, paths):
        for value in _values(path, data):
            if isinstance(value, dict) and value.get("task") == task_id:
                traces.ids.update(str(value[k]) for k in ("id", "candidate") if k in value)
            traces.ids.update(_asked_in_exams(value, task_id))
            tasks = value.get("tasks") if isinstance(value, dict) else None
            for task in tasks if isinstance(tasks, list) else []:
                if isinstance(task, dict) and "id" in task and "data" in task:
                    told = {key: value for key, value in task.items() if key != "id"}
                    (traces.own if task["id"] == task_id else traces.others).update(_strings(told))
    return traces


def _asked_in_exams(value: Json, task_id: str) -> Iterator[str]:
    """The task's questions in trials that ask about many tasks: candidate and number."""
    rows = value.get("rows") if isinstance(value, dict) else None
    for row in rows if isinstance(rows, list) else []:
        exam = row.get("exam") if isinstance(row, dict) else None
        for number, task in enumerate(exam if isinstance(exam, list) else []):
            if task == task_id:
                yield _asked(row.get("candidate"), str(number))


def _asked(candidate: Json, number: str) -> str:
    return f"{candidate}/{number}|"


def _values(path: str, data: bytes) -> Iterator[Json]:
    """The records of a segment or the value of a part; nothing of what is neither or is damaged."""
    with contextlib.suppress(codec.LedgerError, ValueError):
        if parse(path):
            yield from codec.parsed(codec.unpack_segment(data, path, path)[1], path)
        elif path.startswith("rounds/") and path.count("/") == 2:
            yield codec.unpack_part(data, path, path)[0]
        elif path.startswith("regrades/"):
            yield json.loads(data)


def _strings(value: Json) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for v in value.values():
            yield from _strings(v)
    elif isinstance(value, list):
        for v in value:
            yield from _strings(v)


def _without(
    store: Store, path: str, data: bytes, task_id: str, traces: _Traces, needles: list[bytes]
) -> _Rewritten | None:
    """The object without the task; None where nothing of the task is in it."""
    uri = store.uri(path)
    with contextlib.suppress(codec.LedgerError, ValueError):
        if parse(path):
            _, lines = codec.unpack_segment(data, path, uri)
            values = codec.parsed(lines, uri)
            pruned = [_pruned_line(line, value, task_id, traces.ids) for line, value in zip(lines, values, strict=True)]
            touched = sum(new != line for new, line in zip(pruned, lines, strict=True))
            kept = [line for line in pruned if line is not None]
            return _Rewritten(codec.pack_segment(path, kept), touched) if touched else None
        if path.startswith("rounds/") and path.count("/") == 2:
            value, epoch = codec.unpack_part(data, path, uri)
            new = _prune(value, task_id, traces.ids)
            return _Rewritten(codec.pack_part(path, epoch, new), 1) if canonical(new) != canonical(value) else None
        if path.startswith("regrades/"):
            value = json.loads(data)
            new = _prune(value, task_id, traces.ids)
            return _Rewritten(json.dumps(new, ensure_ascii=False).encode(), 1) if new != value else None
        if path.startswith("judge/") and any(n in data for n in needles):
            return _Rewritten(None, 1)  # a cache: what is asked again is asked of the judge again
    return None


def _pruned_line(line: bytes, value: Json, task_id: str, ids: set[str]) -> bytes | None:
    """A record without the task; None where it is about nothing else."""
    if _is_about(value, task_id, ids) or _is_asked_about(value, value, task_id, ids):
        return None
    changed = False
    for key, own in value.items() if isinstance(value, dict) else ():
        if isinstance(own, list) and any(isinstance(one, dict) and "question" in one for one in own):
            value[key] = [one for one in own if not _is_asked_about(one, value, task_id, ids)]
            changed = changed or len(value[key]) < len(own)
    return codec.text(value).encode() if changed else line


def _is_asked_about(value: Json, trial: Json, task_id: str, ids: set[str]) -> bool:
    """Whether something belongs to one of the task's questions in a trial that asked about many tasks."""
    question = value.get("question") if isinstance(value, dict) else None
    if not isinstance(question, str):
        return False
    numbered = NUMBERED.match(question)
    by_number = numbered is not None and _asked(trial.get("candidate"), numbered[1]) in ids
    return by_number or f"|{task_id}#" in question or question == f"probe|{task_id}"


def _is_about(value: Json, task_id: str, ids: set[str]) -> bool:
    """Whether a record, or an entry of a list in a part, belongs to the task."""
    if not isinstance(value, dict):
        return False
    inner = value.get("data")
    if isinstance(inner, dict) and (inner.get("task") == task_id or _names(inner, "candidate", ids)):
        return True
    is_task = value.get("id") == task_id and "data" in value
    return is_task or value.get("task") == task_id or _names(value, "candidate", ids) or _names(value, "edit", ids)


def _names(value: Mapping[str, Json], key: str, ids: set[str]) -> bool:
    """Whether what stands under the key is one of those names. An arm is called `edit` too, and is none."""
    name = value.get(key)
    return isinstance(name, str) and name in ids


def _prune(value: Any, task_id: str, ids: set[str], under: str = "") -> Any:
    """A value without the task. `under`: the key of the map that it stands in, or that its list stands in."""
    if isinstance(value, list):
        kept = [v for v in value if not _is_about(v, task_id, ids)]
        if under == "exam":  # a place in it is a number, so the place stays
            return ["" if v == task_id else v for v in kept]
        return [_prune(v, task_id, ids, under) for v in kept if not (v == task_id and under in LISTS_TASKS)]
    if isinstance(value, dict):
        return {
            k: _prune(v, task_id, ids, k)
            for k, v in value.items()
            if not (under in KEYED_BY_TASK and k == task_id) and not _is_about(v, task_id, ids)
        }
    return value
