"""What a terminal shows while a run is on: bars for people, lines for log files, JSON for programs, or nothing."""

import json
from typing import Any, TextIO

from seal_ray.config import Config
from seal_ray.event_stream import encode_event
from seal_ray.events import (
    ASIDE,
    ActorChanged,
    BudgetReached,
    EditsDropped,
    EditsSampled,
    EditsSelected,
    Event,
    GateDecided,
    Graded,
    HeldOutScored,
    Phase,
    PhaseEnded,
    ProbeAsked,
    RewardsMade,
    RoundCommitted,
    RoundResumed,
    RoundStarted,
    RunEnded,
    RunStarted,
    StoreRetried,
    TrialDone,
    TrialFailed,
    UpdateStep,
    WaitingFor,
    Warned,
)
from seal_ray.observe.arms import TITLES
from seal_ray.observe.sinks import Observer
from seal_ray.observe.tally import PHASES, Count, Tally
from seal_ray.text import harmless_json, one_line

LINE_EVERY = 15.0  # seconds between two lines of counts in a log file
COUNTED = (EditsSampled, TrialDone, TrialFailed, Graded, UpdateStep)


def build(mode: str, config: Config, stream: TextIO) -> Observer:
    """The display for this mode; `auto` is bars on a terminal and lines elsewhere."""
    if mode == "auto":
        mode = "rich" if stream.isatty() else "plain"
    tally = Tally(edits=config.sampling.edits, repeats=config.inner.repeats, context_arm=config.inner.context_arm)
    match mode:
        case "rich":
            return Bars(tally, stream)
        case "plain":
            return Lines(tally, stream)
        case "json":
            return JsonLines(stream)
    return Silence()


class Silence:
    """Shows nothing."""

    def __call__(self, event: Event) -> None: ...

    def close(self) -> None: ...


class JsonLines:
    """Every event as one line of JSON."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __call__(self, event: Event) -> None:
        self._stream.write(harmless_json(json.dumps(encode_event(event), ensure_ascii=False)) + "\n")
        self._stream.flush()

    def close(self) -> None: ...


class Lines:
    """Plain lines: one for what matters, and the counts now and then. Paced by the events' own times."""

    def __init__(self, tally: Tally, stream: TextIO) -> None:
        self._tally, self._stream, self._last = tally, stream, 0.0

    def __call__(self, event: Event) -> None:
        self._tally.take(event)
        line = told(event)
        if isinstance(event, PhaseEnded):
            if event.phase in ASIDE or not self._tally.aside:  # what a gate asks for is part of it
                self._say(event, line + reached(self._tally, event.phase))
        elif line:
            self._say(event, line)
        elif isinstance(event, COUNTED) and event.time - self._last >= LINE_EVERY:
            self._say(event, counts_line(self._tally))
        elif isinstance(event, RewardsMade):
            self._say(event, " | ".join(f"{name} {value}" for name, value in means(self._tally)))

    def _say(self, event: Event, line: str) -> None:
        self._last = event.time
        since = max(0.0, event.time - self._tally.began) if self._tally.began else 0.0
        self._stream.write(f"[{_time(since):>8}] {one_line(line)}\n")
        self._stream.flush()

    def close(self) -> None: ...


class Bars:
    """Bars for the phases of the round, and below them workers, failures and means."""

    def __init__(self, tally: Tally, stream: TextIO) -> None:
        from rich.console import Console
        from rich.live import Live

        self._tally = tally
        self._console = Console(file=stream)
        self._live = Live(get_renderable=self.picture, console=self._console, refresh_per_second=4, transient=False)
        self._started = False

    def __call__(self, event: Event) -> None:
        if not self._started:
            self._live.start()
            self._started = True
        self._tally.take(event)
        line = told(event)
        if line and not (isinstance(event, PhaseEnded) and event.phase not in ASIDE and self._tally.aside):
            from rich.text import Text

            self._console.print(Text(one_line(line), style="yellow" if isinstance(event, Warned) else ""))

    def close(self) -> None:
        if self._started:
            self._live.stop()

    def picture(self) -> Any:
        """The state as a rich renderable. Text that comes from outside is never read as markup."""
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        tally = self._tally
        bars = Table.grid(padding=(0, 1))
        for name in PHASES:
            count = tally.counts[name]
            if count.total or count.done:
                bars.add_row(
                    Text(name, style="bold" if _open(count) else "dim"),
                    ProgressBar(total=count.total or None, completed=count.done, width=30, pulse=not count.total),
                    Text(f"{count.done}/{count.total}" if count.total else str(count.done)),
                    Text(_pace(count), style="cyan"),
                )
        head = f"round {tally.round}{f' of {tally.rounds}' if tally.rounds else ''}, version {tally.version}"
        head += f", {tally.alive} workers" if tally.workers else ""
        parts: list[Any] = [Text(head, style="bold"), bars]
        if tally.waiting:
            parts.append(Text(one_line(f"waiting for {tally.waiting}"), style="yellow"))
        shown = means(tally)
        if shown:
            parts.append(Text("   ".join(f"{name} {value}" for name, value in shown)))
        if tally.failures:
            parts.append(Text(_failures(tally), style="red"))
        return Group(*parts)


# what is said


def told(event: Event) -> str:
    """The line for an event that is worth one of its own; empty for the rest."""
    match event:
        case RunStarted():
            how = "goes on" if event.resumed else "begins"
            rounds = f"{event.rounds} rounds, " if event.rounds else ""
            return f"run {event.uri} {how}: {rounds}seed {event.seed}"
        case RunEnded():
            reason = f" ({event.reason})" if event.reason else ""
            return f"run ended: {event.outcome}{reason} after {_time(event.seconds)}"
        case RoundStarted():
            return f"round {event.round}: {event.tasks} tasks, version {event.version}"
        case RoundResumed():
            known = f"{event.edits} edits, {event.trials} trials, {event.verdicts} verdicts"
            return f"round {event.round} goes on with {known}"
        case ProbeAsked() if event.done == event.total:
            return f"probe: {event.done} replies, asked for: {event.purpose}"
        case PhaseEnded():
            return f"{event.phase} took {_time(event.seconds)}"
        case EditsDropped() if event.dropped:
            why = "by what their texts promise" if event.stage == "predicted" else "after their heat"
            return f"{event.dropped} of {event.kept + event.dropped} edits of a task are dropped {why}"
        case EditsSelected():
            return f"round {event.round}: {event.choices} edits kept, {event.abstained} tasks without one"
        case GateDecided():
            return f"gate: {event.decision}; {'; '.join(event.reasons)}"
        case HeldOutScored():
            return f"held-out tasks, version {event.version}: {_held_out(event)}"
        case RoundCommitted():
            return f"round {event.round} committed: {event.decision}, version {event.version}, {_time(event.seconds)}"
        case ActorChanged() if event.state == "dead":
            return f"{event.worker}{f' on {event.node}' if event.node else ''} was lost: {event.reason}"
        case BudgetReached():
            spent = ", ".join(f"{name} {amount:.3g}" for name, amount in event.spent.items())
            return f"the budget is spent: {spent} of {event.limit:g}"
        case WaitingFor():
            return f"waiting for {event.what}: {event.missing}"
        case StoreRetried():
            what = f"storage: {event.operation} {event.uri}, attempt {event.attempt}: {event.error}"
            return f"{what}; tried again for another {_time(event.left)}" if event.left else what
        case Warned():
            return f"warning: {event.message}"
    return ""


def _held_out(event: HeldOutScored) -> str:
    gain = event.gain
    figures = [f"mean edit's gain {gain['mean']:+.3f} ±{gain['error']:.3f}"] if gain else []
    figures += [f"{name} {_measure(name, made)}" for name, made in event.arms.get("edit", {}).items() if made]
    return ", ".join([*figures, f"{event.tried} of {event.written} edits tried"])


def reached(tally: Tally, phase: Phase) -> str:
    """How far a phase came, and what failed in it."""
    count = tally.counts[phase]
    text = f": {count.done} of {count.total}" if count.done else ""
    return text + (f", {_failures(tally)}" if phase == "trials" and tally.failures else "")


def _failures(tally: Tally) -> str:
    return one_line("failed: " + ", ".join(f"{k} {n}" for k, n in tally.failures.most_common(6)))


def counts_line(tally: Tally) -> str:
    """All phases that have begun, in one line."""
    parts = []
    for name in PHASES:
        count = tally.counts[name]
        if count.done:
            pace = _pace(count)
            parts.append(f"{name} {count.done}/{count.total}" + (f" ({pace})" if pace else ""))
    parts += [f"{name} {value}" for name, value in means(tally)]
    if tally.failures:
        parts.append(_failures(tally))
    return " | ".join(parts) or "nothing done yet"


def means(tally: Tally) -> list[tuple[str, str]]:
    """Base, context alone, mean edit, kept edit: the round's rewards once they are there, else running means."""
    shown = []
    for arm, title in TITLES.items():
        made = tally.arms.get(arm) or {}
        texts = [_measure(m, made[m]) for m in ("accuracy", "likelihood") if made.get(m)]
        running = tally.likelihood.get(arm)
        if not texts and running and running.value is not None:
            texts = [f"{running.value:.3f}"]
        if texts:
            shown.append((title, " ".join(texts)))
    return shown


def _measure(name: str, estimate: dict[str, float]) -> str:
    form = "{:.1%}" if name == "accuracy" else "{:.3f}"
    return form.format(estimate["mean"]) + "±" + form.format(estimate["error"])


def _open(count: Count) -> bool:
    return count.done < count.total


def _pace(count: Count) -> str:
    left = count.seconds_left
    if not count.rate or not _open(count):
        return ""
    return f"{count.rate:.2g}/s, {_time(left)} left"


def _time(seconds: float | None) -> str:
    if seconds is None:
        return "?"
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes}:{rest:02d}" if minutes < 60 else f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"
