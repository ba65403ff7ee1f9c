"""A run killed at any store operation goes on to the same result."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import ledger_round
import pytest
from amounts import AMOUNTS


@pytest.mark.slow
@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_at_every_operation_a_run_ends_with_the_same_manifests(tmp_path: Path, when: str) -> None:
    operations, kills = ledger_round.killed_everywhere(tmp_path, when, 1)
    print(f"{kills} kills {when} one of {operations} operations")
    assert kills >= AMOUNTS["kills"].long


@pytest.mark.slow
@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_on_s3_a_run_ends_with_the_same_manifests(
    tmp_path: Path, bucket: str, s3_endpoint: str, when: str
) -> None:
    def drive(uri: str, *kill: str) -> int:
        command = [sys.executable, ledger_round.__file__, uri, s3_endpoint, str(tmp_path / "log"), *kill]
        return subprocess.run(command, env=os.environ).returncode

    storage = ledger_round.settings(s3_endpoint)
    assert drive(f"{bucket}/whole") == 0
    expected = ledger_round.content(f"{bucket}/whole", storage)
    kills = 0
    for kill_at in range(3, 150, 14):
        uri = f"{bucket}/run-{kill_at}"
        os.unlink(tmp_path / "log")
        (tmp_path / "log").touch()
        kills += drive(uri, str(kill_at), when) == -signal.SIGKILL
        safe, before = ledger_round.recorded(uri, storage), ledger_round.runs(str(tmp_path / "log"))
        assert drive(uri) == 0
        assert not safe & set(ledger_round.runs(str(tmp_path / "log"))[len(before) :])
        assert ledger_round.content(uri, storage) == expected
    print(f"{kills} kills {when} an operation")
    assert kills >= 8
