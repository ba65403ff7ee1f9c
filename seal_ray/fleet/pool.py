"""The pool: candidates go in, trials come out, whatever happens to the workers in between.

It is driven by `poll` alone and has no thread: the caller's loop does other things between calls. Workers are reached
through `Actors`, which a simulation can play. A candidate may be tried twice; the first record of it counts.
"""

import itertools
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from seal_ray.config import PlacementSection
from seal_ray.errors import ConfigError, SealError
from seal_ray.events import Sink, TrialAgain, WaveDone
from seal_ray.fleet.actor_group import ActorGroup, Share
from seal_ray.fleet.actors import Actors
from seal_ray.fleet.members import Member, WaveOutcome
from seal_ray.fleet.wave_messages import NOBODYS, Cause, WaveLease
from seal_ray.fleet.wave_queue import FIRST_WAVE, LONG, QueuedAttempt, Waiting, WaveDuration, split, work_of
from seal_ray.records import Attempt, Failure, Trial, Version

WAVE = 32  # candidates in a lease where the configuration leaves it open
WAVE_SECONDS = 60.0  # a lease should not take longer: what is lost with a worker stays small
STRIKES = 2  # times that a candidate alone may bring down its wave
SHORT = 2.0  # seconds; a wave is not done twice before it has taken that long
NAP = 0.1  # seconds between looks at the clock while nothing comes in


@dataclass
class Running:
    """A lease that is out, and what it holds."""

    id: int
    entries: list[QueuedAttempt]
    began: float
    work: int
    version: str
    apart: bool
    copied: bool = False  # leased to another worker as well


class Pool:
    """Leases waves of candidates to workers that come and go."""

    def __init__(
        self,
        actors: Actors,
        section: PlacementSection,
        sink: Sink,
        clock: Callable[[], float] = time.monotonic,
        *,
        wave: int = 0,
        most: int = 0,
        share: Share = lambda adapter, _: adapter,
    ) -> None:
        self._section, self._sink, self._clock = section, sink, clock
        self._wave = wave or WAVE
        most = section.max_workers or most
        self._group = ActorGroup(
            "worker", actors, section, sink, clock, least=section.min_workers, most=most, share=share
        )
        self._entries: dict[str, QueuedAttempt] = {}
        self._waiting = Waiting(section.window)
        self._running: dict[int, Running] = {}
        self._estimate = WaveDuration()
        self._answered: dict[tuple[str, str], int] = {}  # member, version -> its longest answers so far, in tokens
        self._out: list[Trial] = []
        self._flushed = False
        self._expected = 0
        self._stopped: SealError | None = None
        self._leases = itertools.count(1)

    # what the driver calls

    def version(self, version: Version, adapter_dir: str | None = None) -> None:
        """Try what comes with this version; workers load it before their next wave."""
        self._group.version(version, adapter_dir)

    def submit(self, attempts: Iterable[Attempt]) -> None:
        now = self._clock()
        for attempt in attempts:
            if attempt.candidate.id not in self._entries:
                entry = QueuedAttempt(attempt, now, work_of(attempt))
                self._entries[entry.id] = entry
                self._waiting.add(entry)
                self._flushed = False

    def expect(self, count: int) -> None:
        """So many candidates are still to come or to be tried: workers are started for them before they are there."""
        self._expected = count

    def flush(self) -> None:
        """Nothing more is coming for now: waves that are not full need not wait."""
        self._flushed = True
        self._expected = 0

    def pending(self) -> int:
        """Candidates without a trial."""
        return len(self._entries)

    def room(self) -> int:
        """How many more candidates it wants, so that workers never wait and little is held in memory."""
        return max(0, 2 * self._wave * max(1, self._group.alive()) - len(self._waiting))

    def poll(self, timeout: float) -> list[Trial]:
        """The trials that have come in; waits for the first of them up to `timeout` seconds.

        Raises where it can't go on, once everything that was found has been handed out.
        """
        if self._group.current is None:
            raise ConfigError("the pool was not told which version to try with", hint="call version first")
        until = self._clock() + timeout
        while True:
            self._assign()
            left = until - self._clock()
            try:
                self._group.advance(max(0.0, min(left, NAP)), needed=self._needed())
            except SealError as error:
                self._stopped = error
            for outcome in self._group.outcomes():
                self._on_outcome(outcome)
            if self._stopped and not self._out:
                raise self._stopped
            if self._out or left <= 0:
                if not self._stopped:
                    self._assign()
                out, self._out = self._out, []
                return out

    def close(self) -> None:
        """Let all workers go. Candidates that are still pending are forgotten."""
        self._group.close()
        self._entries.clear()
        self._expected = 0
        self._running.clear()
        self._waiting = Waiting(self._section.window)

    # leasing

    def _needed(self) -> int:
        """For how many workers there is work: small waves on many of them end sooner than full ones on few."""
        return -(-max(len(self._entries), self._expected) // min(self._wave, FIRST_WAVE))

    def _assign(self) -> None:
        now = self._clock()
        idle = self._group.idle()
        while idle:
            wave, apart = self._next_wave(now)
            if not wave:
                break
            self._lease(idle.pop(), wave, apart)
        for member in idle:
            late = self._straggler(now)
            if late is None:
                break
            late.copied = True
            self._lease(member, [e for e in late.entries if e.id in self._entries], apart=False, copied=True)

    def _next_wave(self, now: float) -> tuple[list[QueuedAttempt], bool]:
        """Those under suspicion by themselves, on at most half of the workers; else the next wave of the window."""
        apart = sum(r.apart for r in self._running.values())
        if apart < max(1, self._group.alive() // 2) and (wave := self._waiting.cut_apart()):
            return wave, True
        size = self._wave
        if self._flushed:  # towards the end waves shrink, so that all workers end together
            size = max(1, min(size, -(-len(self._waiting) // max(1, self._group.alive()))))
        rate = self._estimate.seconds(1)
        if rate is None:
            size = min(size, FIRST_WAVE)
        seconds = min(WAVE_SECONDS, self._section.candidate_deadline / 3)
        most_work = seconds / rate if rate else float("inf")
        return self._waiting.cut(size, now, 0.0 if self._flushed else self._section.wave_wait, most_work), False

    def _lease(self, member: Member, wave: list[QueuedAttempt], apart: bool, copied: bool = False) -> None:
        assert self._group.current is not None
        work = sum(e.work for e in wave)
        version = self._group.current.digest
        running = Running(next(self._leases), wave, self._clock(), work, version, apart, copied)
        for entry in wave:
            entry.leases.add(running.id)
        self._running[running.id] = running
        lease = WaveLease(running.id, version, tuple(e.attempt for e in wave))
        limit = self._section.candidate_deadline  # an engine may have to start first, which no estimate knows of
        if _longest(wave) <= self._answered.get((member.name, version), -1):
            limit = self._estimate.limit(work, limit)
        self._group.give(member, running.id, limit, "try_wave", lease)

    def _straggler(self, now: float) -> Running | None:
        """A lease that is overdue while others have nothing to do: it is leased again, and the first to end counts."""
        late = [
            r
            for r in self._running.values()
            if not r.copied
            and not r.apart
            and (expected := self._estimate.seconds(r.work)) is not None
            and now - r.began > max(SHORT, LONG * expected)
            and any(e.id in self._entries for e in r.entries)
        ]
        return min(late, key=lambda r: r.began) if late else None

    # what came back

    def _on_outcome(self, outcome: WaveOutcome) -> None:
        running = self._running.pop(outcome.work)
        for entry in running.entries:
            entry.leases.discard(running.id)
        if outcome.cause:
            self._give_back(running, outcome.cause, f"{outcome.member}: {outcome.reason}")
            return
        self._tell_wave(running, outcome)
        who = outcome.member, running.version
        self._answered[who] = max(_longest(running.entries), self._answered.get(who, -1))
        self._estimate.learn(sum(e.work for e in running.entries), outcome.seconds)
        self._deliver(outcome.member, outcome.value)
        for entry in running.entries:
            if self._loose(entry):
                self._again(entry, f"{outcome.member} returned no trial for it")

    def _deliver(self, worker: str, trials: Iterable[Trial]) -> None:
        """Hand trials out, once for each candidate; failures that may pass elsewhere are tried again."""
        for trial in trials:
            entry = self._entries.get(trial.candidate)
            if entry is None:
                self._sink(TrialAgain(trial.candidate, worker))
            elif trial.failure and trial.failure.kind == "out_of_memory":
                self._strike(entry, "out_of_memory", trial.failure.message)
            elif trial.failure and trial.failure.blame == "infra":
                self._again(entry, trial.failure.message)
            else:
                self._done(entry, trial)

    def _give_back(self, running: Running, cause: Cause, reason: str) -> None:
        """A lease was lost: by nobody's fault, or brought down by one of its candidates, which must then be found."""
        loose = [e for e in running.entries if self._loose(e)]
        if cause in NOBODYS:
            for entry in loose:
                self._again(entry, reason)
        elif len(running.entries) > 1:
            self._waiting.add_apart(split(loose))
        elif loose:
            self._strike(loose[0], cause, reason)

    def _loose(self, entry: QueuedAttempt) -> bool:
        """Neither done, nor waiting, nor being tried elsewhere."""
        return entry.id in self._entries and not entry.waiting and not entry.leases

    def _again(self, entry: QueuedAttempt, reason: str) -> None:
        """Try it elsewhere: this was not its own fault."""
        entry.losses += 1
        if entry.losses > self._section.candidate_retries:
            self._fail(entry, Failure("lost", f"lost {entry.losses} times, the last time because: {reason}", "infra"))
        elif self._loose(entry):
            self._waiting.add(entry)

    def _strike(self, entry: QueuedAttempt, cause: Cause, reason: str) -> None:
        """Alone, it brought down its wave. The second time it is told so."""
        entry.strikes += 1
        if entry.strikes >= STRIKES or cause == "error":
            message = f"tried {entry.strikes} times by itself, the last time: {reason}"
            self._fail(entry, Failure("lost", message, "infra") if cause == "infra" else Failure(cause, message))
        elif self._loose(entry):
            self._waiting.add_apart([[entry]])

    def _fail(self, entry: QueuedAttempt, failure: Failure) -> None:
        candidate = entry.attempt.candidate
        self._done(entry, Trial(candidate.id, candidate.task, failure=failure))

    def _done(self, entry: QueuedAttempt, trial: Trial) -> None:
        del self._entries[entry.id]
        self._expected = max(0, self._expected - 1)
        if entry.waiting:
            self._waiting.remove(entry)
        self._out.append(trial)

    def _tell_wave(self, running: Running, outcome: WaveOutcome) -> None:
        member = self._group.members.get(outcome.member)
        alive = self._clock() - member.born if member else 0.0
        self._sink(
            WaveDone(
                lease=running.id,
                worker=outcome.member,
                node=member.node if member else "",
                candidates=len(running.entries),
                steps=max(e.attempt.steps for e in running.entries),
                started=round(time.time() - outcome.seconds, 3),
                seconds=round(outcome.seconds, 3),
                occupied=round(member.busy / alive, 4) if member and alive > 0 else 0.0,
            )
        )


def _longest(entries: Iterable[QueuedAttempt]) -> int:
    """Tokens that an answer of theirs may have: from how many an engine gives it, the workers know."""
    return max((ask.max_tokens for entry in entries for ask in entry.attempt.asks), default=0)
