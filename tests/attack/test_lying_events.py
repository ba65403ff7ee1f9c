"""A stream of events that somebody else has written in: nothing rests on events, so every reader reads on."""

import json
from typing import Any

import pytest
from amounts import AMOUNTS
from forging import changed
from seeds import drawing
from test_event_stream import LINES, RecordedRun

from seal_ray.commands import report, terminal
from seal_ray.event_stream import decode_event
from seal_ray.events import Event, UnknownEvent
from seal_ray.observe.trace import trace
from seal_ray.records import Json

ANY: list[Json] = [
    None, 3, "x", [], [[]], {}, {"kind": 3}, {"kind": None}, {"kind": "warning"}, {"kind": "warning", "data": []},
    {"kind": "worker", "data": {"state": ["up"], "worker": "sampler-1"}}, {"kind": "worker", "data": {"state": {}}},
    {"kind": "lease", "data": {"resources": "2 workers of 1.2.3 A100 GPU and 4 CPU"}},
    {"kind": "warning", "data": {"message": "m"}, "time": "now", "round": "first"},
    {"kind": "warning", "data": {"message": "m"}, "time": 10**400, "round": 10**400},
    {"kind": "warning", "data": {"message": "m"}, "time": float("nan"), "round": float("inf")},
    {"kind": "held_out", "data": {"arms": {"edit": 3, "base": {"accuracy": {"mean": "x"}}}}},
    {"kind": "run_ended", "data": {"outcome": "done", "reason": None}},
    {"kind": "wave", "data": {"seconds": 1e308, "started": 1e308}},
    {"kind": "warning", "data": {"message": json.loads("[" * 700 + "]" * 700)}},
]  # fmt: skip


def read(told: list[Event], monkeypatch: pytest.MonkeyPatch) -> None:
    """Those who read a ledger; who listens to a driver hears nobody else."""
    monkeypatch.setattr(report, "_deleted", lambda run, rounds: [])
    run: Any = RecordedRun(told)
    terminal.show_status(terminal.status(run))
    json.dumps(report.overview(run), allow_nan=False)
    json.dumps(trace(told), allow_nan=False)


@pytest.mark.parametrize("line", ANY)
def test_a_line_that_is_no_event_is_an_unknown_one(line: Json, monkeypatch: pytest.MonkeyPatch) -> None:
    event = decode_event(line)
    assert type(event.round) is int and type(event.time) is float and 0 <= event.time < 1e12
    read([event, *map(decode_event, map(json.loads, LINES[:20])), event], monkeypatch)


def enlarged(value: Json, number: float) -> Json:
    """The value with that number in the place of every other."""
    if isinstance(value, dict):
        return {k: enlarged(v, number) for k, v in value.items()}
    if isinstance(value, list):
        return [enlarged(v, number) for v in value]
    return number if type(value) in (int, float) else value


@pytest.mark.parametrize("number", [1e308, 10**300, -1e308, 1e18, 9e17], ids="{:.0e}".format)
def test_numbers_that_no_sum_holds_are_nobodys(number: float, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [json.loads(line) for line in LINES]
    by_kind = {line["kind"]: line for line in lines if enlarged(line["data"], 3) != enlarged(line["data"], 4)}
    assert len(by_kind) > 15
    lying = [decode_event(line | {"data": enlarged(line["data"], number)}) for line in by_kind.values()]
    assert abs(number) < 1e18 or all(isinstance(event, UnknownEvent) for event in lying)
    read([*map(decode_event, lines), *lying, *lying], monkeypatch)


def attack(seed: str, times: int, monkeypatch: pytest.MonkeyPatch) -> int:
    draw, unknown = drawing(seed), 0
    for number in range(times):
        lines = [json.loads(line) for line in LINES if draw.random() < 0.3]
        for _ in range(draw.randrange(1, 30)):
            at = draw.randrange(len(lines))
            lines[at] = changed(draw, lines[at])
        if draw.random() < 0.3:
            draw.shuffle(lines)
        told = [decode_event(line) for line in lines]
        unknown += sum(isinstance(event, UnknownEvent) for event in told)
        try:
            read(told, monkeypatch)
        except Exception as error:
            raise AssertionError(f"{seed} {number}: {type(error).__name__}: {error}") from error
    return unknown


def test_streams_that_lie_are_read_by_every_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    assert attack("events", AMOUNTS["events"].quick, monkeypatch) > 20


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(AMOUNTS["events"].times))
def test_many_streams_that_lie_are_read_by_every_reader(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    attack(f"events {seed}", AMOUNTS["events"].long, monkeypatch)
