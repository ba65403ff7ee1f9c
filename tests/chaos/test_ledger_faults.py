"""A run through an S3 endpoint that fails in every way it can: nothing lost, nothing doubled, or a clear stop."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import ledger_round
import pytest
import s3_proxy

from seal_ray.errors import StorageError
from seal_ray.storage.ledger import Ledger
from seal_ray.storage.verification import verify


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_through_two_hundred_faults_nothing_is_lost_or_doubled(bucket: str, s3_endpoint: str, tmp_path: Path) -> None:
    direct = ledger_round.settings(s3_endpoint)
    ledger_round.drive(f"{bucket}/whole", direct, str(tmp_path / "log-whole"))
    expected, total = ledger_round.content(f"{bucket}/whole", direct), Counter()
    with s3_proxy.before(s3_endpoint, stall=10) as proxy:
        storage = ledger_round.settings(proxy.endpoint, timeout=3)
        for run in range(20):
            uri, log = f"{bucket}/run-{run}", str(tmp_path / f"log-{run}")
            kinds = tuple(k for k in s3_proxy.KINDS if k != "stall" or run % 4 == 0)
            proxy.plan = s3_proxy.seeded(run, 0.12, kinds)
            ledger_round.drive(uri, storage, log)
            proxy.plan = lambda method, path: ""
            assert ledger_round.content(uri, direct) == expected, run
            done = ledger_round.runs(log)
            assert len(done) == len(set(done)) == 26, run
            assert verify(Ledger(uri, direct, read_only=True)) == [], run
            total, proxy.injected = total + proxy.injected, Counter()
            if sum(total.values()) >= 220 and run >= 4:
                break
    print(f"{sum(total.values())} faults: {dict(total)}; 0 lost, 0 doubled")
    assert sum(total.values()) >= 200 and set(total) == set(s3_proxy.KINDS)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("at", [10, 40, 75, 105])
def test_a_token_that_expires_stops_the_run_with_a_clear_message_and_a_new_one_resumes(
    bucket: str, s3_endpoint: str, tmp_path: Path, at: int
) -> None:
    direct = ledger_round.settings(s3_endpoint)
    ledger_round.drive(f"{bucket}/whole", direct, str(tmp_path / "log-whole"))
    with s3_proxy.before(s3_endpoint) as proxy:
        proxy.plan = lambda method, path: "expired" if proxy.requests >= at else ""
        log = str(tmp_path / "log")
        with pytest.raises(StorageError, match=r"(?i)expired.*renew the credentials; the same command"):
            ledger_round.drive(f"{bucket}/run", ledger_round.settings(proxy.endpoint, lease=2), log)
        assert proxy.injected["expired"]
    safe, before = ledger_round.recorded(f"{bucket}/run", direct), ledger_round.runs(log)
    # the holder's process is this one, so its lease has to run out
    child = [sys.executable, ledger_round.__file__, f"{bucket}/run", s3_endpoint, log]
    for _ in range(10):
        ended = subprocess.run(child, env=os.environ, timeout=120, capture_output=True, text=True)
        if ended.returncode == 0:
            break
        assert "is driven by" in ended.stderr, ended.stderr
        time.sleep(1)
    assert not safe & set(ledger_round.runs(log)[len(before) :])
    assert ledger_round.content(f"{bucket}/run", direct) == ledger_round.content(f"{bucket}/whole", direct)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_killed_amid_faults_it_goes_on_amid_faults(bucket: str, s3_endpoint: str, tmp_path: Path) -> None:
    direct = ledger_round.settings(s3_endpoint)
    ledger_round.drive(f"{bucket}/whole", direct, str(tmp_path / "log-whole"))
    with s3_proxy.before(s3_endpoint, stall=2) as proxy:
        proxy.plan = s3_proxy.seeded(5, 0.1)
        log = str(tmp_path / "log")
        command = [sys.executable, ledger_round.__file__, f"{bucket}/run", proxy.endpoint, log]
        kills = 0
        for kill_at in (20, 35, 50, 65):
            ended = subprocess.run([*command, str(kill_at), "after"], env=os.environ, timeout=200)
            kills += ended.returncode == -signal.SIGKILL
        assert subprocess.run(command, env=os.environ, timeout=200).returncode == 0
        print(f"{kills} kills, {sum(proxy.injected.values())} faults: {dict(proxy.injected)}")
    assert kills >= 3
    assert ledger_round.content(f"{bucket}/run", direct) == ledger_round.content(f"{bucket}/whole", direct)
    assert not [p for p in verify(Ledger(f"{bucket}/run", direct, read_only=True)) if p.grave]
