"""Two drivers and one run: one of them at a time, and one history."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import ledger_round
import pytest
from amounts import AMOUNTS

from seal_ray.config import StorageSection
from seal_ray.errors import InfraError
from seal_ray.storage.ledger import Ledger
from seal_ray.storage.verification import verify

# A driver that appends one trial after the other and says so; it writes its name into every one.
SLEEPER = """
import sys, time
from seal_ray.config import StorageSection
from seal_ray.errors import Fenced
from seal_ray.records import Trial
from seal_ray.storage.ledger import Ledger
uri, endpoint, name, lease = sys.argv[1:5]
ledger = Ledger(uri, StorageSection(endpoint=endpoint, segment_bytes=1000, segment_seconds=0.05, lease=float(lease)))
epoch = ledger.acquire(name)
print(epoch, flush=True)
part = ledger.round(1)
try:
    for n in range(10**6):
        part.append("trials", Trial(f"{name}-{n}", "t", worker=name))
        if n % 3 == 0:
            part.flush()
            print("flushed", n, flush=True)
        time.sleep(0.005)
except Fenced as error:
    print("fenced", error, flush=True)
"""


def start(uri: str, endpoint: str, name: str, lease: float) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", SLEEPER, uri, endpoint, name, str(lease)]
    return subprocess.Popen(command, env=os.environ, stdout=subprocess.PIPE, text=True)


@pytest.mark.slow
@pytest.mark.parametrize("place", ["disk", "s3"])
def test_a_stopped_driver_is_replaced_and_writes_nothing_when_it_wakes_up(
    place: str, bucket: str, s3_endpoint: str, tmp_path: Path
) -> None:
    uri, endpoint = (str(tmp_path / "run"), "") if place == "disk" else (f"{bucket}/run", s3_endpoint)
    storage = StorageSection(endpoint=endpoint, segment_bytes=1000, segment_seconds=0.05, lease=3)
    Ledger(uri, storage).create({}, {}, 0)
    old = start(uri, endpoint, "old", 3)
    assert old.stdout
    assert old.stdout.readline() == "1\n"
    for _ in range(5):
        assert old.stdout.readline().startswith("flushed")
    with pytest.raises(InfraError, match=r"old \(epoch 1\)"):
        Ledger(uri, storage).acquire("new")
    os.kill(old.pid, signal.SIGSTOP)
    new = Ledger(uri, storage)
    until = time.monotonic() + 600
    while True:
        try:
            assert new.acquire("new") == 2
            break
        except InfraError:
            assert time.monotonic() < until
            time.sleep(0.5)
    known = set(new.round(1).records("trials"))
    assert known and {k.split("-")[0] for k in known} == {"old"}
    os.kill(old.pid, signal.SIGCONT)
    said = old.stdout.read()
    assert old.wait() == 0 and "fenced" in said and "epoch 2" in said
    # whatever the old one says was safe before it was stopped is there; nothing came after the take-over
    assert set(new.round(1).records("trials")) == known
    new.round(1).commit({"round": 1})
    new.close()
    reader = Ledger(uri, storage, read_only=True)
    assert set(reader.round(1).records("trials")) == known and reader.latest() == 1
    assert not [p for p in verify(reader) if p.grave]


@pytest.mark.slow
def test_of_two_drivers_started_at_once_one_makes_the_run(bucket: str, s3_endpoint: str, tmp_path: Path) -> None:
    storage = ledger_round.settings(s3_endpoint)
    ledger_round.drive(f"{bucket}/whole", storage, str(tmp_path / "log-whole"))
    for race in range(8):
        uri, log = f"{bucket}/run-{race}", str(tmp_path / f"log-{race}")
        command = [sys.executable, ledger_round.__file__, uri, s3_endpoint, log]
        both = [subprocess.Popen(command, env=os.environ, stderr=subprocess.PIPE, text=True) for _ in range(2)]
        ends = [(p.communicate()[1], p.returncode) for p in both]
        # the second is refused, or comes when the run is done and finds nothing left to do
        assert any(code == 0 for _, code in ends), ends
        assert all(code == 0 or "is driven by" in said or "has just taken" in said for said, code in ends), ends
        done = ledger_round.runs(log)
        assert len(done) == len(set(done)) == 26
        assert ledger_round.content(uri, storage) == ledger_round.content(f"{bucket}/whole", storage)


@pytest.mark.slow
@pytest.mark.parametrize("place", ["disk", "s3"])
def test_many_races_for_an_epoch_have_one_winner_each(
    place: str, bucket: str, s3_endpoint: str, tmp_path: Path
) -> None:
    uri, endpoint = (str(tmp_path / "run"), "") if place == "disk" else (f"{bucket}/run", s3_endpoint)
    storage = StorageSection(endpoint=endpoint)
    Ledger(uri, storage).create({}, {}, 0)
    drivers = [Ledger(uri, storage) for _ in range(3)]
    for race in range(AMOUNTS["races"].long):
        ready, won, lost = threading.Barrier(3), [], []

        def take(ledger: Ledger, ready: threading.Barrier, won: list[Ledger], lost: list[InfraError]) -> None:
            ready.wait()
            try:
                ledger.acquire("somebody")
                won.append(ledger)
            except InfraError as error:
                lost.append(error)

        threads = [threading.Thread(target=take, args=(driver, ready, won, lost)) for driver in drivers]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        assert (len(won), len(lost)) == (1, 2), race
        won[0].close()
    assert len([n for n in Ledger(uri, storage).store.names("epochs/") if n.count(".") == 1]) == AMOUNTS["races"].long
