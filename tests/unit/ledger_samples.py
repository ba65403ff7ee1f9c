"""Records and drivers for the tests of the ledger."""

import os
from pathlib import Path
from typing import Any

from seal_ray.config import StorageSection
from seal_ray.event_stream import encode_event
from seal_ray.events import Event
from seal_ray.records import Answer, Edit, Trial
from seal_ray.storage import codec
from seal_ray.storage.ledger import Ledger
from seal_ray.storage.store import Store

SETTINGS = StorageSection(patience=1, segment_bytes=1000, segment_seconds=0.05)


def edit(name: str, task: str = "t") -> Edit:
    return Edit(name, task, 0, "v0", 1, (1, 2), (3, 4), (-0.5, -1.0), "a text of its own", "stop", {"a": [1, None]})


def trial(name: str, task: str = "t", worker: str = "w") -> Trial:
    return Trial(name, task, (1.5, 0.5), (Answer("q", " yes", 2, "stop", -1.25),), worker=worker)


def begin(uri: str, owner: str = "me", settings: StorageSection = SETTINGS) -> Ledger:
    ledger = Ledger(uri, settings)
    if not ledger.exists():
        ledger.create({"a": 1}, {"seal-ray": "0"}, 7)
    ledger.acquire(owner)
    return ledger


def segment(store: Store, path: str, *records: Any) -> None:
    """What a driver writes that had been replaced and does not know it."""
    plain = [encode_event(r) if isinstance(r, Event) else r for r in records]
    store.create(path, codec.pack_segment(path, [codec.text(r).encode() for r in plain]))


def named(store: Store, path: str, epoch: int, value: Any) -> None:
    store.create(path, codec.pack_part(path, epoch, value))


def expire(ledger: Ledger) -> None:
    """Let the holder look dead: its heart stops, its last beat was long ago. Its process lives, so the lease counts."""
    hold = ledger._connection.hold
    assert hold
    hold.stop()
    root = ledger.store.root
    for name in ("000001.json", "000001.beat.json"):
        path = os.path.join(root, "epochs", name)
        if os.path.exists(path):
            os.utime(path, (1, 1))


def committed(tmp_path: Path) -> Path:
    (tmp_path / "v").mkdir()
    (tmp_path / "v/adapter.safetensors").write_bytes(b"weights")
    ledger = begin(str(tmp_path / "run"))
    for number in (1, 2):
        part = ledger.round(number)
        part.put("tasks.json", {"tasks": [number]})
        for n in range(20):
            part.append("trials", trial(f"c{number}-{n}"))
        part.flush()
        part.put_dir("version", tmp_path / "v")
        part.commit({"round": number})
    ledger.close()
    return tmp_path / "run"


def flip(path: Path, place: float) -> None:
    data = bytearray(path.read_bytes())
    data[int(len(data) * place)] ^= 1
    path.write_bytes(data)


def only(folder: Path, pattern: str) -> Path:
    return sorted(folder.glob(pattern))[0]
