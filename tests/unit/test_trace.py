"""A run's time as a trace: the format that Perfetto and chrome://tracing read."""

import json
from pathlib import Path
from typing import Any

from made_events import make

from seal_ray.events import (
    EditsSampled,
    PhaseEnded,
    PhaseStarted,
    RoundStarted,
    TrialDone,
    TrialFailed,
    UpdateStep,
    WaveDone,
)
from seal_ray.observe.sinks import EventFile, read_events
from seal_ray.observe.trace import trace

EVENTS = [
    make(RoundStarted, 1, 100.0, tasks=2),
    make(PhaseStarted, 1, 101.0, phase="trials", total=2),
    make(EditsSampled, 1, 103.0, task="a", edits=2),
    make(WaveDone, 1, 106.5, worker="w0", candidates=4, started=104.0, seconds=2.0),
    make(WaveDone, 1, 106.0, worker="w1", candidates=1, started=104.5, seconds=1.0),
    make(TrialDone, 1, 106.1, task="a"),
    make(TrialDone, 1, 106.2, task="a"),
    make(TrialFailed, 1, 106.3, task="a", failure="nan_loss"),
    make(PhaseEnded, 1, 107.0, phase="trials", seconds=6.0),
    make(PhaseStarted, 1, 108.0, phase="update", total=2),
    make(UpdateStep, 1, 109.0, step=1, loss=2.5),
]


def check_format(made: dict[str, Any]) -> None:
    """What the trace-event format asks of a JSON object trace."""
    assert set(made) == {"traceEvents", "displayTimeUnit"}
    for e in made["traceEvents"]:
        assert {"name", "ph", "pid", "tid"} <= e.keys(), e
        assert isinstance(e["name"], str) and e["ph"] in {"M", "X", "i", "C"}
        assert isinstance(e["pid"], int) and isinstance(e["tid"], int)
        if e["ph"] == "M":
            assert e["name"] in {"process_name", "thread_name"} and isinstance(e["args"]["name"], str)
        else:
            assert isinstance(e["ts"], int) and e["ts"] >= 0
        if e["ph"] == "X":
            assert isinstance(e["dur"], int) and e["dur"] >= 0
        if e["ph"] == "C":
            assert all(isinstance(v, (int, float)) for v in e["args"].values())
        if e["ph"] == "i":
            assert e["s"] in {"g", "p", "t"}


def named(made: dict[str, Any], name: str) -> list[dict[str, Any]]:
    return [e for e in made["traceEvents"] if e["name"] == name]


def test_phases_waves_and_workers_lie_on_one_axis_in_microseconds() -> None:
    made = json.loads(json.dumps(trace(EVENTS)))
    check_format(made)
    (phase,) = [e for e in named(made, "trials") if e["ph"] == "X"]
    assert (phase["ts"], phase["dur"]) == (101_000_000, 6_000_000)
    (four,), (one,) = named(made, "wave of 4"), named(made, "wave of 1")
    assert (four["ts"], four["dur"]) == (104_000_000, 2_000_000)
    assert (four["pid"], four["tid"]) != (one["pid"], one["tid"]), "each worker has a lane"
    lanes = {e["tid"]: e["args"]["name"] for e in named(made, "thread_name") if e["pid"] == four["pid"]}
    assert lanes[four["tid"]] == "w0" and lanes[one["tid"]] == "w1"
    (sampled,) = named(made, "sampled")
    assert (sampled["ph"], sampled["ts"]) == ("i", 103_000_000)
    assert [e["args"]["value"] for e in named(made, "trials") if e["ph"] == "C"] == [1, 2]


def test_a_phase_that_never_ended_reaches_to_the_last_event() -> None:
    (update,) = named(trace(EVENTS), "update")
    assert (update["ts"], update["dur"]) == (108_000_000, 1_000_000)
    assert update["args"]["ended"] is False


def test_the_event_file_gives_the_stream_back_and_a_trace_beside_it(tmp_path: Path) -> None:
    for part in (EVENTS[:4], EVENTS[4:]):  # a second sitting goes on in the same file
        sink = EventFile(tmp_path / "events")
        for event in part:
            sink(event)
        sink.close()
    path = tmp_path / "events" / "events.jsonl"
    assert read_events(path) == EVENTS
    check_format(json.loads((tmp_path / "events" / "trace.json").read_text()))
    with path.open("a") as file:
        file.write('{"kind": "tri')  # cut off in the middle of a line
    assert read_events(path) == EVENTS
