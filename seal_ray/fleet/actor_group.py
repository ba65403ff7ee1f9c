"""The actors of one role as they come and go: started, given a version, watched, let go; and the jobs they were given.

The pool and the samplers both stand on this. It is driven by `advance` and has no thread. Every job that was given out
comes back exactly once as a `WaveOutcome`.
"""

import math
import time
from collections.abc import Callable
from typing import Any

from seal_ray.config import PlacementSection
from seal_ray.errors import ConfigError, DataError, InfraError, PlacementError, SealError
from seal_ray.events import ActorChanged, RoleName, Sink, WaitingFor, Warned
from seal_ray.fleet import actor_health
from seal_ray.fleet.actor_health import Health, Sign
from seal_ray.fleet.actors import ActorReply, Actors
from seal_ray.fleet.members import Job, Member, WaveOutcome, say
from seal_ray.fleet.wave_messages import Cause, Lost, OutOfMemory
from seal_ray.models.shared import FETCH_SECONDS
from seal_ray.records import Version

LAST_WORDS = 5.0  # seconds that a stuck actor gets to tell its stacks before it is killed
SCALE_EVERY = 2.0  # seconds between looks at what the cluster has
IDLE_SECONDS = 60.0  # an actor without work for so long, and beyond the least, goes
Share = Callable[[str | None, Version], Any]  # a version's files on this machine as every node can have them
START_FAILURES = 3  # actors in a row that may fail to start before the run stops


class ActorGroup:
    """The members of one role. `least` and `most`: how many there must and may be (most 0: as many as fit)."""

    def __init__(
        self,
        role: RoleName,
        actors: Actors,
        section: PlacementSection,
        sink: Sink,
        clock: Callable[[], float] = time.monotonic,
        *,
        least: int,
        most: int,
        share: Share,
    ) -> None:
        self.role: RoleName = role
        self.least, self.most = least, most
        self._actors, self._section, self._sink, self._clock, self._share = actors, section, sink, clock, share
        self.members: dict[str, Member] = {}
        self._tickets: dict[int, tuple[str, str]] = {}  # ticket -> member, what was asked
        self._outcomes: list[WaveOutcome] = []
        self.current: Version | None = None
        self._adapter: Any = None
        self._count = 0
        self._scaled = self._ticked = -math.inf
        self._startable = 0  # how many the cluster would let us start
        self._enough = clock()  # when there were last enough members
        self._told_waiting = False
        self._start_failures = 0
        self._last_reason = ""

    # what the pool and the samplers call

    def version(self, version: Version, adapter_dir: str | None) -> None:
        """All members work with this version from their next job on."""
        if self.current is not None and version.digest == self.current.digest:
            return
        self.current, self._adapter = version, self._share(adapter_dir, version)
        self._enough = self._clock()
        for member in self.members.values():
            if member.health.alive and member.job is None:
                self._load(member)
        self._scale(self._clock(), self.least)

    def idle(self) -> list[Member]:
        return [m for m in self.members.values() if m.idle and self.current and m.version == self.current.digest]

    def alive(self) -> int:
        return sum(m.health.alive and m.health.state != "leaving" for m in self.members.values())

    def give(self, member: Member, work: Any, limit: float, method: str, *args: Any) -> None:
        """Begin a job on an idle member; after `limit` seconds it is taken away."""
        self._call(member, "job", method, *args)
        member.job = Job(work, self._clock(), limit)

    def advance(self, timeout: float, *, needed: int) -> None:
        """Look after everybody, and wait for something to happen for up to `timeout` seconds.

        `needed`: for how many there is work. So many are asked for, and without the least it is waited only so long.
        """
        now = self._clock()
        if now - self._ticked >= min(0.1, self._section.heartbeat / 4):
            self._tick(now, needed)
        if not self._outcomes:
            self._take(timeout)

    def outcomes(self) -> list[WaveOutcome]:
        """The jobs that have ended since this was last asked."""
        ended, self._outcomes = self._outcomes, []
        return ended

    def close(self) -> None:
        for member in list(self.members.values()):
            if member.health.alive:
                self._let_go(member)
        self.members.clear()
        self._tickets.clear()
        self._outcomes.clear()

    # looking after members

    def _tick(self, now: float, needed: int) -> None:
        self._ticked = now
        self._take(0)  # what has come in while the driver was busy is no silence
        for member in [m for m in self.members.values() if m.health.alive]:
            self._watch(member, now)
        if now - self._scaled >= SCALE_EVERY:
            for name, reason in self._actors.leaving().items():
                member = self.members.get(name)
                if member and member.health.alive:
                    self._change(member, actor_health.leave(member.health, now, reason))
            self._scale(now, needed)
        self._check_enough(now, needed > 0)

    def _watch(self, member: Member, now: float) -> None:
        """Ask for a sign of life, and see whether what was asked or given is overdue."""
        beat = self._section.heartbeat
        if member.condemned:
            when, cause, reason = member.condemned
            if now >= when:
                self._end(member, cause, reason)
            return
        if member.ping is None and now - member.pinged >= beat:
            member.pinged = now
            member.ping = (self._call(member, "ping", "ping"), now)
        elif member.ping is not None:
            self._change(member, actor_health.silent(member.health, now, member.ping[1], beat))
            if not member.health.alive:
                self._end(member, "unreachable", member.health.reason)
                return
        if member.job and now - member.job.began > member.job.limit:
            self._condemn(member, "deadline", f"took longer than {member.job.limit:.1f} s")
        elif member.fetching is not None and now - member.fetching > FETCH_SECONDS:
            self._condemn(member, "infra", f"fetched for {FETCH_SECONDS:g} s what it is to load")
        elif member.health.state == "starting" and now - member.health.since > self._section.deadline:
            self._condemn(member, "infra", f"did not start within {self._section.deadline:g} s")
        elif self._is_stuck(member, now):
            self._condemn(member, "infra", "answers, but does not end what was given up")
        elif member.health.state == "leaving" and member.job is None:
            if member.spare:
                self._let_go(member)
            else:
                self._remove(member, member.health.reason)
        elif member.idle and self.current and member.version != self.current.digest:
            self._load(member)

    def _is_stuck(self, member: Member, now: float) -> bool:
        """Whether a suspect goes on for too long with a job that was taken from it: no limit of that job counts."""
        health = member.health
        return health.state == "suspect" and not member.job and now - health.since > self._section.candidate_deadline

    def _condemn(self, member: Member, cause: Cause, reason: str) -> None:
        """It is stuck: hear where, then kill it."""
        member.condemned = (self._clock() + LAST_WORDS, cause, reason)
        self._call(member, "stacks", "stacks")

    def _scale(self, now: float, needed: int) -> None:
        """Ask for as many as there is work for, start those that the cluster grants, and let go of those too many."""
        self._scaled = now
        if self.current is None:
            return
        wanted = max(self.least, min(needed, self.most) if self.most else needed) if needed else 0
        here = self.alive()
        leaving = sum(m.health.state == "leaving" for m in self.members.values())
        too_many = self._actors.too_many()  # of all that hold a place, as those that leave still do
        fair = max(self.least, here + leaving - too_many) if too_many else math.inf
        self._startable = self._actors.want(int(min(max(wanted, here), fair)) + leaving)
        for _ in range(min(self._startable, wanted - here)):
            self._start(now)
        self._let_spare_go(now, fair, max(self.least, needed))

    def _start(self, now: float) -> None:
        self._count += 1
        name = f"{self.role}-{self._count}"
        member = Member(name, now, actor_health.begin(now))
        self.members[name] = member
        self._actors.start(name)
        self._tell_member(member)
        self._load(member)

    def _let_spare_go(self, now: float, fair: float, needed: int) -> None:
        """Those above a fair share end what they do and go; those that have long been idle go."""
        members = [m for m in self.members.values() if m.health.alive and m.health.state != "leaving"]
        members.sort(key=lambda m: (m.job is not None, -m.born))
        count = len(members)
        for member in members:
            if count > fair:
                reason = "gives its place to another run"
            elif count > needed and member.idle and now - member.free_since > IDLE_SECONDS:
                reason = "there is no work for it"
            else:
                continue
            count -= 1
            member.spare = True
            self._change(member, actor_health.leave(member.health, now, reason))

    def _load(self, member: Member) -> None:
        assert self.current is not None
        self._change(member, actor_health.reload(member.health, self._clock()))
        member.loading = self._call(member, "load", "load_version", self.current, self._adapter)

    def _check_enough(self, now: float, needed: bool) -> None:
        there = sum(m.health.counts for m in self.members.values())
        if there >= self.least or not needed:
            self._enough, self._told_waiting = now, False
            return
        grace = self._section.worker_grace
        if not self._told_waiting:
            self._told_waiting = True
            self._sink(WaitingFor(f"{self.role}s", f"{there} of at least {self.least}", round(grace, 1)))
        if now - self._enough < grace:
            return
        short = f"{there} {self.role}s for {now - self._enough:.0f} s, and at least {self.least} are needed"
        if self._startable == 0:
            raise PlacementError(
                f"{short}: the cluster has no room for {self._actors.missing()}",
                hint="everything found is kept; add nodes and go on with the same command",
            )
        raise InfraError(
            f"{short}; the last one was lost because: {self._last_reason or 'unknown'}",
            hint="everything found is kept; the same command goes on with it",
        )

    # what came back

    def _call(self, member: Member, what: str, method: str, *args: Any) -> int:
        ticket = self._actors.call(member.name, method, *args)
        self._tickets[ticket] = (member.name, what)
        return ticket

    def _take(self, timeout: float) -> None:
        """Deal with every reply that is there, also where one of them says that the run must stop."""
        stop: SealError | None = None
        for reply in self._actors.replies(timeout):
            try:
                self._on_reply(reply)
            except SealError as error:
                stop = stop or error
        if stop:
            raise stop

    def _on_reply(self, reply: ActorReply) -> None:
        name, what = self._tickets.pop(reply.ticket, ("", ""))
        member = self.members.get(name)
        if member is None:
            return  # whatever it had to do was given to others when it was lost
        if what == "job":
            self._on_job(member, reply)
        elif what == "load":
            self._on_load(member, reply)
        elif what == "ping":
            self._on_ping(member, reply)
        elif what == "stacks" and member.condemned:
            if reply.error is None:
                self._sink(Warned(f"{name} is stuck; its stacks:\n{str(reply.value)[:8000]}"))
            self._end(member, *member.condemned[1:])

    def _on_job(self, member: Member, reply: ActorReply) -> None:
        error, reason = reply.error, say(reply.error)
        if error is None:
            self._finish(member, value=reply.value)
        elif isinstance(error, Lost) and error.cause == "unreachable":
            self._finish(member, cause="unreachable", reason=reason)
            self._change(member, actor_health.unreachable(member.health, self._clock(), reason))
        elif isinstance(error, Lost) and error.cause != "infra":
            self._end(member, error.cause, reason)
        elif isinstance(error, OutOfMemory | MemoryError):
            self._finish(member, cause="out_of_memory", reason=reason)
        elif isinstance(error, Lost | InfraError | OSError):
            self._end(member, "infra", reason)  # its device or its node may be at fault: another process, and elsewhere
        else:
            self._finish(member, cause="error", reason=reason)

    def _on_load(self, member: Member, reply: ActorReply) -> None:
        if member.loading != reply.ticket:
            return
        member.loading = None
        if reply.error is None:
            member.version = str(reply.value)
            self._start_failures = 0
            member.free_since = self._clock()
            self._change(member, actor_health.ready(member.health, self._clock()))
            return
        if isinstance(reply.error, ConfigError | DataError):
            raise reply.error  # the same on every node: nothing is gained by trying elsewhere
        if isinstance(reply.error, Lost) and reply.error.cause == "unreachable":
            self._change(member, actor_health.unreachable(member.health, self._clock(), reply.error.reason))
            return
        cause = self._cause(member, reply.error.cause) if isinstance(reply.error, Lost) else "infra"
        self._end(member, cause, f"did not start: {say(reply.error)}")

    def _on_ping(self, member: Member, reply: ActorReply) -> None:
        member.ping = None
        now = self._clock()
        if isinstance(reply.error, Lost) and reply.error.cause == "unreachable":
            self._change(member, actor_health.unreachable(member.health, now, reply.error.reason))
        elif isinstance(reply.error, Lost):
            self._end(member, reply.error.cause, reply.error.reason)
        elif isinstance(reply.value, Sign):
            sign = reply.value
            if sign.node and not member.node:
                member.node, member.log = sign.host or sign.node, sign.log
                self._actors.placed(member.name, sign.node, sign.gpus)
                self._tell_member(member)
            if sign.fetching and member.fetching is None:
                member.fetching = now
                self._sink(self._told(member, "fetches its files"))
            elif not sign.fetching:
                member.fetching = None
            before = member.health.state
            expected = self.current.digest if self.current else ""
            self._change(member, actor_health.signed(member.health, now, sign, expected))
            if before == "suspect" and member.health.state == "starting":
                self._load(member)

    # how members and their jobs end

    def _finish(self, member: Member, value: Any = None, cause: Cause | None = None, reason: str = "") -> None:
        """The member's job is over; the member lives."""
        job, member.job = member.job, None
        if job:
            seconds = self._clock() - job.began
            member.busy += seconds
            member.free_since = self._clock()
            self._outcomes.append(WaveOutcome(member.name, job.work, seconds, value, cause, reason))

    def _end(self, member: Member, cause: Cause, reason: str) -> None:
        """The member is gone, or must go, and its job with it."""
        cause = self._cause(member, cause)
        if member.health.state == "starting" and member.version == "" and cause not in {"node", "unreachable"}:
            self._start_failures += 1
        self._finish(member, cause=cause, reason=reason)
        self._remove(member, reason)
        if self._start_failures >= START_FAILURES:
            raise InfraError(
                f"{self._start_failures} {self.role}s in a row did not start, the last one because: {reason}",
                hint="`seal-ray doctor` checks a node; the actor's log is named in the run's events",
            )

    def _cause(self, member: Member, cause: Cause) -> Cause:
        """Processes die with their node; then nobody is to blame, whichever is noticed first."""
        return "node" if cause == "killed_worker" and member.name in self._actors.leaving() else cause

    def _let_go(self, member: Member) -> None:
        """It is not needed any more."""
        self._change(member, actor_health.released(member.health, self._clock()))
        self._actors.kill(member.name)
        self.members.pop(member.name, None)

    def _remove(self, member: Member, reason: str) -> None:
        self._last_reason = reason
        self._change(member, actor_health.lost(member.health, self._clock(), reason))
        self._actors.kill(member.name)
        self.members.pop(member.name, None)

    def _change(self, member: Member, new: Health) -> None:
        before, member.health = member.health, new
        if new.state != before.state:
            self._tell_member(member)

    def _tell_member(self, member: Member) -> None:
        self._sink(self._told(member, member.health.reason))

    def _told(self, member: Member, reason: str) -> ActorChanged:
        return ActorChanged(
            worker=member.name,
            role=self.role,
            node=member.node,
            state=member.health.state,
            reason=reason,
            log=member.log,
            busy=round(member.busy, 2),
            alive=round(self._clock() - member.born, 2),
        )
