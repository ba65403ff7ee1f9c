"""What a terminal shows, made from events alone."""

import io
import json

import pytest
from made_events import make
from rich.console import Console

from seal_ray import observe
from seal_ray.config import Config
from seal_ray.event_stream import decode_event
from seal_ray.events import (
    ActorChanged,
    EditsSampled,
    EditsSelected,
    Event,
    Graded,
    LeaseChanged,
    PhaseEnded,
    PhaseStarted,
    RewardsMade,
    RoundCommitted,
    RoundResumed,
    RoundStarted,
    RunStarted,
    TrialDone,
    TrialFailed,
    UpdateStep,
    WaitingFor,
    Warned,
)
from seal_ray.observe import progress
from seal_ray.observe.tally import Tally

ARM = {"accuracy": {"mean": 0.25, "error": 0.02, "n": 3}, "likelihood": {"mean": -1.5, "error": 0.1, "n": 3}}


def config(**sections: dict[str, object]) -> Config:
    return Config.model_validate({"sampling": {"edits": 2}, "inner": {"repeats": 2}} | sections)


def round_events() -> list[Event]:
    """One round of two tasks, two edits and two repeats, a second apart."""
    told: list[Event] = []

    def tell(kind: type[Event], /, **fields: object) -> None:
        told.append(make(kind, 1, 1000.0 + len(told), **fields))

    tell(RunStarted, uri="runs/x", seed=0, rounds=2, resumed=False)
    tell(RoundStarted, tasks=2, version=0, edits=2)
    tell(PhaseStarted, phase="trials")
    tell(ActorChanged, worker="w0", role="worker", node="n0", state="healthy")
    tell(ActorChanged, worker="w1", role="worker", node="n1", state="healthy")
    tell(EditsSampled, task="a", edits=2, failed=0, tokens=100)
    tell(EditsSampled, task="b", edits=2, failed=1, tokens=90)
    for task, edits in (("a", 2), ("b", 1)):
        tell(TrialDone, candidate=f"{task}-", task=task, arm="baseline", seconds=1.0, worker="w0", likelihood=-3.0)
        for slot in range(edits):
            for repeat in range(2):
                last = (task, slot, repeat) == ("b", 0, 1)
                where = {"candidate": f"{task}{slot}{repeat}", "task": task, "arm": "edit"}
                if last:
                    tell(TrialFailed, **where, failure="nan_loss", message="the loss is not a number", blame="data")
                else:
                    tell(TrialDone, **where, seconds=2.0, likelihood=-2.0)
                    tell(Graded, grader="lexical", verdicts=3, failed=0)
    tell(ActorChanged, worker="w1", role="worker", node="n1", state="dead", reason="preempted")
    tell(PhaseEnded, phase="trials", seconds=20.0)
    tell(RewardsMade, reliability={"accuracy": 0.4}, arms={"base": ARM, "edit": ARM}, coverage=1.0)
    tell(EditsSelected, choices=2, abstained=0, kept=ARM)
    tell(UpdateStep, step=1, steps=2, loss=1.25, lr=1e-4)
    tell(RoundCommitted, version=1, decision="accept", seconds=42.0)
    return told


def tally() -> Tally:
    return Tally(edits=2, repeats=2, context_arm=False)


def test_the_tally_knows_how_far_each_phase_is_and_what_failed() -> None:
    state = tally()
    for event in round_events()[:-5]:
        state.take(event)
    assert (state.counts["sampling"].done, state.counts["sampling"].total) == (4, 4)
    # 2 baselines and 2 x 2 x 2 edits, less the two repeats of the edit that failed
    assert (state.counts["trials"].done, state.counts["trials"].total) == (8, 8)
    assert dict(state.failures) == {"edit": 1, "nan_loss": 1}
    assert state.alive == 1
    assert state.likelihood["base"].value == -3.0
    assert state.likelihood["edit"].value == -2.0


def test_rate_and_time_left_come_from_this_sitting_and_not_from_what_was_resumed() -> None:
    state = tally()
    state.take(make(RoundStarted, 1, 100.0, tasks=10, edits=2))
    state.take(make(RoundResumed, 1, 100.0, edits=20, trials=30, verdicts=90))
    state.take(make(PhaseStarted, 1, 100.0, phase="trials", total=50))
    for i in range(5):
        state.take(make(TrialDone, 1, 102.0 + 2 * i, arm="edit", seconds=1))
    trials = state.counts["trials"]
    assert trials.done == 35
    assert trials.rate == pytest.approx(0.5)
    assert trials.seconds_left == pytest.approx(30)


def test_a_phase_that_knows_how_many_trials_there_are_knows_it_better_than_the_round() -> None:
    state = tally()
    state.take(make(RoundStarted, 1, 100.0, tasks=4, edits=0))
    state.take(make(TrialFailed, 1, 101.0, failure="no_pairs"))
    state.take(make(PhaseStarted, 1, 102.0, phase="trials", total=30))
    assert state.counts["trials"].total == 30 and state.counts["grading"].total == 29


def test_where_there_is_no_terminal_progress_is_plain_lines() -> None:
    out = io.StringIO()
    show = progress.build("auto", config(inner={"repeats": 2, "context_arm": False}), out)
    for event in round_events():
        show(event)
    show.close()
    text = out.getvalue()
    assert "\x1b" not in text
    assert "run runs/x begins: 2 rounds, seed 0" in text
    assert "w1 on n1 was lost: preempted" in text
    assert "trials took 20 s: 8 of 8, failed: edit 1, nan_loss 1" in text
    assert "round 1 committed: accept, version 1, 42 s" in text
    assert len(text.splitlines()) < 15, "counts are paced, not one line per trial"


def test_a_line_of_a_log_can_not_be_broken_by_what_a_worker_says() -> None:
    out = io.StringIO()
    show = progress.build("plain", config(), out)
    show(make(Warned, 1, 5.0, message="one\ntwo\x1b[31m" + "x" * 9000))
    assert out.getvalue().count("\n") == 1
    assert "\x1b" not in out.getvalue()
    assert len(out.getvalue()) < 500


def test_json_mode_gives_every_event_back() -> None:
    out = io.StringIO()
    show = progress.build("json", config(), out)
    events = round_events()
    for event in events:
        show(event)
    assert [decode_event(json.loads(line)) for line in out.getvalue().splitlines()] == events


def test_quiet_mode_says_nothing() -> None:
    out = io.StringIO()
    show = progress.build("quiet", config(), out)
    for event in round_events():
        show(event)
    show.close()
    assert out.getvalue() == ""


def test_what_the_gate_tries_is_counted_as_the_gates() -> None:
    state = Tally()
    state.take(make(RoundStarted, 1, 1.0, tasks=2, edits=2))
    state.take(make(TrialDone, 1, 2.0, arm="edit", seconds=1.0))
    before = {name: (count.done, count.total) for name, count in state.counts.items()}
    state.take(make(PhaseStarted, 1, 3.0, phase="gate"))
    state.take(make(PhaseStarted, 1, 3.0, phase="sampling", total=9))
    state.take(make(EditsSampled, 1, 4.0, edits=3, failed=1))
    state.take(make(TrialDone, 1, 5.0, arm="edit", likelihood=-1.0))
    state.take(make(Graded, 1, 5.0))
    state.take(make(PhaseEnded, 1, 6.0, phase="trials"))
    assert state.counts["gate"].done == 1 and not state.failures
    for name in ("sampling", "trials", "grading"):
        assert (state.counts[name].done, state.counts[name].total) == before[name]
    state.take(make(PhaseEnded, 1, 7.0, phase="gate"))
    state.take(make(TrialDone, 1, 8.0, arm="edit"))
    assert state.counts["trials"].done == 2


def test_workers_are_those_that_try_candidates() -> None:
    state = Tally()
    for role, name, now in (("worker", "worker-1", "dead"), ("sampler", "sampler-1", "healthy")):
        state.take(make(ActorChanged, 1, 2.0, role=role, worker=name, state="healthy"))
        state.take(make(ActorChanged, 1, 3.0, role=role, worker=name, state=now))
    state.take(make(ActorChanged, 1, 3.0, role="trainer", worker="trainer-0", state="healthy"))
    assert state.alive == 0
    state.take(make(ActorChanged, 1, 4.0, role="worker", worker="worker-2", state="starting"))
    assert state.alive == 1


def test_candidates_wait_for_workers_once_trials_have_begun() -> None:
    """Where roles take turns nobody is there to try them while samplers write, and nobody has to be."""
    state = tally()
    state.take(make(RoundStarted, 1, 1.0, tasks=2, edits=2))
    state.take(make(EditsSampled, 1, 2.0, edits=2))
    assert state.queue == 0
    state.take(make(PhaseStarted, 1, 3.0, phase="trials", total=10))
    assert state.queue == 10
    state.take(make(TrialDone, 1, 4.0, arm="edit"))
    assert state.queue == 9
    state.take(make(PhaseEnded, 1, 5.0, phase="trials"))
    assert state.queue == 0


def test_a_wait_is_over_once_the_run_has_what_it_waited_for() -> None:
    lease = make(LeaseChanged, 1, 3.0, role="worker", state="acquired", count=2)
    for there in (make(RunStarted, 0, 3.0, uri="runs/x"), lease):
        state = Tally()
        state.take(make(WaitingFor, 0, 2.0, what="nodes", missing="2 GPUs"))
        assert state.waiting == "nodes: 2 GPUs"
        state.take(there)
        assert not state.waiting


def test_bars_show_phases_workers_failures_and_means_and_take_no_markup_from_outside() -> None:
    state = tally()
    for event in round_events():
        state.take(event)
    state.waiting = "[red]GPU[/red]: 2\x1b[2J"
    state.failures["odd\x9b2J"] += 1
    bars = progress.Bars(state, io.StringIO())
    console = Console(file=io.StringIO(), width=100, force_terminal=False)
    console.print(bars.picture())
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "round 1 of 2, version 0, 1 workers" in text
    assert "sampling" in text and "8/8" in text and "1/2" in text
    assert "base 25.0%±2.0% -1.500±0.100" in text and "kept edit" in text
    assert "nan_loss 1" in text
    assert "[red]GPU[/red]: 2\\x1b[2J" in text, "markup is shown and not obeyed"
    assert "odd\\x9b2J 1" in text and "\x1b" not in text


def test_bars_run_and_end_on_a_terminal() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    out = Terminal()
    show = progress.build("auto", config(), out)
    assert isinstance(show, progress.Bars)
    for event in round_events():
        show(event)
    show.close()
    assert "round 1 committed" in out.getvalue()


def test_a_sink_that_breaks_is_left_out_and_said_so_once() -> None:
    out = io.StringIO()
    (show, *rest) = observe.build(config(observe={"progress": "plain", "ray_metrics": False}).observe, config(), out)
    assert rest == []
    show(make(TrialDone, 1, 1.0, likelihood="no number"))
    show(make(Warned, 1, 2.0, message="not shown any more"))
    show.close()
    assert out.getvalue().count("the display is left out from here on: TypeError") == 1
    assert "not shown" not in out.getvalue()


def test_json_mode_writes_out_what_controls_a_terminal() -> None:
    out = io.StringIO()
    event = make(Warned, 1, 5.0, message="Zürich \x9b2J\u202eabc")
    progress.build("json", config(), out)(event)
    assert "Zürich \\u009b2J\\u202eabc" in out.getvalue() and decode_event(json.loads(out.getvalue())) == event


def test_rounds_that_are_not_known_are_not_counted_towards() -> None:
    event = make(RunStarted, 0, 1.0, uri="runs/x", rounds=0)
    assert progress.told(event) == "run runs/x begins: seed 0"
    state = Tally(round=2)
    state.take(event)
    console = Console(file=io.StringIO(), width=100)
    console.print(progress.Bars(state, io.StringIO()).picture())
    assert "round 2, version 0" in console.file.getvalue()  # type: ignore[attr-defined]
