"""A run's time as a trace: the format that Perfetto and chrome://tracing read."""

import json
from pathlib import Path
from typing import Any

from seal_ray.observe.sinks import EventFile, read_events
from seal_ray.observe.trace import trace
from seal_ray.records import Event

EVENTS = [
    Event("round_started", {"tasks": 2}, 1, 100.0),
    Event("phase_started", {"phase": "explore", "total": 2}, 1, 101.0),
    Event("sampled", {"task": "a", "edits": 2, "seconds": 1.5}, 1, 103.0),
    Event("wave", {"worker": "w0", "candidates": 4, "started": 104.0, "seconds": 2.0}, 1, 106.5),
    Event("wave", {"worker": "w1", "candidates": ["x"], "started": 104.5, "seconds": 1.0}, 1, 106.0),
    Event("trial", {"task": "a"}, 1, 106.1),
    Event("trial", {"task": "a"}, 1, 106.2),
    Event("trial_failed", {"task": "a", "kind": "nan_loss"}, 1, 106.3),
    Event("phase_ended", {"phase": "explore", "seconds": 6.0}, 1, 107.0),
    Event("phase_started", {"phase": "update", "total": 2}, 1, 108.0),
    Event("update_step", {"step": 1, "loss": 2.5}, 1, 109.0),
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
    (phase,) = named(made, "explore")
    assert (phase["ts"], phase["dur"]) == (101_000_000, 6_000_000)
    (four,), (one,) = named(made, "wave of 4"), named(made, "wave of 1")
    assert (four["ts"], four["dur"]) == (104_000_000, 2_000_000)
    assert (four["pid"], four["tid"]) != (one["pid"], one["tid"]), "each worker has a lane"
    lanes = {e["tid"]: e["args"]["name"] for e in named(made, "thread_name") if e["pid"] == four["pid"]}
    assert lanes[four["tid"]] == "w0" and lanes[one["tid"]] == "w1"
    (sampled,) = named(made, "sampled")
    assert (sampled["ts"], sampled["dur"]) == (101_500_000, 1_500_000)
    assert [e["args"]["value"] for e in named(made, "trials")] == [1, 2]


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
