"""The run's figures for Prometheus, through Ray's own metrics endpoint. The only file that knows `ray.util.metrics`."""

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from seal_ray import errors
from seal_ray.config import Config
from seal_ray.events import (
    EditsSampled,
    EditsSelected,
    Event,
    GateDecided,
    Graded,
    PhaseEnded,
    RewardsMade,
    RoundCommitted,
    RunEnded,
    RunStarted,
    StoreRetried,
    TrialDone,
    TrialFailed,
    UpdateStep,
    Warned,
    WaveDone,
)
from seal_ray.observe.scalars import flat
from seal_ray.observe.tally import Tally
from seal_ray.records import Json


@dataclass(frozen=True)
class Metric:
    """One figure: how it is called (Ray puts `ray_` before it), what it means, and by what it is split."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    meaning: str
    tags: tuple[str, ...] = ()


METRICS = (
    Metric("seal_trials_total", "counter", "trials by kind of candidate and outcome", ("kind", "outcome")),
    Metric("seal_trial_seconds", "histogram", "seconds of a trial, its share of the wave", ("kind",)),
    Metric("seal_edits_total", "counter", "edits by outcome", ("outcome",)),
    Metric("seal_verdicts_total", "counter", "verdicts by grader and outcome", ("grader", "outcome")),
    Metric("seal_judge_calls_total", "counter", "requests to the judge, further attempts included", ("grader",)),
    Metric("seal_judge_dollars_total", "counter", "dollars spent on the judge", ("grader",)),
    Metric("seal_phase_seconds_total", "counter", "seconds spent in a phase", ("phase",)),
    Metric("seal_busy_seconds_total", "counter", "seconds that a worker trained or answered", ("worker",)),
    Metric("seal_occupied_share", "gauge", "share of its life that a worker was at work", ("worker",)),
    Metric("seal_queue", "gauge", "candidates without a trial, once trials have begun"),
    Metric("seal_workers", "gauge", "workers alive"),
    Metric("seal_round", "gauge", "the round that is on"),
    Metric("seal_rounds_committed", "gauge", "the highest committed round"),
    Metric("seal_arm", "gauge", "mean by arm (base, context, edit, kept) and measure", ("arm", "measure")),
    Metric("seal_reliability", "gauge", "reliability of the reward by measure", ("measure",)),
    Metric("seal_coverage", "gauge", "share of the candidates with a verdict"),
    Metric("seal_gate_accepted", "gauge", "1 if the gate took the last version, else 0"),
    Metric("seal_update_loss", "gauge", "loss of the policy update"),
    Metric(
        "seal_storage_retries_total", "counter", "operations on the run's store that were tried again", ("operation",)
    ),
    Metric("seal_warnings_total", "counter", "warnings"),
    Metric("seal_waiting", "gauge", "1 while the run waits for something that is missing"),
    Metric("seal_exit_code", "gauge", "what the driver left with, as the shell sees it; 0 while it is on"),
    Metric("seal_last_event_seconds", "gauge", "when the last event came in, in seconds since 1970"),
)
AGAIN = 5.0  # seconds after which gauges are told again: a node's agent forgets one that it has not heard of for 20
BOUNDARIES = [0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000]


def exit_code(outcome: str) -> int:
    """Of a run's end as it is told: the name of an error, or of a way to be done."""
    error = getattr(errors, outcome, None) if outcome.isidentifier() else None
    if isinstance(error, type) and issubclass(error, errors.SealError):
        return error.exit_code
    return 1 if outcome[:1].isupper() else 0  # errors of others begin with a capital as well


class RayMetrics:
    """Turns events into Ray metrics of the driver's process. Silent until Ray is up.

    Gauges are told again for as long as the driver lives, also while nothing happens: alerts rest on them then.
    """

    def __init__(self, config: Config) -> None:
        self._tally = Tally(
            edits=config.sampling.edits, repeats=config.inner.repeats, context_arm=config.inner.context_arm
        )
        self._run = config.run.uri
        self._made: dict[str, Any] = {}
        self._gauges: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}
        self._closed = threading.Event()
        self._telling: threading.Thread | None = None

    def __call__(self, event: Event) -> None:
        import ray

        self._tally.take(event)
        if ray.is_initialized():
            self._made = self._made or self._make()
            self._tell(event)
            if not self._telling:
                self._telling = threading.Thread(target=self._tell_again, name="gauges", daemon=True)
                self._telling.start()

    def close(self) -> None:
        """Ray sends what is left with its next report."""
        self._closed.set()
        if self._telling:
            self._telling.join(AGAIN)

    def _tell_again(self) -> None:
        import ray

        while not self._closed.wait(AGAIN):
            for (name, tags), value in list(self._gauges.items()):
                if ray.is_initialized():
                    self._made[name].set(value, dict(tags))

    def _make(self) -> dict[str, Any]:
        from ray.util import metrics

        made: dict[str, Any] = {}
        for m in METRICS:
            if m.kind == "counter":
                made[m.name] = metrics.Counter(m.name, m.meaning, tag_keys=(*m.tags, "run"))
            elif m.kind == "gauge":
                made[m.name] = metrics.Gauge(m.name, m.meaning, tag_keys=(*m.tags, "run"))
            else:
                made[m.name] = metrics.Histogram(m.name, m.meaning, boundaries=BOUNDARIES, tag_keys=(*m.tags, "run"))
            made[m.name].set_default_tags({"run": self._run})
        return made

    def _count(self, name: str, by: float = 1, **tags: str) -> None:
        if by > 0:
            self._made[name].inc(by, tags)

    def _set(self, name: str, value: float, **tags: str) -> None:
        self._gauges[name, tuple(sorted(tags.items()))] = value
        self._made[name].set(value, tags)

    def _tell(self, event: Event) -> None:
        tally = self._tally
        self._set("seal_last_event_seconds", event.time)
        self._set("seal_round", tally.round)
        self._set("seal_queue", tally.queue)
        self._set("seal_workers", tally.alive)
        self._set("seal_waiting", bool(tally.waiting))
        match event:
            case RunStarted():
                self._set("seal_exit_code", 0)
            case RunEnded():
                self._set("seal_exit_code", exit_code(event.outcome))
            case TrialDone():
                self._count("seal_trials_total", kind=event.arm, outcome="ok")
                self._made["seal_trial_seconds"].observe(event.seconds, {"kind": event.arm})
            case TrialFailed():
                self._count("seal_trials_total", kind=event.arm or "unknown", outcome=event.failure)
            case EditsSampled():
                self._count("seal_edits_total", event.edits - event.failed, outcome="ok")
                self._count("seal_edits_total", event.failed, outcome="failed")
            case Graded():
                grader = event.grader
                self._count("seal_verdicts_total", event.verdicts - event.failed, grader=grader, outcome="ok")
                self._count("seal_verdicts_total", event.failed, grader=grader, outcome="failed")
                self._count("seal_judge_calls_total", event.calls, grader=grader)
                self._count("seal_judge_dollars_total", event.cost, grader=grader)
            case PhaseEnded():
                self._count("seal_phase_seconds_total", event.seconds, phase=event.phase)
            case WaveDone():
                self._count("seal_busy_seconds_total", event.seconds, worker=event.worker)
                self._set("seal_occupied_share", event.occupied, worker=event.worker)
            case RewardsMade():
                self._figures(event)
            case EditsSelected():
                self._arm("kept", event.kept or {})
            case GateDecided():
                self._set("seal_gate_accepted", event.decision == "accept")
            case RoundCommitted():
                self._set("seal_rounds_committed", event.round)
            case UpdateStep():
                self._set("seal_update_loss", event.loss)
            case StoreRetried():
                self._count("seal_storage_retries_total", operation=event.operation)
            case Warned():
                self._count("seal_warnings_total")

    def _figures(self, event: RewardsMade) -> None:
        for arm, measures in event.arms.items():
            self._arm(arm, measures or {})
        for measure, value in event.reliability.items():
            if value is not None:
                self._set("seal_reliability", value, measure=measure)
        self._set("seal_coverage", event.coverage)

    def _arm(self, arm: str, measures: Mapping[str, Json]) -> None:
        for measure, value in flat(measures):
            if not measure.endswith("_error"):
                self._set("seal_arm", value, arm=arm, measure=measure)
