"""A run that seal_ray 0.1.0 recorded is whole, is read, is gone on with, and gives up its texts."""

import shutil
from pathlib import Path

import pytest

from seal_ray.config import StorageSection
from seal_ray.storage.deletion import delete_task
from seal_ray.storage.garbage import gc
from seal_ray.storage.ledger import Ledger
from seal_ray.storage.recorded import recorded_settings
from seal_ray.storage.verification import verify

RECORDED = Path(__file__).parents[1] / "recorded/v0.1.0/run"


@pytest.fixture
def run(tmp_path: Path) -> str:
    shutil.copytree(RECORDED, tmp_path / "run")
    return str(tmp_path / "run")


def test_it_is_whole_before_and_after_a_driver_of_this_version(run: str) -> None:
    reader = Ledger(run, read_only=True)
    assert verify(reader) == []
    latest, rounds = reader.latest(), reader.rounds()
    trials = {n: reader.round(n).records("trials") for n in rounds}
    assert all(trials.values()) and list(reader.read_events())
    ledger = Ledger(run, recorded_settings(run, StorageSection()))
    ledger.acquire("this version")
    ledger.round(latest + 1).put("mark.json", {"by": "this version"})
    ledger.close()
    gc(Ledger(run), dry_run=False)
    after = Ledger(run, read_only=True)
    assert verify(after) == [] and after.latest() == latest
    assert {n: after.round(n).records("trials") for n in rounds} == trials


def test_damage_of_it_is_named(run: str) -> None:
    victims = [p for p in sorted(Path(run).rglob("*")) if p.is_file() and p.stat().st_size]
    for victim in victims:
        whole = victim.read_bytes()
        victim.write_bytes(whole[:-3] + b"???")
        path = str(victim.relative_to(run))
        assert path in [p.path for p in verify(Ledger(run, read_only=True))], path
        victim.write_bytes(whole)


def test_a_task_is_deleted_from_it(run: str) -> None:
    reader = Ledger(run, read_only=True)
    tasks = (reader.round(1).get("tasks.json") or {})["tasks"]
    text = tasks[0]["data"]["context"][:60].encode()
    assert delete_task(Ledger(run), tasks[0]["id"]).leftovers == ()
    left = [p for p in Path(run).rglob("*") if p.is_file() and text in p.read_bytes()]
    assert left == [] and verify(Ledger(run, read_only=True)) == []
