"""The form of what the ledger itself goes by: who holds the run, what counts, which parts a round has, what is deleted.

A digest says that a value is what somebody wrote, not that it was a seal_ray. What is read here is relied on before all
else, so it has its form or it is damage like any other.
"""

import re
from collections.abc import Callable, Mapping

from seal_ray.records import Json

Form = Callable[[Json], bool]
MOST = 10**8  # segments of a folder that one epoch can write, and rounds of a run: their names have eight digits
LONGEST = 1e8  # seconds of a lease

PART = {"path": str, "size": int, "sha256": str}
FILE = {"name": str, "size": int, "sha256": str}
COUNTED = {"count": int, "digest": str}


def misfit(path: str, value: Json) -> str:
    """What is wrong with the form of the value that stands at that path; nothing where it may stand there."""
    for pattern, what, has_form in FORMS:
        if pattern.fullmatch(path):
            return "" if has_form(value) else what
    return ""


def _is_manifest(value: Json) -> bool:
    if not isinstance(value, dict) or not _lists(value.get("parts"), PART):
        return False
    records = value.get("records", {})
    return isinstance(records, dict) and _lists(list(records.values()), COUNTED)


def _is_index(value: Json) -> bool:
    return isinstance(value, dict) and isinstance(value.get("folder"), str) and _lists(value.get("files"), FILE)


def _is_holder(value: Json) -> bool:
    if not isinstance(value, dict) or not all(isinstance(value.get(k), str) for k in ("owner", "nonce")):
        return False
    lease, process = value.get("lease"), value.get("process")
    holds = isinstance(lease, (int, float)) and not isinstance(lease, bool) and abs(lease) <= LONGEST
    return holds and isinstance(process, dict) and _is_process(process)


def _is_process(process: Mapping[str, Json]) -> bool:
    return not process or (type(process.get("pid")) is int and isinstance(process.get("born"), str))


def _is_sign(value: Json) -> bool:
    """A heartbeat, or a release."""
    if not isinstance(value, dict) or not isinstance(value.get("note", {}), dict):
        return False
    return "written" not in value or _is_seen(value["written"])


def _is_seen(value: Json) -> bool:
    if not isinstance(value, dict) or not all(_is_count(value.get(k), 0) for k in ("epoch", "committed")):
        return False
    segments = value.get("segments")
    return _are_texts(value.get("files")) and isinstance(segments, dict) and all(map(_are_runs, segments.values()))


def _are_runs(epochs: Json) -> bool:
    """Runs of numbers by epoch, each run after the one before."""
    if not isinstance(epochs, dict) or not all(re.fullmatch(r"[0-9]{1,9}", epoch) for epoch in epochs):
        return False
    for runs in epochs.values():
        last = 0
        for run in runs if isinstance(runs, list) else [None]:
            if not isinstance(run, list) or len(run) != 2 or not all(_is_count(n, last + 1) for n in run):
                return False
            if run[1] < run[0]:
                return False
            last = run[1]
    return True


def _is_tombstone(value: Json) -> bool:
    if not isinstance(value, dict) or not isinstance(value.get("task"), str):
        return False
    return _are_texts(value.get("ids", [])) and _lists(value.get("replaced"), PART)


def _is_first_page(value: Json) -> bool:
    return isinstance(value, dict) and all(isinstance(value.get(k), dict) for k in ("config", "software"))


def _is_count(value: Json, least: int) -> bool:
    return type(value) is int and least <= value <= MOST


def _are_texts(value: Json) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


def _lists(listed: Json, fields: Mapping[str, type]) -> bool:
    return isinstance(listed, list) and all(
        isinstance(one, dict) and one.keys() == fields.keys() and all(type(one[k]) is t for k, t in fields.items())
        for one in listed
    )


FORMS: list[tuple[re.Pattern[str], str, Form]] = [
    (re.compile(r"rounds/.*/manifest\..*"), "it does not say what the round has", _is_manifest),
    (re.compile(r"rounds/[^/]*/[^/]*(\.files\.json|\.files\.e[^/]*)"), "it lists no parts", _is_index),
    (re.compile(r"epochs/[0-9]{6}\.json"), "it does not say who holds the run", _is_holder),
    (re.compile(r"epochs/[0-9]{6}\.seen\.json"), "it does not say what counts", _is_seen),
    (re.compile(r"epochs/[0-9]{6}\.(beat|end)\.json"), "it is no sign of life", _is_sign),
    (re.compile(r"tombstones/.*"), "it does not say what was deleted", _is_tombstone),
    (re.compile(r"run\.json"), "it does not say what the run was begun with", _is_first_page),
]
