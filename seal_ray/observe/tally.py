"""The state of a run as its events tell it: counts, means and who is alive. Every display is made from this."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from seal_ray.records import Event, Json

PHASES = ("sampling", "trials", "grading", "update", "gate")
ARMS = {"baseline": "base", "context": "context alone", "edit": "mean edit"}

GATED = {"sampled", "trial", "trial_failed", "graded", "round_resumed"}
PROGRESS = {"sampled", "trial", "update_step", "phase_ended"}  # whatever was missing is there


@dataclass
class Count:
    """How far a phase is. `total` 0: not known yet."""

    done: int = 0
    total: int = 0
    began: float = 0.0
    last: float = 0.0
    first: int = 0  # what was already there when it began: it says nothing about the rate

    def step(self, time: float, by: int = 1) -> None:
        self.begin(time)
        self.done += by
        self.last = time

    def begin(self, time: float) -> None:
        if not self.began:
            self.began, self.last, self.first = time, time, self.done

    @property
    def rate(self) -> float:
        """Per second, over this sitting."""
        seconds = self.last - self.began
        return (self.done - self.first) / seconds if seconds > 0 else 0.0

    @property
    def seconds_left(self) -> float | None:
        return (self.total - self.done) / self.rate if self.rate and self.total > self.done else None


@dataclass
class Mean:
    """A running mean."""

    total: float = 0.0
    count: int = 0

    def add(self, value: float) -> None:
        self.total += value
        self.count += 1

    @property
    def value(self) -> float | None:
        return self.total / self.count if self.count else None


@dataclass
class Tally:
    """What is known of the round that is on, and of the run. Feed it every event, in order."""

    edits: int = 0  # per task
    repeats: int = 1
    context_arm: bool = True
    uri: str = ""
    round: int = 0
    rounds: int = 0
    version: Json = None
    tasks: int = 0
    phase: str = ""
    began: float = 0.0
    counts: dict[str, Count] = field(default_factory=lambda: {p: Count() for p in PHASES})
    failures: Counter[str] = field(default_factory=Counter)
    likelihood: dict[str, Mean] = field(default_factory=lambda: {a: Mean() for a in ARMS.values()})
    seconds: Mean = field(default_factory=Mean)  # of a trial
    arms: dict[str, Any] = field(default_factory=dict)  # from the last round's rewards
    reliability: Json = None
    kept: int | None = None
    workers: dict[str, str] = field(default_factory=dict)
    waiting: str = ""
    loss: float | None = None
    gating: bool = False  # what comes in belongs to the gate's comparison and not to the round's own trials
    decision: str = ""
    warning: str = ""

    @property
    def alive(self) -> int:
        return sum(state not in {"gone", "dead", "lost", "left"} for state in self.workers.values())

    @property
    def queue(self) -> int:
        """Candidates that are known and have no trial yet."""
        trials = self.counts["trials"]
        return max(0, trials.total - trials.done)

    def take(self, event: Event) -> None:
        if event.kind in PROGRESS:
            self.waiting = ""
        if self.gating and self._of_gate(event):
            return
        act = getattr(self, f"_on_{event.kind}", None)
        if act:
            act(event, event.data)

    def _of_gate(self, event: Event) -> bool:
        if event.kind in {"trial", "trial_failed"}:
            self.counts["gate"].step(event.time)
        return event.kind in GATED or event.data.get("phase") in {"sampling", "trials", "grading"}

    # the run and its rounds

    def _on_run_started(self, event: Event, data: Any) -> None:
        self.uri, self.rounds = str(data.get("uri", "")), int(data.get("rounds") or 0)
        self.began = event.time
        self.workers = {}

    def _on_round_started(self, event: Event, data: Any) -> None:
        self.round, self.version = event.round, data.get("version")
        self.tasks = _count(data.get("tasks"))
        self.edits = int(data.get("edits") or self.edits)
        self.counts = {p: Count() for p in PHASES}
        self.gating = False
        self.failures = Counter()
        self.likelihood = {a: Mean() for a in ARMS.values()}
        self.seconds, self.kept, self.loss, self.decision = Mean(), None, None, ""
        self.counts["sampling"].total = self.tasks * self.edits
        per_task = 1 + self.repeats * (self.context_arm + self.edits)
        self.counts["trials"].total = self.counts["grading"].total = self.tasks * per_task

    def _on_round_resumed(self, event: Event, data: Any) -> None:
        sampling, trials, grading = (self.counts[p] for p in ("sampling", "trials", "grading"))
        sampling.done, trials.done = _count(data.get("edits")), _count(data.get("trials"))
        grading.done = _count(data.get("graded", data.get("trials")))

    def _on_phase_started(self, event: Event, data: Any) -> None:
        self.phase = str(data.get("phase", ""))
        if self.phase in self.counts:
            self.counts[self.phase].begin(event.time)
            self.counts[self.phase].total = _count(data.get("total")) or self.counts[self.phase].total
        self.gating = self.phase == "gate"

    def _on_phase_progress(self, event: Event, data: Any) -> None:
        count = self.counts.get(str(data.get("phase")))
        if count:
            count.begin(event.time)
            count.done, count.last = _count(data.get("done")), event.time
            count.total = _count(data.get("total")) or count.total

    def _on_phase_ended(self, event: Event, data: Any) -> None:
        count = self.counts.get(str(data.get("phase")))
        if count:
            count.done = count.total = max(count.done, count.total)
        self.gating = self.gating and data.get("phase") != "gate"

    # what comes in

    def _on_sampled(self, event: Event, data: Any) -> None:
        edits, failed = _count(data.get("edits")), _count(data.get("failed"))
        self.counts["sampling"].step(event.time, edits)
        for name in ("trials", "grading"):  # an edit that failed is not tried
            self.counts[name].total = max(0, self.counts[name].total - failed * self.repeats)
        if failed:
            self.failures["edit"] += failed

    def _on_trial(self, event: Event, data: Any) -> None:
        self.counts["trials"].step(event.time)
        self.seconds.add(float(data.get("seconds") or 0))
        arm = ARMS.get(str(data.get("kind")))
        if arm and data.get("likelihood") is not None:
            self.likelihood[arm].add(float(data["likelihood"]))

    def _on_trial_failed(self, event: Event, data: Any) -> None:
        self.counts["trials"].step(event.time)
        self.counts["grading"].total = max(0, self.counts["grading"].total - 1)
        self.failures[str(data.get("kind", data.get("failure", "unknown")))] += 1

    def _on_repeats(self, event: Event, data: Any) -> None:
        more = _count(data.get("edits")) * int(data.get("repeats") or 0)
        self.counts["trials"].total += more
        self.counts["grading"].total += more

    def _on_graded(self, event: Event, data: Any) -> None:
        self.counts["grading"].step(event.time)
        if data.get("failed"):
            self.failures["grading"] += _count(data["failed"])

    def _on_worker(self, event: Event, data: Any) -> None:
        self.workers[str(data.get("worker"))] = str(data.get("state", ""))

    def _on_waiting(self, event: Event, data: Any) -> None:
        self.waiting = f"{data.get('for', data.get('what', ''))}: {data.get('missing', '')}".strip(": ")

    # what is made of it

    def _on_rewards(self, event: Event, data: Any) -> None:
        self.arms, self.reliability = dict(data.get("arms") or {}), data.get("reliability")

    def _on_selected(self, event: Event, data: Any) -> None:
        self.kept = _count(data.get("choices"))
        if data.get("kept"):
            self.arms["kept"] = data["kept"]

    def _on_update_step(self, event: Event, data: Any) -> None:
        count = self.counts["update"]
        count.begin(event.time)
        count.done, count.total, count.last = int(data.get("step") or 0), int(data.get("steps") or 0), event.time
        self.loss = data.get("loss")

    def _on_gate(self, event: Event, data: Any) -> None:
        self.decision = str(data.get("decision", ""))

    def _on_warning(self, event: Event, data: Any) -> None:
        self.warning = str(data.get("message", ""))


def _count(value: Json) -> int:
    """A count that is told as a number or as the things themselves."""
    return len(value) if isinstance(value, (list, dict)) else int(value or 0)
