"""A run's time as a trace that Perfetto and chrome://tracing open: phases, waves and workers on one axis."""

from collections.abc import Iterable
from typing import Any

from seal_ray.event_stream import fields_of, kind_of
from seal_ray.events import (
    ActorChanged,
    BudgetReached,
    EditsSampled,
    Event,
    GateDecided,
    Graded,
    LeaseChanged,
    PhaseEnded,
    PhaseStarted,
    RepeatsAsked,
    RoundCommitted,
    RoundStarted,
    StoreRetried,
    TrialAgain,
    TrialDone,
    TrialFailed,
    UpdateStep,
    WaitingFor,
    Warned,
    WaveDone,
)
from seal_ray.records import Json

DRIVER, WORKERS, SAMPLERS = 1, 2, 3  # processes of the trace
NAMES = {DRIVER: "driver", WORKERS: "workers", SAMPLERS: "sampling and grading"}
MARKS = (
    *(TrialFailed, TrialAgain, Warned, StoreRetried, ActorChanged, LeaseChanged),
    *(WaitingFor, GateDecided, RepeatsAsked, BudgetReached),
)


class Trace:
    """Takes events one by one; `done` gives what a trace viewer reads (times in microseconds)."""

    def __init__(self) -> None:
        self._out: list[dict[str, Json]] = []
        self._open: dict[str, tuple[float, dict[str, Json]]] = {}  # phase or round -> when it began, and of what
        self._lanes: dict[str, int] = {}  # worker -> thread
        self._last = 0.0
        self._trials = 0

    def take(self, event: Event) -> None:
        self._last = max(self._last, event.time)
        data = fields_of(event)
        match event:
            case PhaseStarted():
                self._open[f"{event.round}/{event.phase}"] = (event.time, data)
            case PhaseEnded():
                self._end(f"{event.round}/{event.phase}", event, data)
            case RoundStarted():
                self._open[f"round {event.round}"] = (event.time, data)
            case RoundCommitted():
                self._end(f"round {event.round}", event, data)
            case WaveDone():
                lane = self._lanes.setdefault(event.worker, len(self._lanes) + 1)
                self._span(f"wave of {event.candidates}", WORKERS, lane, event.started, event.seconds, data)
            case TrialDone():
                self._trials += 1
                self._number("trials", event.time, self._trials)
            case UpdateStep():
                self._number("update loss", event.time, event.loss)
            case Graded() if event.seconds:
                self._span(kind_of(event), SAMPLERS, 2, event.time - event.seconds, event.seconds, data)
            case EditsSampled() | Graded():
                self._mark(kind_of(event), SAMPLERS, 1 if isinstance(event, EditsSampled) else 2, event.time, data)
            case _ if isinstance(event, MARKS):
                self._mark(kind_of(event), DRIVER, 3, event.time, data)

    def done(self) -> dict[str, Json]:
        """The whole trace. A phase that never ended reaches to the last event."""
        left = [
            self._made(key, began, self._last, data | {"ended": False}) for key, (began, data) in self._open.items()
        ]
        names: list[dict[str, Json]] = [
            {"name": "process_name", "ph": "M", "pid": pid, "tid": 0, "args": {"name": name}}
            for pid, name in NAMES.items()
        ]
        lanes = [(DRIVER, 1, "rounds"), (DRIVER, 2, "phases"), (DRIVER, 3, "what happened")]
        lanes += [(SAMPLERS, 1, "sampling"), (SAMPLERS, 2, "grading")]
        lanes += [(WORKERS, lane, worker) for worker, lane in self._lanes.items()]
        names += [
            {"name": "thread_name", "ph": "M", "pid": pid, "tid": tid, "args": {"name": name}}
            for pid, tid, name in lanes
        ]
        events = sorted(self._out + left, key=lambda e: e["ts"])
        return {"traceEvents": names + events, "displayTimeUnit": "ms"}

    def _end(self, key: str, event: PhaseEnded | RoundCommitted, data: dict[str, Json]) -> None:
        began, about = self._open.pop(key, (event.time - event.seconds, {}))
        self._out.append(self._made(key, began, event.time, about | data))

    def _made(self, key: str, began: float, ended: float, data: dict[str, Json]) -> dict[str, Json]:
        lane = 1 if key.startswith("round ") else 2
        return _event(key.rpartition("/")[2], "X", DRIVER, lane, began, data) | {"dur": _micro(max(0.0, ended - began))}

    def _span(self, name: str, pid: int, tid: int, began: float, seconds: float, data: dict[str, Json]) -> None:
        self._out.append(_event(name, "X", pid, tid, began, data) | {"dur": _micro(seconds)})

    def _mark(self, name: str, pid: int, tid: int, at: float, data: dict[str, Json]) -> None:
        self._out.append(_event(name, "i", pid, tid, at, data) | {"s": "t"})

    def _number(self, name: str, at: float, value: Json) -> None:
        self._out.append(_event(name, "C", DRIVER, 0, at, {"value": value}))


def trace(events: Iterable[Event]) -> dict[str, Json]:
    """The trace of a whole stream."""
    made = Trace()
    for event in events:
        made.take(event)
    return made.done()


def _event(name: str, kind: str, pid: int, tid: int, at: float, data: dict[str, Any]) -> dict[str, Json]:
    return {"name": name, "ph": kind, "pid": pid, "tid": tid, "ts": _micro(at), "args": data}


def _micro(seconds: float) -> int:
    return round(seconds * 1e6)
