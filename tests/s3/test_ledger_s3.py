"""A run's record on a real S3 endpoint: made, killed, gone on with, and made through faults."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import ledger_round
import pytest
import s3_proxy
from amounts import AMOUNTS

from seal_ray.errors import InfraError
from seal_ray.storage.garbage import gc
from seal_ray.storage.ledger import Ledger
from seal_ray.storage.verification import verify

STALL = 20  # seconds that an endpoint which does not answer lets a request wait


def test_a_run_on_s3_is_made_and_verified(bucket: str, s3_endpoint: str, tmp_path: Path) -> None:
    storage = ledger_round.settings(s3_endpoint)
    ledger_round.drive(f"{bucket}/run", storage, str(tmp_path / "log"))
    reader = Ledger(f"{bucket}/run", storage, read_only=True)
    assert reader.latest() == 2 and verify(reader) == []
    assert len(reader.round(2).records("trials")) == 13
    ledger_round.drive(str(tmp_path / "local"), ledger_round.settings(), str(tmp_path / "log"))
    assert ledger_round.content(f"{bucket}/run", storage) == ledger_round.content(
        str(tmp_path / "local"), ledger_round.settings()
    )


def test_folders_that_a_console_has_made_are_no_part_of_a_run(bucket: str, s3_endpoint: str, tmp_path: Path) -> None:
    storage = ledger_round.settings(s3_endpoint)
    ledger = ledger_round.drive(f"{bucket}/run", storage, str(tmp_path / "log"), rounds=1)
    backend = ledger.store._s3
    assert backend
    reader = Ledger(f"{bucket}/run", storage, read_only=True)
    whole, waste = [entry.path for entry in ledger.store.list()], gc(reader, dry_run=True)
    for folder in ("", "epochs/", "events/", "rounds/", "rounds/0001/", "rounds/0001/trials/", "tombstones/"):
        backend._call("put_object", Key=f"{backend.start}{folder}", Body=b"")
    assert [entry.path for entry in reader.store.list()] == whole and "" not in reader.store.names("rounds/")
    assert verify(reader) == [] and gc(reader, dry_run=True) == waste


def test_a_driver_that_was_killed_is_replaced_and_nothing_recorded_is_done_again(
    bucket: str, s3_endpoint: str, tmp_path: Path
) -> None:
    def drive(*kill: str) -> int:
        command = [sys.executable, ledger_round.__file__, f"{bucket}/run", s3_endpoint, str(tmp_path / "log"), *kill]
        return subprocess.run(command, env=os.environ, timeout=120).returncode

    storage = ledger_round.settings(s3_endpoint)
    assert drive("60", "after") == -signal.SIGKILL
    safe, before = ledger_round.recorded(f"{bucket}/run", storage), ledger_round.runs(str(tmp_path / "log"))
    assert safe
    assert drive() == 0
    assert not safe & set(ledger_round.runs(str(tmp_path / "log"))[len(before) :])
    ledger_round.drive(f"{bucket}/whole", storage, str(tmp_path / "log"))
    assert ledger_round.content(f"{bucket}/run", storage) == ledger_round.content(f"{bucket}/whole", storage)


def test_a_run_is_made_through_a_faulty_endpoint_without_losing_or_doubling(
    bucket: str, s3_endpoint: str, tmp_path: Path
) -> None:
    with s3_proxy.before(s3_endpoint, stall=2) as proxy:
        proxy.plan = s3_proxy.seeded(1, 0.15)
        ledger_round.drive(f"{bucket}/run", ledger_round.settings(proxy.endpoint, timeout=1), str(tmp_path / "log"))
    assert sum(proxy.injected.values()) >= AMOUNTS["S3 faults"].quick, proxy.injected
    storage = ledger_round.settings(s3_endpoint)
    ledger_round.drive(f"{bucket}/whole", storage, str(tmp_path / "log-whole"))
    assert ledger_round.content(f"{bucket}/run", storage) == ledger_round.content(f"{bucket}/whole", storage)
    done = ledger_round.runs(str(tmp_path / "log"))
    assert len(done) == len(set(done)) == 26
    assert verify(Ledger(f"{bucket}/run", storage, read_only=True)) == []


def test_a_store_that_does_not_answer_does_not_keep_a_driver_that_must_stop(
    bucket: str, s3_endpoint: str, caplog: pytest.LogCaptureFixture
) -> None:
    with s3_proxy.before(s3_endpoint, stall=STALL) as proxy:
        ledger = Ledger(f"{bucket}/run", ledger_round.settings(proxy.endpoint, timeout=30))
        ledger.create({}, {}, 0)
        ledger.acquire("me")
        proxy.plan = lambda method, path: "stall"
        ledger.round(1).append("trials", ledger_round.recorded_trial("c1", "t"))
        began = time.monotonic()
        ledger.close(within=1)
        assert time.monotonic() - began < STALL
        assert "not in the store after 1 s; what they hold is done again" in caplog.text
    assert Ledger(f"{bucket}/run", ledger_round.settings(s3_endpoint)).round(1).records("trials") == {}


def test_of_several_drivers_one_takes_the_run(bucket: str, s3_endpoint: str) -> None:
    storage = ledger_round.settings(s3_endpoint)
    Ledger(f"{bucket}/run", storage).create({}, {}, 0)
    for race in range(AMOUNTS["races"].quick):
        ready, won, lost = threading.Barrier(3), [], []

        def take(race: int, ready: threading.Barrier, won: list[Ledger], lost: list[InfraError]) -> None:
            ledger = Ledger(f"{bucket}/run", storage)
            ready.wait()
            try:
                ledger.acquire(f"race-{race}")
                won.append(ledger)
            except InfraError as error:
                lost.append(error)

        threads = [threading.Thread(target=take, args=(race, ready, won, lost)) for _ in range(3)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        assert len(won) == 1 and len(lost) == 2
        won[0].close()
