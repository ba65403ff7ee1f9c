"""The state of a run as its events tell it: counts, means and who is alive. Every display is made from this."""

from collections import Counter
from dataclasses import dataclass, field

from seal_ray.events import (
    ASIDE,
    ActorChanged,
    EditsDropped,
    EditsSampled,
    EditsSelected,
    Event,
    Graded,
    LeaseChanged,
    Phase,
    PhaseEnded,
    PhaseStarted,
    ProbeAsked,
    RepeatsAsked,
    RewardsMade,
    RoundResumed,
    RoundStarted,
    RunStarted,
    TrialDone,
    TrialFailed,
    UpdateStep,
    WaitingFor,
)
from seal_ray.observe.arms import OF_KIND
from seal_ray.records import Json

PHASES = ("probe", "sampling", "trials", "grading", "update", "gate", "evaluation")
OF_A_ROUND = (EditsSampled, TrialDone, TrialFailed, Graded, RoundResumed)  # or of its gate
# whatever was missing is there
PROGRESS = (RunStarted, LeaseChanged, EditsSampled, TrialDone, UpdateStep, PhaseEnded)


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
    round: int = 0
    rounds: int = 0
    version: int = 0
    tasks: int = 0
    began: float = 0.0
    counts: dict[str, Count] = field(default_factory=lambda: {p: Count() for p in PHASES})
    failures: Counter[str] = field(default_factory=Counter)
    likelihood: dict[str, Mean] = field(default_factory=lambda: {arm: Mean() for arm in OF_KIND.values()})
    arms: dict[str, Json] = field(default_factory=dict)  # from the round's rewards
    workers: dict[str, str] = field(default_factory=dict)  # their states
    waiting: str = ""
    aside: Phase | None = None  # what comes in belongs to this phase and not to the round's own trials

    @property
    def alive(self) -> int:
        return sum(state not in {"dead", "released"} for state in self.workers.values())

    @property
    def queue(self) -> int:
        """Candidates that are known and have no trial yet; none before trials begin, when nobody has to be there."""
        trials = self.counts["trials"]
        return max(0, trials.total - trials.done) if trials.began else 0

    def take(self, event: Event) -> None:
        if isinstance(event, PROGRESS):
            self.waiting = ""
        if self.aside and self._of_aside(event, self.aside):
            return
        match event:
            case RunStarted():
                self.rounds, self.began, self.workers = event.rounds, event.time, {}
            case RoundStarted():
                self._begin_round(event)
            case RoundResumed():
                self.counts["sampling"].done, self.counts["trials"].done = event.edits, event.trials
                self.counts["grading"].done = event.trials
            case PhaseStarted():
                count = self.counts[event.phase]
                count.begin(event.time)
                if event.phase == "trials" and event.total:  # what was tried is graded
                    grading = self.counts["grading"]
                    grading.total = max(grading.done, grading.total + event.total - count.total)
                count.total = event.total or count.total
                self.aside = event.phase if event.phase in ASIDE else None
            case PhaseEnded():
                count = self.counts[event.phase]
                count.done = count.total = max(count.done, count.total)
                self.aside = None if event.phase == self.aside else self.aside
            case ActorChanged() if event.role == "worker":
                self.workers[event.worker] = event.state
            case WaitingFor():
                self.waiting = f"{event.what}: {event.missing}"
            case _:
                self._count(event)

    def _of_aside(self, event: Event, phase: Phase) -> bool:
        if isinstance(event, (TrialDone, TrialFailed)):
            self.counts[phase].step(event.time)
        own = isinstance(event, (PhaseStarted, PhaseEnded)) and event.phase in {"sampling", "trials", "grading"}
        return own or isinstance(event, OF_A_ROUND)

    def _begin_round(self, event: RoundStarted) -> None:
        self.round, self.version, self.tasks, self.edits = event.round, event.version, event.tasks, event.edits
        self.counts = {p: Count() for p in PHASES}
        self.aside = None
        self.failures = Counter()
        self.likelihood = {arm: Mean() for arm in OF_KIND.values()}
        self.arms = {}
        self.counts["sampling"].total = self.tasks * self.edits
        per_task = 1 + self.repeats * (self.context_arm + self.edits)
        self.counts["trials"].total = self.counts["grading"].total = self.tasks * per_task

    def _count(self, event: Event) -> None:
        """What comes in, and what is made of it."""
        sampling, trials, grading = (self.counts[p] for p in ("sampling", "trials", "grading"))
        match event:
            case EditsSampled():
                sampling.step(event.time, event.edits)
                for count in (trials, grading):  # an edit that failed is not tried
                    count.total = max(0, count.total - event.failed * self.repeats)
                if event.failed:
                    self.failures["edit"] += event.failed
            case TrialDone():
                trials.step(event.time)
                if event.likelihood is not None:
                    self.likelihood[OF_KIND[event.arm]].add(event.likelihood)
            case TrialFailed():
                trials.step(event.time)
                grading.total = max(0, grading.total - 1)
                self.failures[event.failure] += 1
            case RepeatsAsked():
                trials.total += event.edits * event.repeats
                grading.total += event.edits * event.repeats
            case EditsDropped():
                heats = event.kept + event.dropped if event.stage == "heat" else 0
                for count in (trials, grading):  # those that are gone are not tried, and heats were not counted
                    count.total = max(count.done, count.total + heats - event.dropped * self.repeats)
            case Graded():
                grading.step(event.time)
                if event.failed:
                    self.failures["grading"] += event.failed
            case RewardsMade():
                self.arms = dict(event.arms)
            case EditsSelected():
                if event.kept:
                    self.arms["kept"] = event.kept
            case ProbeAsked():
                count = self.counts["probe"]
                count.begin(event.time)
                count.done, count.total, count.last = event.done, event.total, event.time
            case UpdateStep():
                count = self.counts["update"]
                count.begin(event.time)
                count.done, count.total, count.last = event.step, event.steps, event.time
