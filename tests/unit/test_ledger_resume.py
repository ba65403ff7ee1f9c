"""A run on a disk that is killed at some store operations goes on to the same result (all of them: tests/chaos)."""

from pathlib import Path

import ledger_round


def test_killed_before_an_operation_a_run_ends_with_the_same_manifests(tmp_path: Path) -> None:
    assert ledger_round.killed_everywhere(tmp_path, "before", 31)[1] >= 4


def test_killed_after_an_operation_a_run_ends_with_the_same_manifests(tmp_path: Path) -> None:
    assert ledger_round.killed_everywhere(tmp_path, "after", 37)[1] >= 3
