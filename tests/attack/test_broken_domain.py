"""A domain that raises, and figures that are no numbers: a failure is recorded, the run goes on, a flood stops it.

The recorded crew stands in for vLLM and the bank; session, ledger, grading and selection are real.
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from recorded_crew import RecordedCrew, configured

from seal_ray import domains
from seal_ray.domains.guarded import GuardedDomain
from seal_ray.errors import DataError, Unlearnable
from seal_ray.events import Event, Warned
from seal_ray.loops import rounds, session
from seal_ray.loops.history import Round, Run
from seal_ray.records import Edit, Failure, Trial
from seal_ray.storage.verification import verify

ROOT = Path(__file__).parents[2]
NAN = float("nan")


class Odd(Exception):
    """What nobody expects."""


class Breaking:
    """A domain that raises in one of its calls, each time or every so often."""

    def __init__(
        self, domain: Any, call: str, every: int, error: Callable[[], Any] = lambda: Odd("\ud800 broke")
    ) -> None:
        self._inner, self._call, self._every, self._error, self._count = domain, call, every, error, 0

    def __getattr__(self, name: str) -> Any:
        real = getattr(self._inner, name)
        if name != self._call:
            return real

        def call(*args: Any) -> Any:
            self._count += 1
            if self._count % self._every == 0:
                found = self._error()
                if isinstance(found, Exception):
                    raise found
                return found
            return real(*args)

        return call


@pytest.fixture
def going(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Round, list[Event]]]:
    """One round of the recorded run, with this done to its domain, its edits or its trials; the version stays."""
    monkeypatch.chdir(ROOT)
    recorded = Run(str(ROOT / "tests/recorded/v0.1.0/run"))

    def go(
        breaking: Callable[[Any], Any] = lambda domain: domain,
        edit: Callable[[Edit], Edit] = lambda edit: edit,
        trial: Callable[[Trial], Trial] = lambda trial: trial,
        **changes: Any,
    ) -> tuple[Round, list[Event]]:
        own = [f"{key.replace('__', '.')}={value}" for key, value in changes.items()]
        config = configured(recorded, tmp_path / "run", *own)
        crew = RecordedCrew(recorded)
        crew.edits = {key: edit(e) for key, e in crew.edits.items()}
        crew.recorded = {key: trial(t) for key, t in crew.recorded.items()}

        def broken(config: Any, chat: bool = False) -> GuardedDomain:
            whole = domains.configured(config, chat)
            return GuardedDomain(breaking(whole._domain), config.run.domain_errors)

        def update(*_: Any, **__: Any) -> Any:
            raise Unlearnable("no update here")

        monkeypatch.setattr(rounds, "update", update)
        monkeypatch.setattr(session, "configured", broken)
        told: list[Event] = []
        with session.Session(config, hire=lambda *_: crew, listeners=[told.append]) as on:  # type: ignore[arg-type]
            rounds.run_rounds(on)
        run = Run(config.run.uri)
        assert not verify(run.ledger)
        return run.round(1), told

    return go


Going = Callable[..., tuple[Round, list[Event]]]


def failures(found: Round) -> list[Failure]:
    return [r.failure for r in (*found.edits, *found.trials, *found.verdicts) if r.failure and r.failure.kind == "Odd"]


@pytest.mark.parametrize("call", ["parse", "training", "verdicts"])
def test_an_exception_of_a_domain_is_a_recorded_failure_told_once(call: str, going: Going) -> None:
    found, told = going(lambda d: Breaking(d, call, every=3), run__domain_errors=0.9, run__coverage=0)
    assert found.committed
    failed = failures(found)
    assert len(failed) >= 1
    assert all(f.blame == "data" and f"{call} of domain knowledge raised Odd" in f.message for f in failed)
    assert len([e for e in told if isinstance(e, Warned) and "Odd" in e.message]) == 1


@pytest.mark.parametrize("call", ["parse", "training", "verdicts"])
def test_a_flood_of_exceptions_stops_the_run_with_a_clear_message(call: str, going: Going) -> None:
    with pytest.raises(DataError, match=rf"calls of {call} raised.*run\.domain_errors.*Odd"):
        going(lambda d: Breaking(d, call, every=1))


@pytest.mark.parametrize("content", [NAN, {1, 2}, {"a": [NAN]}, b"bytes", "half \ud800", object()])
def test_what_no_ledger_takes_is_a_failure_of_the_edit(content: Any, going: Going) -> None:
    found, _ = going(
        lambda d: Breaking(d, "parse", every=4, error=lambda: content), run__domain_errors=0.9, run__coverage=0
    )
    assert found.committed
    assert sum(e.failure is not None and "parse of domain" in e.failure.message for e in found.edits) >= 1


@pytest.mark.parametrize("value", [NAN, float("-inf"), float("inf")])
def test_a_log_probability_that_is_no_number_is_a_failure(value: float, going: Going) -> None:
    def spoiled(edit: Edit) -> Edit:
        return dataclasses.replace(edit, logprobs=(value, *edit.logprobs[1:])) if edit.slot == 0 else edit

    found, _ = going(edit=spoiled, run__coverage=0)
    spoilt = [e for e in found.edits if e.slot == 0]
    assert spoilt and all(e.failure and e.failure.kind == "nan_logprob" and e.logprobs == () for e in spoilt)


@pytest.mark.parametrize("part", ["losses", "answers", "likelihoods"])
def test_a_figure_of_a_trial_that_is_no_number_is_a_failure(part: str, going: Going) -> None:
    def spoiled(trial: Trial) -> Trial:
        if not (trial.losses and trial.likelihoods and trial.answers) or not trial.candidate < "8":
            return trial
        if part == "losses":
            return dataclasses.replace(trial, losses=(NAN,))
        first, *rest = getattr(trial, part)
        return dataclasses.replace(trial, **{part: (dataclasses.replace(first, logprob=NAN), *rest)})

    found, _ = going(trial=spoiled, run__coverage=0)
    bad = [t for t in found.trials if t.failure and t.failure.kind == "not_finite"]
    assert bad and all(t.failure and t.failure.blame == "data" and not t.answers for t in bad)
    assert found.committed
