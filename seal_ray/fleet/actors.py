"""The actors of one role behind a face that is small enough to be played by a simulation.

`Actors` is that face. `RayActors` is the real thing: each name is a Ray actor that is never restarted and whose calls
are never repeated by Ray; whoever calls decides what to do about a loss.
"""

import queue
import re
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Protocol

from seal_ray.fleet.placement import RoleName
from seal_ray.fleet.wave_messages import Lost
from seal_ray.redaction import logger
from seal_ray.text import first_line

log = logger(__name__)


@dataclass(frozen=True)
class ActorReply:
    """What became of a call: a value, or why there is none (`Lost`, or whatever the actor raised)."""

    ticket: int
    value: Any = None
    error: BaseException | None = None


class Actors(Protocol):
    """Starts, calls and kills actors by name. Nothing here waits, except `replies`, and that no longer than told."""

    def want(self, count: int) -> int:
        """Ask for so many in all, until another number is asked for. Returns how many more may be started now."""
        ...

    def too_many(self) -> int:
        """How many should go because others wait for their share of the cluster."""
        ...

    def start(self, name: str) -> None: ...

    def call(self, name: str, method: str, *args: Any) -> int:
        """Begin a call; the ticket comes back in its `ActorReply`."""
        ...

    def replies(self, timeout: float) -> list[ActorReply]:
        """All replies that are there; waits for the first of them up to `timeout` seconds."""
        ...

    def placed(self, name: str, node: str, gpus: tuple[str, ...] = ()) -> None:
        """An actor has said on which node and GPUs it runs."""
        ...

    def kill(self, name: str) -> None: ...

    def leaving(self) -> dict[str, str]:
        """Names of actors whose node is gone or says that it will go, and why."""
        ...

    def missing(self) -> str:
        """Why no more can be started: demand against what the cluster has."""
        ...


class Holder(Protocol):
    """What actors are started under: it knows the resources of a role and accounts for who holds them."""

    def want(self, role: RoleName, count: int) -> int: ...
    def too_many(self, role: RoleName) -> int: ...
    def options(self, role: RoleName, name: str) -> dict[str, Any]: ...
    def missing(self, role: RoleName) -> str: ...
    def hold(self, role: RoleName, name: str, actor: Any) -> None: ...
    def placed(self, role: RoleName, name: str, node: str, gpus: tuple[str, ...] = ()) -> None: ...
    def drop(self, role: RoleName, name: str) -> None: ...


class RayActors:
    """Ray actors of one role. `make(name, options)` returns a new actor's handle."""

    def __init__(self, role: RoleName, holder: Holder, make: Callable[[str, dict[str, Any]], Any]) -> None:
        self.role: RoleName = role
        self._holder, self._make = holder, make
        self._actors: dict[str, Any] = {}
        self._nodes: dict[str, str] = {}
        self._tickets = 0
        self._inbox: queue.SimpleQueue[ActorReply] = queue.SimpleQueue()
        self._refs: dict[int, Any] = {}  # a reference that is dropped takes its result along

    def want(self, count: int) -> int:
        return self._holder.want(self.role, count)

    def too_many(self) -> int:
        return self._holder.too_many(self.role)

    def missing(self) -> str:
        return self._holder.missing(self.role)

    def start(self, name: str) -> None:
        actor = self._make(name, self._holder.options(self.role, name))
        self._actors[name] = actor
        self._holder.hold(self.role, name, actor)

    def call(self, name: str, method: str, *args: Any) -> int:
        self._tickets += 1
        ticket = self._tickets
        actor = self._actors.get(name)
        if actor is None:
            self._inbox.put(ActorReply(ticket, error=Lost("killed_worker", f"{name} is not there any more")))
            return ticket
        try:
            ref = getattr(actor, method).remote(*args)
        except Exception as error:  # Ray refuses calls to an actor that it knows to be dead
            self._inbox.put(ActorReply(ticket, error=classify(error)))
            return ticket
        self._refs[ticket] = ref
        ref.future().add_done_callback(lambda future: self._arrived(ticket, future))
        return ticket

    def _arrived(self, ticket: int, future: "Future[Any]") -> None:
        """Runs in a thread of Ray's: only puts the reply where the driver's thread finds it."""
        error = future.exception()
        self._inbox.put(ActorReply(ticket, error=classify(error)) if error else ActorReply(ticket, future.result()))

    def replies(self, timeout: float) -> list[ActorReply]:
        replies: list[ActorReply] = []
        try:
            replies.append(self._inbox.get(timeout=timeout) if timeout > 0 else self._inbox.get_nowait())
            while True:
                replies.append(self._inbox.get_nowait())
        except queue.Empty:
            pass
        for reply in replies:
            self._refs.pop(reply.ticket, None)
        return replies

    def placed(self, name: str, node: str, gpus: tuple[str, ...] = ()) -> None:
        """Where an actor turned out to run."""
        if name in self._actors and self._nodes.get(name) != node:
            self._nodes[name] = node
            self._holder.placed(self.role, name, node, gpus)

    def kill(self, name: str) -> None:
        import ray

        actor = self._actors.pop(name, None)
        self._nodes.pop(name, None)
        if actor is not None:
            ray.kill(actor, no_restart=True)
            self._holder.drop(self.role, name)

    def leaving(self) -> dict[str, str]:
        from seal_ray.fleet.cluster import leaving_nodes

        going = leaving_nodes()
        return {name: going[node] for name, node in self._nodes.items() if node in going}


# Ray tells the reasons of a death as text only
_NODE = re.compile(r"node (has died|was terminated|died|is dead)|Node Id:|node_death", re.IGNORECASE)
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_MEMORY = re.compile(r"out of memory \(OOM\)|memory monitor|running low on memory|ran out of memory", re.IGNORECASE)


def classify(error: BaseException) -> BaseException:
    """Ray's errors as our own: `Lost` with its cause, or what the actor itself raised."""
    from ray import exceptions as rx

    if isinstance(error, rx.RayTaskError):
        cause = getattr(error, "cause", None)
        return cause if isinstance(cause, BaseException) else Lost("infra", first_line(error, 300))
    if isinstance(error, rx.OutOfMemoryError):
        return Lost("out_of_memory", first_line(error, 300))
    if isinstance(error, rx.ActorUnavailableError):
        return Lost("unreachable", "the actor can't be reached")
    if isinstance(error, rx.NodeDiedError | rx.ObjectLostError):
        return Lost("node", first_line(error, 300))
    text = str(error)
    if isinstance(error, rx.RayActorError) and error.actor_init_failed:
        return Lost("infra", _last_line(text))
    if isinstance(error, rx.RayActorError):
        if error.preempted or _NODE.search(text):
            return Lost("node", "its node is gone")
        if _MEMORY.search(text):
            return Lost("out_of_memory", "its process was killed because the node ran out of memory")
        return Lost("killed_worker", _reason(text))
    return Lost("infra", f"{type(error).__name__}: {first_line(error, 300)}")


def _reason(text: str) -> str:
    """The sentence that says why an actor died, without the advice that Ray adds."""
    for line in text.splitlines():
        if line.startswith("The actor is dead because"):
            return line.split("Some common causes")[0].strip()[:300]
    return text.strip().splitlines()[0][:300] if text.strip() else "the actor died"


def _last_line(text: str) -> str:
    """What was raised stands at the end of a traceback."""
    lines = [line.strip() for line in _COLOUR.sub("", text).splitlines() if line.strip()]
    return lines[-1][:300] if lines else "the actor's process could not be made ready"
