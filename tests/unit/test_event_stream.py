"""The stream of a real round through every reader: nothing is told that nobody reads, nothing read that nobody tells.

`record_events.py` recorded it.
"""

import ast
import dataclasses
import io
import json
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from made_events import make

from seal_ray import events
from seal_ray.commands import report, terminal
from seal_ray.config import Config
from seal_ray.event_stream import KINDS, decode_event, encode_event, kind_of
from seal_ray.events import Event, UnknownEvent
from seal_ray.observe import progress
from seal_ray.observe.metrics import METRICS, RayMetrics
from seal_ray.observe.scalars import scalars
from seal_ray.observe.sinks import TensorBoard
from seal_ray.observe.tally import Tally
from seal_ray.observe.timeline import timeline
from seal_ray.observe.trace import trace

ROOT = Path(__file__).parents[2]
LINES = (ROOT / "tests" / "recorded" / "events.jsonl").read_text(encoding="utf-8").splitlines()
# what one small round does not show; the tests that are named see it
ELSEWHERE = {
    "probe_asked": "test_probe.py: a probe is a run of its own",
    "trial_again": "test_pool.py: a late trial is an event and not a second trial",
    "dropped": "test_heats.py: heats are a setting, off unless asked for",
    "held_out": "test_held_out.py: looks at held-out tasks are a setting, off unless asked for",
}
# fields that are as they would be left out in the whole recording
EMPTY = {
    ("lease", "gpus"): "there is no GPU where the tests run",
    ("round_started", "version"): "the first round is written by version 0",
    ("sampled", "failed"): "whatever the tiny model writes is a text",
    ("graded", "cached"): "where no answer was given twice",
    ("selected", "abstained"): "where every task has an edit that helped",
    ("selected", "reasons"): "where every task has an edit that helped",
}


@pytest.fixture(scope="module")
def told() -> list[Event]:
    return [decode_event(json.loads(line)) for line in LINES]


def own_fields(kind: str) -> list[str]:
    return [f.name for f in dataclasses.fields(KINDS[kind]) if f.name not in {"round", "time"}]


def details(kind: str) -> set[str]:
    """The fields that are marked for people."""
    hints = typing.get_type_hints(KINDS[kind], include_extras=True)
    return {name for name, hint in hints.items() if "detail" in getattr(hint, "__metadata__", ())}


def test_the_recording_comes_back_as_it_was_written(told: list[Event]) -> None:
    assert not [e for e in told if isinstance(e, UnknownEvent)]
    assert [encode_event(e) for e in told] == [json.loads(line) for line in LINES]


def test_every_kind_is_told_in_a_real_round(told: list[Event]) -> None:
    seen = {kind_of(e) for e in told}
    assert KINDS.keys() - seen == ELSEWHERE.keys()
    assert all(name.split(":")[0] in {p.name for p in Path(__file__).parent.iterdir()} for name in ELSEWHERE.values())


def test_every_field_is_filled_in_a_real_round(told: list[Event]) -> None:
    filled = {
        (kind_of(e), n) for e in told for n in own_fields(kind_of(e)) if getattr(e, n) not in (None, "", 0, {}, ())
    }
    empty = {(kind, n) for kind in KINDS.keys() - ELSEWHERE.keys() for n in own_fields(kind)} - filled
    assert empty <= EMPTY.keys(), f"nobody tells {sorted(empty - EMPTY.keys())}"


def test_every_kind_is_made_somewhere_in_the_package() -> None:
    made: set[str] = set()
    for file in (ROOT / "seal_ray").rglob("*.py"):
        if file.name != "events.py":
            calls = (n for n in ast.walk(ast.parse(file.read_text())) if isinstance(n, ast.Call))
            made |= {n.func.id for n in calls if isinstance(n.func, ast.Name)}
    assert {cls.__name__ for cls in KINDS.values()} <= made


# reading


class FakeMetric:
    """In the place of a metric of Ray: the endpoint itself is read in tests/ray/test_metrics.py."""

    def __init__(self) -> None:
        self.told = 0

    def inc(self, by: float, tags: dict[str, str]) -> None:
        self.told += 1

    set = observe = inc


class RecordedRun:
    """As much of a run as `terminal.status` and `report.overview` ask of one that has only events."""

    uri, config, latest = "runs/recorded", Config(), 1
    record: typing.ClassVar[dict[str, Any]] = {"config": {}}

    def __init__(self, told: list[Event]) -> None:
        self._told = told
        self.ledger = self

    def events(self) -> list[Event]:
        return self._told

    def __getattr__(self, name: str) -> Any:  # whatever else a ledger tells of: there is nothing of it
        return lambda *_: None

    def rounds(self) -> list[Any]:
        return []

    versions = begun = rounds

    def note(self) -> dict[str, Any]:
        return {}

    def round(self, number: int) -> "RecordedRun":
        return self


def read_all(told: list[Event], monkeypatch: pytest.MonkeyPatch, folder: Path) -> dict[str, FakeMetric]:
    """Every reader there is."""
    config = Config.model_validate({"sampling": {"edits": 2}, "inner": {"repeats": 2}})
    metrics = RayMetrics(config)
    made = {m.name: FakeMetric() for m in METRICS}
    metrics._made = typing.cast(Any, made)
    tensorboard = TensorBoard(str(folder))
    shows = [progress.build(mode, config, io.StringIO()) for mode in ("plain", "json")]
    bars = progress.Bars(Tally(), io.StringIO())
    monkeypatch.setattr("ray.is_initialized", lambda: True)
    for event in told:
        for reader in (metrics, tensorboard, bars, *shows):
            reader(event)
        scalars(event)
    bars.picture()
    bars.close()
    metrics.close()
    tensorboard.close()
    timeline(told)
    trace(told)
    run: Any = RecordedRun(told)
    monkeypatch.setattr(report, "_deleted", lambda run, rounds: [])
    terminal.show_status(terminal.status(run))
    report.overview(run)
    return made


@pytest.fixture
def spied(told: list[Event]) -> Iterator[tuple[list[Event], set[tuple[str, str]]]]:
    """The stream, in which every field that is read by its name is noted. Encoding does not count."""
    read: set[tuple[str, str]] = set()
    before = {cls: cls.__getattribute__ for cls in KINDS.values()}
    for kind, cls in KINDS.items():
        names = set(own_fields(kind))

        def look(self: Any, name: str, kind: str = kind, names: set[str] = names) -> Any:
            if name in names:
                read.add((kind, name))
            return object.__getattribute__(self, name)

        cls.__getattribute__ = look  # type: ignore[method-assign]
    try:
        yield told, read
    finally:
        for cls, own in before.items():
            cls.__getattribute__ = own  # type: ignore[method-assign]


def test_every_field_is_read_by_name_or_is_a_detail(
    spied: tuple[list[Event], set[tuple[str, str]]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    told, read = spied
    end = told[-1].time
    lacking: list[Event] = [make(events.TrialFailed, 1, end, failure="lost", blame="infra")]
    lacking.append(make(events.TrialAgain, 1, end))
    lacking.append(make(events.ProbeAsked, 1, end, purpose="vote", done=2, total=2))
    lacking.append(make(events.EditsDropped, 1, end, dropped=1))
    lacking.append(make(events.HeldOutScored, 1, end, arms={"edit": {"accuracy": {"mean": 0.5, "error": 0.1}}}))
    metrics = read_all([*told, *lacking], monkeypatch, tmp_path)
    marked = {(kind, n) for kind in KINDS for n in details(kind)}
    unread = {(kind, n) for kind in KINDS for n in own_fields(kind)} - read - marked
    assert not unread, f"nobody reads {sorted(unread)}"
    assert not read & marked, f"read by name, and so no detail: {sorted(read & marked)}"
    silent = [name for name, metric in metrics.items() if not metric.told]
    assert not silent, f"metrics that a real round leaves alone: {silent}"


def test_the_report_shows_what_a_judge_cost_what_the_store_tried_again_and_whose_trials_failed(
    told: list[Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "_deleted", lambda run, rounds: [])
    lost = make(events.TrialFailed, 1, told[-1].time, arm="context", failure="lost", message="why", blame="infra")
    run: Any = RecordedRun([*told, lost])
    shown: Any = report.overview(run)
    (judged,) = shown["grading"]
    graded = [e for e in told if isinstance(e, events.Graded)]
    assert judged["cost"] == pytest.approx(sum(e.cost for e in graded)) and judged["cost"] > 0.5
    assert judged["calls"] == sum(e.calls for e in graded) > judged["failed"] > 0
    assert shown["store_retries"] == 1
    assert [f["what"] for f in shown["failures"]] == ["trial of the context alone"]
    phases = {s["phase"] for s in shown["time"]["spans"]}
    assert phases == {"sampling", "trials", "grading", "update", "gate"}
    assert [s["outcome"] for s in shown["time"]["sittings"]] == ["BudgetSpent", "done"]


# what other versions wrote


def test_events_of_the_first_version_are_read() -> None:
    lost = {"candidate": "c", "task": "t", "kind": "lost", "message": "m", "blame": "infra"}
    failed = decode_event({"kind": "trial_failed", "data": lost, "round": 1, "time": 2.0})
    assert failed == events.TrialFailed("c", "t", None, "lost", "m", "infra", round=1, time=2.0)
    resources = "2 workers of 0.5 A100 GPU and 4 CPU"
    lease = decode_event(
        {"kind": "lease", "data": {"role": "worker", "count": 2, "resources": resources, "state": "acquired"}}
    )
    assert lease == events.LeaseChanged("worker", "acquired", 2, resources, 0.5)
    gone = {"worker": "sampler-1", "node": "n", "state": "dead", "reason": "not needed any more", "log": "", "busy": 1}
    released = decode_event({"kind": "worker", "data": gone})
    assert isinstance(released, events.ActorChanged) and (released.role, released.state) == ("sampler", "released")


def test_what_another_version_told_is_kept_as_it_is_and_never_written(monkeypatch: pytest.MonkeyPatch) -> None:
    for line in (
        {"kind": "phase_progress", "data": {"phase": "trials", "done": 3}, "round": 1, "time": 5.0},
        {"kind": "warning", "data": {"message": 7}, "round": 1, "time": 5.0},
    ):
        unknown = decode_event(line)
        assert isinstance(unknown, UnknownEvent) and (unknown.kind, unknown.data) == (line["kind"], line["data"])
        with pytest.raises(TypeError, match="unknown kind"):
            encode_event(unknown)
    more = decode_event({"kind": "warning", "data": {"message": "m", "colour": "red"}, "round": 1, "time": 5.0})
    assert more == events.Warned("m", round=1, time=5.0)


def test_a_number_that_json_lacks_never_stops_a_run() -> None:
    step = make(events.UpdateStep, loss=float("nan"), lr=float("inf"))
    assert encode_event(step)["data"] | {"loss": None, "lr": None} == encode_event(step)["data"]
    json.dumps(encode_event(step), allow_nan=False)
