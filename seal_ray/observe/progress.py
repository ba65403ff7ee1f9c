"""What a terminal shows while a run is on: bars for people, lines for log files, JSON for programs, or nothing."""

import json
from typing import Any, TextIO

from seal_ray.config import Config
from seal_ray.observe.sinks import Sink
from seal_ray.observe.tally import PHASES, Count, Tally
from seal_ray.records import Event, encode

LINE_EVERY = 15.0  # seconds between two lines of counts in a log file


def build(mode: str, config: Config, stream: TextIO) -> Sink:
    """The display for this mode; `auto` is bars on a terminal and lines elsewhere."""
    if mode == "auto":
        mode = "rich" if stream.isatty() else "plain"
    tally = Tally(edits=config.sampling.edits, repeats=config.inner.repeats, context_arm=config.inner.context_arm)
    makers: dict[str, Any] = {"rich": Bars, "plain": Lines, "json": JsonLines, "quiet": Silence}
    return makers[mode](tally, stream)


class Silence:
    """Shows nothing."""

    def __init__(self, tally: Tally, stream: TextIO) -> None: ...

    def __call__(self, event: Event) -> None: ...

    def close(self) -> None: ...


class JsonLines:
    """Every event as one line of JSON."""

    def __init__(self, tally: Tally, stream: TextIO) -> None:
        self._stream = stream

    def __call__(self, event: Event) -> None:
        self._stream.write(json.dumps(encode(event), ensure_ascii=False) + "\n")
        self._stream.flush()

    def close(self) -> None: ...


class Lines:
    """Plain lines: one for what matters, and the counts now and then. Paced by the events' own times."""

    def __init__(self, tally: Tally, stream: TextIO) -> None:
        self._tally, self._stream, self._last = tally, stream, 0.0

    def __call__(self, event: Event) -> None:
        self._tally.take(event)
        line = told(event)
        if line:
            self._say(event, line)
        elif event.kind in {"sampled", "trial", "trial_failed", "graded", "update_step", "phase_progress"}:
            if event.time - self._last >= LINE_EVERY:
                self._say(event, counts_line(self._tally))
        elif event.kind == "phase_ended":
            self._say(
                event, f"{event.data.get('phase')} took {_time(event.data.get('seconds'))}; {counts_line(self._tally)}"
            )
        elif event.kind == "rewards":
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
        if line:
            from rich.text import Text

            self._console.print(Text(one_line(line), style="yellow" if event.kind == "warning" else ""))

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
        head = f"round {tally.round} of {tally.rounds}, version {tally.version}"
        head += f", {tally.alive} workers" if tally.workers else ""
        parts: list[Any] = [Text(head, style="bold"), bars]
        if tally.waiting:
            parts.append(Text(f"waiting for {tally.waiting}", style="yellow"))
        shown = means(tally)
        if shown:
            parts.append(Text("   ".join(f"{name} {value}" for name, value in shown)))
        if tally.failures:
            parts.append(
                Text("failed: " + ", ".join(f"{k} {n}" for k, n in tally.failures.most_common(6)), style="red")
            )
        return Group(*parts)


# what is said


def told(event: Event) -> str:
    """The line for an event that is worth one of its own; empty for the rest."""
    data = event.data
    match event.kind:
        case "run_started":
            how = "goes on" if data.get("resumed") else "begins"
            return f"run {data.get('uri')} {how}: {data.get('rounds')} rounds, seed {data.get('seed')}"
        case "run_ended":
            reason = f" ({data['reason']})" if data.get("reason") else ""
            return f"run ended: {data.get('outcome')}{reason} after {_time(data.get('seconds'))}"
        case "round_started":
            return f"round {event.round}: {data.get('tasks')} tasks, version {data.get('version')}"
        case "round_resumed":
            return (
                f"round {event.round} goes on with {data.get('edits')} edits, "
                f"{data.get('trials')} trials, {data.get('verdicts')} verdicts"
            )
        case "selected":
            return f"round {event.round}: {data.get('choices')} edits kept, {data.get('abstained')} tasks without one"
        case "gate":
            return f"gate: {data.get('decision')} {'; '.join(map(str, data.get('reasons') or []))}".rstrip()
        case "round_committed":
            return f"round {event.round} committed: version {data.get('version')}, {_time(data.get('seconds'))}"
        case "worker" if data.get("state") in {"gone", "dead", "lost", "left", "quarantined"}:
            return f"worker {data.get('worker')} on {data.get('node')}: {data.get('state')} {data.get('reason') or ''}"
        case "waiting":
            return f"waiting for {data.get('for', data.get('what', ''))}: {data.get('missing', '')}"
        case "storage":
            what = f"{data.get('operation')} {data.get('uri')}"
            return f"storage: {what}, attempt {data.get('attempt')}: {data.get('error')}"
        case "warning":
            return f"warning: {data.get('message')}"
    return ""


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
        parts.append("failed: " + ", ".join(f"{k} {n}" for k, n in tally.failures.most_common(6)))
    return " | ".join(parts) or "nothing done yet"


def means(tally: Tally) -> list[tuple[str, str]]:
    """Base, context alone, mean edit, kept edit: the round's rewards once they are there, else running means."""
    names = {"base": "base", "context": "context alone", "edit": "mean edit", "kept": "kept edit"}
    found = []
    for arm, name in names.items():
        got = tally.arms.get(arm) or {}
        texts = (
            [_measure(m, got[m]) for m in ("accuracy", "likelihood") if got.get(m)] if tally.kept is not None else []
        )
        running = tally.likelihood.get(name)
        if not texts and running and running.value is not None:
            texts = [f"{running.value:.3f}"]
        if texts:
            found.append((name, " ".join(texts)))
    return found


def _measure(name: str, estimate: dict[str, float]) -> str:
    form = "{:.1%}" if name == "accuracy" else "{:.3f}"
    return form.format(estimate["mean"]) + "±" + form.format(estimate["error"])


def one_line(text: str, limit: int = 400) -> str:
    """A text that can't break a log: no control characters, no endless lines."""
    clean = "".join(c if c.isprintable() else " " for c in text)
    return clean if len(clean) <= limit else clean[: limit - 1] + "…"


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
