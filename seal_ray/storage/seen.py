"""What counts of a run: each take-over records what it found, so that late writes of older epochs are passed over."""

import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from seal_ray.errors import Missing
from seal_ray.records import Json
from seal_ray.storage import codec
from seal_ray.storage.codec import Damaged
from seal_ray.storage.segments import parse, segment_path
from seal_ray.storage.store import Store

SEEN = re.compile(r"([0-9]{6})\.seen\.json")
Runs = tuple[tuple[int, int], ...]  # first and last of each run of numbers, in order
MANY = 100  # what is missing is named one by one; of more than so many in a row the first is


@dataclass(frozen=True)
class Seen:
    """What counts: everything written in `epoch` or later, and of older epochs only what is listed here."""

    epoch: int = 0
    files: frozenset[str] = frozenset()
    segments: Mapping[str, Mapping[int, Runs]] = field(default_factory=dict)
    committed: int = 0  # rounds up to this one were whole at the take-over

    def accepts(self, path: str) -> bool | None:
        """None: its path does not tell, look at the epoch inside."""
        segment = parse(path)
        if not segment:
            return True if path in self.files else None
        folder, epoch, number = segment
        if epoch >= self.epoch:
            return True
        runs = self.segments.get(folder, {}).get(epoch, ())
        at = bisect_right(runs, number, key=lambda run: run[0])
        return at > 0 and number <= runs[at - 1][1]

    def missing(self, folder: str, there: Iterable[str]) -> dict[int, Runs]:
        """By epoch the numbers of the older segments that must be in that folder and are not among these paths."""
        have = ranges(there).get(folder, {})
        must = self.segments.get(folder, {})
        gaps = {epoch: tuple(without(must[epoch], have.get(epoch, ()))) for epoch in sorted(must)}
        return {epoch: runs for epoch, runs in gaps.items() if runs}

    def as_json(self) -> Json:
        return {
            "epoch": self.epoch,
            "committed": self.committed,
            "files": sorted(self.files),
            "segments": {
                folder: {str(e): [list(r) for r in ranges] for e, ranges in sorted(epochs.items())}
                for folder, epochs in sorted(self.segments.items())
            },
        }

    @staticmethod
    def from_json(value: Json) -> "Seen":
        return Seen(
            value["epoch"],
            frozenset(value["files"]),
            {
                folder: {int(e): tuple((a, b) for a, b in ranges) for e, ranges in epochs.items()}
                for folder, epochs in value["segments"].items()
            },
            value["committed"],
        )


def ranges(paths: Iterable[str]) -> dict[str, dict[int, Runs]]:
    """The segments among these paths, as folder -> epoch -> runs of numbers."""
    numbers: dict[str, dict[int, list[tuple[int, int]]]] = {}
    for path in paths:
        segment = parse(path)
        if segment:
            folder, epoch, number = segment
            numbers.setdefault(folder, {}).setdefault(epoch, []).append((number, number))
    return {folder: {e: _runs(mine) for e, mine in epochs.items()} for folder, epochs in numbers.items()}


def joined(old: Mapping[str, Mapping[int, Runs]], new: Mapping[str, Mapping[int, Runs]]) -> dict[str, dict[int, Runs]]:
    """Everything of both, each epoch's runs of numbers joined."""
    both: dict[str, dict[int, Runs]] = {}
    for folder in old.keys() | new.keys():
        before, after = old.get(folder, {}), new.get(folder, {})
        both[folder] = {e: _runs([*before.get(e, ()), *after.get(e, ())]) for e in before.keys() | after.keys()}
    return both


def _runs(pieces: Iterable[tuple[int, int]]) -> Runs:
    out: list[tuple[int, int]] = []
    for first, last in sorted(pieces):
        if out and first <= out[-1][1] + 1:
            out[-1] = (out[-1][0], max(last, out[-1][1]))
        else:
            out.append((first, last))
    return tuple(out)


def without(runs: Runs, taken: Runs) -> Iterator[tuple[int, int]]:
    """What of these runs of numbers is in none of those."""
    at = 0
    for first, last in runs:
        while at < len(taken) and taken[at][1] < first:
            at += 1
        while at < len(taken) and taken[at][0] <= last:
            if first < taken[at][0]:
                yield first, taken[at][0] - 1
            first = taken[at][1] + 1
            if first > last:
                break
            at += 1
        if first <= last:
            yield first, last


def named(folder: str, gaps: Mapping[int, Runs]) -> Iterator[tuple[str, str]]:
    """The path of each of these segments, or of the first of many, and how many more that one stands for, in words."""
    for epoch, runs in gaps.items():
        for first, last in runs:
            if last - first < MANY:
                yield from ((segment_path(folder, epoch, number), "") for number in range(first, last + 1))
            else:
                yield segment_path(folder, epoch, first), f" and the {last - first} after it"


def read_seen(store: Store, note: Callable[[str], None] | None = None) -> Seen:
    """What the last take-over that came to the end of its look-around found.

    Where that is damaged the one before is the next best: then what a replaced driver wrote late counts with the rest.
    """
    epochs = sorted((int(m[1]) for n in store.names("epochs/") if (m := SEEN.fullmatch(n))), reverse=True)
    for epoch in epochs:
        path = seen_path(epoch)
        try:
            value, _ = codec.unpack_part(store.read(path), path, store.uri(path))
        except (Damaged, Missing) as error:
            if note:
                note(str(error))
            continue
        return Seen.from_json(value)
    return Seen()


def seen_path(epoch: int) -> str:
    return f"epochs/{epoch:06d}.seen.json"
