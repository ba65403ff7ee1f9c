"""Workers that are played in virtual time: the pool under test is the real one, and no test depends on the clock."""

import heapq
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from seal_ray.config import PlacementSection
from seal_ray.events import Event
from seal_ray.fleet.actor_health import Sign
from seal_ray.fleet.actors import ActorReply
from seal_ray.fleet.pool import Pool
from seal_ray.fleet.wave_messages import Lost, WaveLease
from seal_ray.records import Attempt, Candidate, Example, Recipe, Trial, Version

VERSION = Version(0, "v0", "base")
Behaviour = Callable[[str, WaveLease, float], Any]  # worker, lease, now -> trials, or an error to raise


@dataclass
class Player:
    """One played worker."""

    name: str
    node: str
    version: str = ""
    lease: int | None = None
    free_at: float = 0.0
    dead: bool = False
    mute: bool = False  # gives no sign of life
    fetched: float = 0.0  # when it has what it is to load


@dataclass
class Simulation:
    """Actors in virtual time. `seconds` says how long an attempt takes; `behave` may do something else."""

    nodes: dict[str, int] = field(default_factory=lambda: {"a": 4})
    seconds: Callable[[Attempt], float] = lambda attempt: 1.0
    behave: Behaviour | None = None
    start_seconds: float = 1.0
    fetch_seconds: float = 0.0  # before that
    start_error: BaseException | None = None

    def __post_init__(self) -> None:
        self.now = 0.0
        self.players: dict[str, Player] = {}
        self.tried: list[tuple[float, str, tuple[str, ...]]] = []
        self.gone: dict[str, str] = {}
        self.wanted: list[int] = []  # how many were asked for, look after look
        self.share = math.inf  # of the places, while other runs wait for theirs
        self._events: list[tuple[float, int, Callable[[], ActorReply | None]]] = []
        self._order = itertools.count()
        self._tickets = itertools.count(1)
        self._at: list[tuple[float, Callable[[], None]]] = []

    def clock(self) -> float:
        return self.now

    def at(self, when: float, what: Callable[[], None]) -> None:
        """Let something happen at a time."""
        heapq.heappush(self._events, (when, next(self._order), lambda: what()))  # type: ignore[func-returns-value]

    # what the pool calls

    def want(self, count: int) -> int:
        self.wanted.append(count)
        used = [p.node for p in self.players.values() if not p.dead]
        free = sum(max(0, n - used.count(node)) for node, n in self.nodes.items())
        return max(0, min(count - len(used), free))

    def too_many(self) -> int:
        return int(max(0, sum(not p.dead for p in self.players.values()) - self.share))

    def missing(self) -> str:
        return "1 worker of 1 GPU more"

    def start(self, name: str) -> None:
        used = [p.node for p in self.players.values() if not p.dead]
        node = next(n for n, size in self.nodes.items() if used.count(n) < size)
        self.players[name] = Player(name, node, free_at=self.now)

    def call(self, name: str, method: str, *args: Any) -> int:
        ticket = next(self._tickets)
        player = self.players.get(name)
        if player is None or player.dead:
            self._later(0, lambda: ActorReply(ticket, error=Lost("killed_worker", "it is dead")))
            return ticket
        getattr(self, f"_{method}")(player, ticket, *args)
        return ticket

    def _load_version(self, player: Player, ticket: int, version: Version, adapter: Any) -> None:
        def done() -> ActorReply:
            if self.start_error:
                return ActorReply(ticket, error=self.start_error)
            player.version = version.digest
            return ActorReply(ticket, version.digest)

        player.fetched = self.now + self.fetch_seconds
        self._later(self.fetch_seconds + self.start_seconds, done, player, ticket)

    def _ping(self, player: Player, ticket: int) -> None:
        def answer() -> ActorReply:
            fetching = self.now < player.fetched
            return ActorReply(ticket, Sign(player.version, player.lease, node=player.node, fetching=fetching))

        if not player.mute:
            self._later(0.001, answer, player)

    def _stacks(self, player: Player, ticket: int) -> None:
        if not player.mute:
            self._later(0.001, lambda: ActorReply(ticket, "in a wave"), player)

    def _try_wave(self, player: Player, ticket: int, lease: WaveLease) -> None:
        if lease.version != player.version:
            raise AssertionError(f"{player.name} has {player.version} and the lease is for {lease.version}")
        self.tried.append((self.now, player.name, tuple(a.candidate.id for a in lease.attempts)))
        result = self.behave(player.name, lease, self.now) if self.behave else None
        player.lease = lease.id
        if result == "hang":
            return
        seconds = sum(self.seconds(a) for a in lease.attempts)

        def done() -> ActorReply | None:
            player.lease = None
            if isinstance(result, BaseException):
                if isinstance(result, Lost) and result.cause != "unreachable":
                    player.dead = True
                return ActorReply(ticket, error=result)
            return ActorReply(ticket, result if isinstance(result, list) else trials(player.name, lease))

        self._later(seconds, done, player, ticket)

    def _later(
        self, seconds: float, reply: Callable[[], ActorReply | None], player: Player | None = None, ticket: int = 0
    ) -> None:
        def arrive() -> ActorReply | None:
            if player and player.dead:
                return ActorReply(ticket, error=Lost("killed_worker", "it died")) if ticket else None
            return reply()

        heapq.heappush(self._events, (self.now + seconds, next(self._order), arrive))

    def replies(self, timeout: float) -> list[ActorReply]:
        until = self.now + timeout
        found: list[ActorReply] = []
        while self._events and self._events[0][0] <= until:
            when, _, event = heapq.heappop(self._events)
            if found and when > self.now:
                heapq.heappush(self._events, (when, next(self._order), event))
                break
            self.now = max(self.now, when)
            reply = event()
            if reply is not None:
                found.append(reply)
        if not found:
            self.now = until
        return found

    def kill(self, name: str) -> None:
        player = self.players.get(name)
        if player:
            player.dead = True

    def placed(self, name: str, node: str, gpus: tuple[str, ...] = ()) -> None:
        return None

    def leaving(self) -> dict[str, str]:
        return {p.name: self.gone[p.node] for p in self.players.values() if p.node in self.gone}

    # what tests do

    def crash(self, name: str) -> None:
        """A worker's process dies; what it computes comes back as lost at once."""
        self.players[name].dead = True
        heapq.heapify(self._events)

    def remove_node(self, node: str) -> None:
        self.gone[node] = "its node is gone"
        self.nodes[node] = 0
        for player in self.players.values():
            if player.node == node:
                player.dead = True


def trials(worker: str, lease: WaveLease) -> list[Trial]:
    return [Trial(a.candidate.id, a.candidate.task, losses=(1.0,), worker=worker) for a in lease.attempts]


def attempt(task: int, slot: int, repeat: int = 0, texts: int = 4) -> Attempt:
    recipe = Recipe(epochs=2) if slot >= 0 else None
    identity = f"t{task:03d}-s{slot}-r{repeat}"
    candidate = Candidate(
        identity, f"task-{task:03d}", "edit" if slot >= 0 else "baseline", None, slot, repeat, 0, recipe
    )
    example = Example(tuple(range(10)), (True,) * 10)
    return Attempt(candidate, (example,) * texts if recipe else (), ())


def many(tasks: int = 6, slots: int = 4) -> list[Attempt]:
    return [attempt(t, s, texts=2 + (t * 7 + s * 3) % 11) for t in range(tasks) for s in range(-1, slots)]


def killer(victim: str, error: BaseException | str):
    return lambda worker, lease, now: error if victim in {a.candidate.id for a in lease.attempts} else None


def section(**changes: Any) -> PlacementSection:
    base: dict[str, Any] = {
        "heartbeat": 1.0,
        "candidate_deadline": 60.0,
        "worker_grace": 20.0,
        "deadline": 30.0,
        "wave_wait": 1.0,
        "min_workers": 1,
        "window": 4,
    }
    return PlacementSection(**{**base, **changes})


E = TypeVar("E", bound=Event)


@dataclass
class Table:
    """A pool with played workers, and what was told."""

    simulation: Simulation
    section: PlacementSection
    wave: int = 4
    events: list[Event] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.pool = Pool(self.simulation, self.section, self.events.append, self.simulation.clock, wave=self.wave)
        self.pool.version(VERSION)

    def run(self, attempts: list[Attempt], until: float = 2000.0) -> dict[str, Trial]:
        """Everything, to the end."""
        self.pool.submit(attempts)
        self.pool.flush()
        done: dict[str, Trial] = {}
        while self.pool.pending():
            assert self.simulation.now < until, f"{self.pool.pending()} candidates are still pending after {until} s"
            for trial in self.pool.poll(1.0):
                assert trial.candidate not in done, "a candidate was handed out twice"
                done[trial.candidate] = trial
        return done

    def kinds(self, kind: type[E]) -> list[E]:
        return [e for e in self.events if isinstance(e, kind)]
