"""Which isolation is taken, and for how long."""

import pytest

from seal_ray.errors import NoIsolation
from seal_ray.records import Failure
from seal_ray.sandbox import CaseResult, Isolation, ProgramResult, choice, choose


def test_a_sandbox_that_failed_for_a_moment_is_tried_again_and_one_that_works_is_kept(monkeypatch):
    works = ProgramResult((CaseResult("passed", ""), CaseResult("wrong", "")))
    lost = ProgramResult(failure=Failure("sandbox", "it ended with -9", "infra"))
    outcomes: list[ProgramResult | OSError] = [BlockingIOError(11, "no process to be had"), lost, works]

    def once(*_: object) -> ProgramResult:
        outcome = outcomes.pop(0)
        if isinstance(outcome, OSError):
            raise outcome
        return outcome

    monkeypatch.setattr(choice, "run_program", once)
    monkeypatch.setattr(choice.platform, "system", lambda: "Linux")
    monkeypatch.setattr(choice.platform, "machine", lambda: "x86_64")
    choose.cache_clear()
    for why in ("no process to be had", "ended with -9"):
        with pytest.raises(NoIsolation, match=why):
            choose("namespaces")
    assert choose("namespaces") == choose("namespaces") == Isolation("namespaces") and not outcomes
    choose.cache_clear()
