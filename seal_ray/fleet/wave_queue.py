"""Cutting waves: which waiting candidates are leased together, and how long that should take.

A wave is as long as its longest member, so candidates of like step counts go together; they come from a window of
tasks, oldest first, so that a task's candidates end close to each other.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from seal_ray.records import Attempt

SLOWEST = 8.0  # a wave that takes this many times its estimate is stuck
LONG = 2.0  # a wave that takes this many times its estimate is worth doing elsewhere as well
LEARNING = 0.2  # weight of the newest wave in the running estimate
BASE_WORK = 64  # what a candidate costs however little there is to it
FIRST_WAVE = 8  # candidates in a wave while nothing is known about how long one takes


@dataclass
class QueuedAttempt:
    """A candidate on its way: what is to be tried, and what has happened to it so far."""

    attempt: Attempt
    arrived: float
    work: int
    losses: int = 0  # leases that were lost by no fault of its own
    strikes: int = 0  # times that it brought down a wave in which it was alone
    waiting: bool = False
    leases: set[int] = field(default_factory=set)  # where it is being tried right now

    @property
    def id(self) -> str:
        return self.attempt.candidate.id


def work_of(attempt: Attempt) -> int:
    """Tokens that go through the model for a candidate: trained, taught, read and written."""
    recipe = attempt.candidate.recipe
    trained = attempt.tokens * recipe.epochs * 3 if recipe else 0  # a backward costs two forwards
    if recipe and recipe.objective == "distill_on_policy":  # each epoch it answers, and the teacher reads that
        answer = recipe.answer_tokens
        trained += recipe.epochs * sum(len(e.teacher) + len(e.ids) + answer for e in attempt.examples if e.teacher)
    else:
        trained += sum(len(e.teacher) + len(e.ids) for e in attempt.examples if e.teacher)
    asked = sum(len(a.prompt_ids) + a.max_tokens + sum(map(len, a.gold_ids)) for a in attempt.asks)
    return BASE_WORK + trained + asked


class WaveDuration:
    """A running estimate of the seconds that a wave takes, by its work."""

    def __init__(self) -> None:
        self._rate: float | None = None

    def learn(self, work: int, seconds: float) -> None:
        rate = seconds / work
        self._rate = rate if self._rate is None else self._rate + LEARNING * (rate - self._rate)

    def seconds(self, work: int) -> float | None:
        return None if self._rate is None else self._rate * work

    def limit(self, work: int, deadline: float) -> float:
        """Seconds after which a wave is taken away: `deadline`, or less where waves are known to be quicker."""
        seconds = self.seconds(work)
        return deadline if seconds is None else min(deadline, max(SLOWEST * seconds, deadline / 8))


class Waiting:
    """The candidates that wait for a worker, by task in order of arrival, and those that are tried apart."""

    def __init__(self, window: int) -> None:
        self._window = window
        self._tasks: dict[str, dict[str, QueuedAttempt]] = {}
        self._apart: list[list[QueuedAttempt]] = []
        self._count = 0

    def __len__(self) -> int:
        return self._count + sum(map(len, self._apart))

    def add(self, entry: QueuedAttempt) -> None:
        self._tasks.setdefault(entry.attempt.candidate.task, {})[entry.id] = entry
        self._count += 1
        entry.waiting = True

    def add_apart(self, groups: Iterable[list[QueuedAttempt]]) -> None:
        """Groups under suspicion: each is leased by itself, and with nobody else."""
        for group in groups:
            for entry in group:
                entry.waiting = True
            if group:
                self._apart.append(group)

    def remove(self, entry: QueuedAttempt) -> None:
        entry.waiting = False
        task = self._tasks.get(entry.attempt.candidate.task, {})
        if task.pop(entry.id, None):
            self._count -= 1
            if not task:
                del self._tasks[entry.attempt.candidate.task]
            return
        for group in self._apart:
            if entry in group:
                group.remove(entry)
        self._apart = [g for g in self._apart if g]

    def cut_apart(self) -> list[QueuedAttempt]:
        wave = self._apart.pop(0) if self._apart else []
        for entry in wave:
            entry.waiting = False
        return wave

    def cut(self, size: int, now: float, patience: float, most_work: float) -> list[QueuedAttempt]:
        """The next wave of at most `size`; nothing if it would not be full and may still wait."""
        if not self._count:
            return []
        names = []
        for name in self._tasks:
            names.append(name)
            if len(names) == self._window:
                break
        pool = sorted(
            (e for name in names for e in self._tasks[name].values()), key=lambda e: (e.attempt.steps, e.arrived, e.id)
        )
        oldest = min(self._tasks[names[0]].values(), key=lambda e: e.arrived)
        wave = _like(pool, pool.index(oldest), size, most_work)
        full = len(wave) >= size or sum(e.work for e in wave) >= most_work / 2
        if not full and now - oldest.arrived < patience:
            return []
        for entry in wave:
            self.remove(entry)
        return wave


def _like(pool: list[QueuedAttempt], start: int, size: int, most_work: float) -> list[QueuedAttempt]:
    """The entries nearest in step count to the one at `start`, itself among them."""
    low = high = start
    anchor = pool[start].attempt.steps
    work = pool[start].work
    while high - low + 1 < size:
        below = pool[low - 1] if low else None
        above = pool[high + 1] if high + 1 < len(pool) else None
        options = [e for e in (below, above) if e]
        if not options:
            break
        nearest = min(options, key=lambda e: abs(e.attempt.steps - anchor))
        if work + nearest.work > most_work:
            break
        work += nearest.work
        if nearest is below:
            low -= 1
        else:
            high += 1
    return pool[low : high + 1]


def split(wave: list[QueuedAttempt]) -> list[list[QueuedAttempt]]:
    """A wave that was brought down, in up to four parts, to find who did it."""
    parts = min(4, len(wave))
    return [wave[len(wave) * i // parts : len(wave) * (i + 1) // parts] for i in range(parts)]
