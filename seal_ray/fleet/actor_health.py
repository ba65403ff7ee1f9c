"""How a worker is doing, as a pure state machine: what was seen of it goes in, its state comes out.

    starting --version loaded--> healthy --silence--> suspect --more silence--> dead
                                    ^                    |
                                    +--- same version ---+--- another version: starting again

A worker that was suspect gets no work before a sign of life has shown the version that it must have. `leaving` is a
worker whose node will be drained: it ends what it does and gets nothing more.
"""

from dataclasses import dataclass, replace

from seal_ray.events import ActorState

SUSPECT_AFTER = 3  # heartbeats without an answer
DEAD_AFTER = 9


@dataclass(frozen=True)
class Sign:
    """A sign of life: what a worker says of itself when it is asked."""

    version: str  # digest of the version that it has loaded; empty: none yet
    lease: int | None  # what it is computing
    pid: int = 0
    node: str = ""
    host: str = ""  # that node's name
    log: str = ""  # name of its log file there
    gpus: tuple[str, ...] = ()  # that it may use there
    fetching: bool = False  # the model, or a version, which takes as long as the network does


@dataclass(frozen=True)
class Health:
    state: ActorState
    since: float  # when it came into this state
    seen: float  # when it was last known to be alive
    reason: str = ""

    @property
    def alive(self) -> bool:
        return self.state not in {"dead", "released"}

    @property
    def counts(self) -> bool:
        """Whether it works or will: a suspect that has answered since is only busy with what it had."""
        return self.state in {"healthy", "starting"} or (self.state == "suspect" and self.seen > self.since)


def begin(now: float) -> Health:
    return Health("starting", now, now)


def ready(health: Health, now: float) -> Health:
    """It has loaded the version that it was given."""
    return _to(health, "healthy", now) if health.state == "starting" else health


def reload(health: Health, now: float) -> Health:
    """It must load another version before it works again."""
    return _to(health, "starting", now, "loads a version") if health.state in {"healthy", "suspect"} else health


def signed(health: Health, now: float, sign: Sign, version: str) -> Health:
    """It gave a sign of life; `version` is the digest that it should have."""
    if not health.alive:
        return health
    health = replace(health, seen=now)
    if health.state == "starting" and sign.fetching:
        return replace(health, since=now)  # what it may take to start counts from when it has its files
    if health.state != "suspect" or sign.lease is not None:
        return health  # a suspect that still computes what was given up is not free for work
    if sign.version == version:
        return _to(health, "healthy", now, "came back with the right version")
    return _to(health, "starting", now, f"came back with version {sign.version[:12] or 'none'}")


def silent(health: Health, now: float, asked: float, heartbeat: float) -> Health:
    """It has not answered what it was asked at `asked`."""
    # a suspect may be asked again and again: what counts is its last answer, or when it first gave none
    waited = now - (max(health.seen, min(asked, health.since)) if health.state == "suspect" else asked)
    if health.state in {"healthy", "leaving", "suspect"} and waited > DEAD_AFTER * heartbeat:
        return _to(health, "dead", now, f"no sign of life for {waited:.1f} s")
    if health.state == "healthy" and waited > SUSPECT_AFTER * heartbeat:
        return _to(health, "suspect", now, f"no sign of life for {waited:.1f} s")
    return health


def unreachable(health: Health, now: float, reason: str) -> Health:
    """A call to it failed in a way that it may survive."""
    return _to(health, "suspect", now, reason) if health.state in {"healthy", "starting"} else health


def leave(health: Health, now: float, reason: str) -> Health:
    return _to(health, "leaving", now, reason) if health.alive and health.state != "leaving" else health


def lost(health: Health, now: float, reason: str) -> Health:
    return _to(health, "dead", now, reason) if health.alive else health


def released(health: Health, now: float) -> Health:
    """It was let go of: nobody needs it any more."""
    return _to(health, "released", now, "not needed any more") if health.alive else health


def _to(health: Health, state: ActorState, now: float, reason: str = "") -> Health:
    seen = health.seen if state in {"suspect", "dead", "released"} else now
    return Health(state, now, seen, reason)
