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
from amounts import AMOUNTS

from seal_ray.errors import StorageError
from seal_ray.events import Event, StoreRetried
from seal_ray.storage.ledger import Ledger
from seal_ray.storage.verification import verify


@pytest.fixture(params=["moto", "ceph"])
def place(request: pytest.FixtureRequest) -> tuple[str, str]:
    """An endpoint and a bucket there: of moto's server, and of a real S3 where one is installed."""
    names = ("s3_endpoint", "bucket") if request.param == "moto" else ("real_s3", "real_bucket")
    endpoint, bucket = (request.getfixturevalue(name) for name in names)
    return endpoint, bucket


@pytest.mark.slow
def test_through_two_thousand_faults_nothing_is_lost_or_doubled(place: tuple[str, str], tmp_path: Path) -> None:
    endpoint, bucket = place
    direct = ledger_round.settings(endpoint)
    ledger_round.drive(f"{bucket}/whole", direct, str(tmp_path / "log-whole"), rounds=4)
    expected, total, runs = ledger_round.content(f"{bucket}/whole", direct), Counter(), 0
    with s3_proxy.before(endpoint, stall=1.5) as proxy:
        storage = ledger_round.settings(proxy.endpoint, timeout=1)
        while sum(total.values()) < AMOUNTS["S3 faults"].long:
            uri, log = f"{bucket}/run-{runs}", str(tmp_path / f"log-{runs}")
            kinds = tuple(k for k in s3_proxy.KINDS if k != "stall" or runs % 4 == 0)
            proxy.plan = s3_proxy.seeded(runs, 0.3, kinds)
            ledger_round.drive(uri, storage, log, rounds=4)
            proxy.plan = lambda method, path: ""
            assert ledger_round.content(uri, direct) == expected, runs
            done = ledger_round.runs(log)
            assert len(done) == len(set(done)) == 52, runs
            assert verify(Ledger(uri, direct, read_only=True)) == [], runs
            total, proxy.injected, runs = total + proxy.injected, Counter(), runs + 1
    print(f"{sum(total.values())} faults in {runs} runs of 4 rounds: {dict(total)}; 0 lost, 0 doubled")
    assert set(total) == set(s3_proxy.KINDS)


@pytest.mark.slow
def test_an_endpoint_that_is_gone_for_a_minute_is_waited_for(place: tuple[str, str], tmp_path: Path) -> None:
    endpoint, bucket = place
    direct = ledger_round.settings(endpoint)
    ledger_round.drive(f"{bucket}/whole", direct, str(tmp_path / "log-whole"))
    told: list[Event] = []
    with s3_proxy.before(endpoint) as proxy:
        gone: list[float] = []

        def plan(method: str, path: str) -> str:
            if proxy.requests == 60:
                gone.append(time.monotonic() + 60)
            return "reset" if gone and time.monotonic() < gone[0] else ""

        proxy.plan = plan
        storage = ledger_round.settings(proxy.endpoint)
        ledger_round.drive(f"{bucket}/run", storage, str(tmp_path / "log"), sink=told.append)
        assert proxy.injected["reset"] > 10
    assert ledger_round.content(f"{bucket}/run", direct) == ledger_round.content(f"{bucket}/whole", direct)
    done = ledger_round.runs(str(tmp_path / "log"))
    assert len(done) == len(set(done)) == 26
    left = [e.left for e in told if isinstance(e, StoreRetried)]
    assert len(left) > 10 and min(left) < 130 < max(left)


@pytest.mark.slow
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
        ended = subprocess.run(child, env=os.environ, capture_output=True, text=True)
        if ended.returncode == 0:
            break
        assert "is driven by" in ended.stderr, ended.stderr
        time.sleep(1)
    assert not safe & set(ledger_round.runs(log)[len(before) :])
    assert ledger_round.content(f"{bucket}/run", direct) == ledger_round.content(f"{bucket}/whole", direct)


@pytest.mark.slow
def test_killed_amid_faults_it_goes_on_amid_faults(bucket: str, s3_endpoint: str, tmp_path: Path) -> None:
    direct = ledger_round.settings(s3_endpoint)
    ledger_round.drive(f"{bucket}/whole", direct, str(tmp_path / "log-whole"))
    with s3_proxy.before(s3_endpoint, stall=2) as proxy:
        proxy.plan = s3_proxy.seeded(5, 0.1)
        log = str(tmp_path / "log")
        command = [sys.executable, ledger_round.__file__, f"{bucket}/run", proxy.endpoint, log]
        kills = 0
        for kill_at in (20, 35, 50, 65):
            ended = subprocess.run([*command, str(kill_at), "after"], env=os.environ)
            kills += ended.returncode == -signal.SIGKILL
        assert subprocess.run(command, env=os.environ).returncode == 0
        print(f"{kills} kills, {sum(proxy.injected.values())} faults: {dict(proxy.injected)}")
    assert kills >= 3
    assert ledger_round.content(f"{bucket}/run", direct) == ledger_round.content(f"{bucket}/whole", direct)
    assert not [p for p in verify(Ledger(f"{bucket}/run", direct, read_only=True)) if p.grave]
