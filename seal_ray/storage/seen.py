"""What counts of a run: each take-over records what it found, so that late writes of older epochs are passed over."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from seal_ray.records import Json
from seal_ray.storage import codec
from seal_ray.storage.segments import parse
from seal_ray.storage.store import Store

SEEN = re.compile(r"(\d{6})\.seen\.json")


@dataclass(frozen=True)
class Seen:
    """What counts: everything written in `epoch` or later, and of older epochs only what is listed here."""

    epoch: int = 0
    files: frozenset[str] = frozenset()
    segments: Mapping[str, Mapping[int, tuple[tuple[int, int], ...]]] = field(default_factory=dict)
    committed: int = 0  # rounds up to this one were whole at the take-over

    def accepts(self, path: str) -> bool | None:
        """None: its path does not tell, look at the epoch inside."""
        segment = parse(path)
        if not segment:
            return True if path in self.files else None
        folder, epoch, number = segment
        if epoch >= self.epoch:
            return True
        return any(a <= number <= b for a, b in self.segments.get(folder, {}).get(epoch, ()))

    def expected(self, folder: str) -> list[tuple[int, int]]:
        """Epoch and number of every older segment that must be in that folder."""
        found = self.segments.get(folder, {})
        return [(e, n) for e in sorted(found) for a, b in found[e] for n in range(a, b + 1)]

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


def ranges(paths: Iterable[str]) -> dict[str, dict[int, tuple[tuple[int, int], ...]]]:
    """The segments among these paths, as folder -> epoch -> runs of numbers."""
    numbers: dict[str, dict[int, list[int]]] = {}
    for path in paths:
        segment = parse(path)
        if segment:
            folder, epoch, number = segment
            numbers.setdefault(folder, {}).setdefault(epoch, []).append(number)
    out: dict[str, dict[int, tuple[tuple[int, int], ...]]] = {}
    for folder, epochs in numbers.items():
        for epoch, found in epochs.items():
            runs: list[tuple[int, int]] = []
            for n in sorted(found):
                if runs and n == runs[-1][1] + 1:
                    runs[-1] = (runs[-1][0], n)
                else:
                    runs.append((n, n))
            out.setdefault(folder, {})[epoch] = tuple(runs)
    return out


def read_seen(store: Store) -> Seen:
    """What the last take-over that came to the end of its look-around found."""
    last = max((int(m[1]) for n in store.names("epochs/") if (m := SEEN.fullmatch(n))), default=0)
    if not last:
        return Seen()
    path = f"epochs/{last:06d}.seen.json"
    value, _ = codec.unpack_part(store.read(path), store.uri(path))
    return Seen.from_json(value)
