"""Random histories of a run with two drivers; the long ones with other seeds each time they are asked for."""

import os
from typing import Any

import pytest
from amounts import AMOUNTS
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test
from ledger_machine import LedgerMachine

HISTORIES = int(os.environ.get("SEAL_RAY_TEST_HISTORIES", AMOUNTS["histories"].long))


@pytest.fixture(autouse=True)
def no_power_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waiting for the disk is most of the time, and nothing here rests on it."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


def test_short_histories_of_two_drivers_lose_nothing() -> None:
    play(derandomize=True, max_examples=AMOUNTS["histories"].quick, stateful_step_count=25)


@pytest.mark.slow
def test_long_histories_of_two_drivers_lose_nothing() -> None:
    play(derandomize=False, max_examples=HISTORIES, stateful_step_count=60)


def play(**how: Any) -> None:
    slow = [HealthCheck.too_slow, HealthCheck.filter_too_much]
    run_state_machine_as_test(LedgerMachine, settings=settings(deadline=None, suppress_health_check=slow, **how))
