"""A run's time as a trace that Perfetto and chrome://tracing open: phases, waves and workers on one axis."""

from collections.abc import Iterable
from typing import Any

from seal_ray.records import Event, Json

DRIVER, WORKERS, SAMPLERS = 1, 2, 3  # processes of the trace
NAMES = {DRIVER: "driver", WORKERS: "workers", SAMPLERS: "sampling and grading"}
AT_ONCE = {"trial_failed", "trial_again", "warning", "storage", "worker", "lease", "waiting", "gate", "repeats"}


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
        data: dict[str, Json] = dict(event.data)
        match event.kind:
            case "phase_started":
                self._open[f"{event.round}/{data.get('phase')}"] = (event.time, data)
            case "phase_ended":
                self._end(f"{event.round}/{data.get('phase')}", event, data)
            case "round_started":
                self._open[f"round {event.round}"] = (event.time, data)
            case "round_committed":
                self._end(f"round {event.round}", event, data)
            case "wave":
                self._wave(event, data)
            case "trial":
                self._trials += 1
                self._number("trials", event.time, self._trials)
            case "update_step":
                if isinstance(data.get("loss"), (int, float)):
                    self._number("update loss", event.time, data["loss"])
            case "sampled" | "graded":
                seconds = float(data.get("seconds") or 0)
                lane = 1 if event.kind == "sampled" else 2
                if seconds:
                    self._span(event.kind, SAMPLERS, lane, event.time - seconds, seconds, data)
                else:
                    self._mark(event.kind, SAMPLERS, lane, event.time, data)
            case kind if kind in AT_ONCE:
                self._mark(kind, DRIVER, 3, event.time, data)

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

    def _wave(self, event: Event, data: dict[str, Json]) -> None:
        worker = str(data.get("worker", "?"))
        lane = self._lanes.setdefault(worker, len(self._lanes) + 1)
        seconds = float(data.get("seconds") or 0)
        began = float(data.get("started") or event.time - seconds)
        size = data.get("candidates")
        name = f"wave of {len(size) if isinstance(size, list) else size}"
        self._span(name, WORKERS, lane, began, seconds, data)

    def _end(self, key: str, event: Event, data: dict[str, Json]) -> None:
        began, about = self._open.pop(key, (event.time - float(data.get("seconds") or 0), {}))
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
