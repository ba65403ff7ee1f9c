"""Who holds what of the cluster: roles take their resources by lease and give them back provably.

Every process that is started under a lease carries the lease's mark in its environment, and so do the processes that
it starts. When a role is released, its actors are killed, and each node they were on is searched for the mark.
"""

import os
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from seal_ray.errors import InfraError
from seal_ray.events import LeaseChanged, RoleName, Sink
from seal_ray.fleet import cluster
from seal_ray.fleet.actors import wait_until
from seal_ray.fleet.placement import Placement, Role, how_many, say_nodes

MARK = "SEAL_RAY_LEASE"
FORCE_AFTER = 5.0  # seconds that processes of a dead actor get to end by themselves


@dataclass
class Held:
    """One actor under a lease."""

    actor: Any
    since: float
    node: str = ""


class Leases:
    """The leases of a run. State: which actors each role holds, and on which nodes a role has been."""

    def __init__(self, placement: Placement, sink: Sink, clock: Callable[[], float] = time.monotonic) -> None:
        self.placement, self._sink, self._clock = placement, sink, clock
        self._token = uuid.uuid4().hex
        self._held: dict[RoleName, dict[str, Held]] = {"sampler": {}, "worker": {}, "trainer": {}}
        self._nodes: dict[RoleName, set[str]] = {"sampler": set(), "worker": set(), "trainer": set()}
        self._killed: dict[RoleName, list[Any]] = {"sampler": [], "worker": [], "trainer": []}
        self._gpu_seconds = 0.0
        self._groups: dict[str, Any] = {}
        self._group: Any = None  # the placement group of the actor that is being started
        self.sampling = True  # whether room is kept for samplers

    # what `RayActors` asks for

    def options(self, role: RoleName) -> dict[str, Any]:
        """What an actor of the role is started with."""
        wants = self.placement.role(role)
        options: dict[str, Any] = {
            "num_cpus": wants.cpus,
            "num_gpus": wants.gpus,
            "max_restarts": 0,
            "max_task_retries": 0,
            "runtime_env": {"env_vars": {**cluster.environment(), MARK: self.mark(role)}},
        }
        if wants.gpu_type:
            options["resources"] = {f"accelerator_type:{wants.gpu_type}": 0.001}
        if wants.across_nodes:
            options |= self._over_nodes(wants)
        return options

    def _over_nodes(self, wants: Role) -> dict[str, Any]:
        """An engine that reaches over nodes takes its GPUs as a placement group; the actor itself holds none."""
        from ray.util.placement_group import placement_group
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

        self._group = placement_group(wants.bundles(1), strategy="PACK")
        strategy = PlacementGroupSchedulingStrategy(self._group, placement_group_capture_child_tasks=True)
        return {"num_cpus": 0, "num_gpus": 0, "scheduling_strategy": strategy}

    def mark(self, role: RoleName) -> str:
        return f"{self._token}-{role}"

    def room(self, role: RoleName) -> int:
        """How many more of the role could be started now."""
        wants, nodes, held = self.placement.role(role), cluster.resources(), len(self._held[role])
        most = wants.most
        if not most and self.placement.device == "cpu":  # memory is a limit that Ray does not watch
            most = self.placement.again(nodes).role(role).count
        return how_many(wants, nodes, self._promised(role), most=max(0, most - held) if most else 10_000)

    def _promised(self, role: RoleName) -> list[dict[str, float]]:
        """What looks free and is not: actors that are on their way, and room kept for samplers."""
        out: list[dict[str, float]] = []
        for name, held in self._held.items():
            out += self.placement.role(name).bundles(sum(not h.node for h in held.values()))
        if role == "worker" and self.placement.overlap and self.sampling:
            lacking = self.placement.sampler.count - len(self._held["sampler"])
            out += self.placement.sampler.bundles(max(0, lacking))
        if role == "worker" and self.placement.overlap and not self.placement.training_alone:
            out += self.placement.trainer.bundles(self.placement.trainer.count - len(self._held["trainer"]))
        return out

    def missing(self, role: RoleName) -> str:
        wants = self.placement.role(role)
        return f"{wants.say(1)} more, while {say_nodes(cluster.resources())}"

    def hold(self, role: RoleName, name: str, actor: Any) -> None:
        self._held[role][name] = Held(actor, self._clock())
        if self._group is not None:
            self._groups[name], self._group = self._group, None
        if len(self._held[role]) == 1:
            wants = self.placement.role(role)
            self._acquired(role, wants.count)

    def placed(self, role: RoleName, name: str, node: str) -> None:
        held = self._held[role].get(name)
        if held:
            held.node = node
            self._nodes[role].add(node)

    def drop(self, role: RoleName, name: str) -> None:
        """An actor was killed or has died."""
        held = self._held[role].pop(name, None)
        if held:
            self._gpu_seconds += (self._clock() - held.since) * self.placement.role(role).gpus
            self._killed[role].append(held.actor)
        if name in self._groups:
            from ray.util.placement_group import remove_placement_group

            remove_placement_group(self._groups.pop(name))

    # trainers are started by Ray Train: their lease has no actors of ours

    def begin_training(self, count: int) -> None:
        self._held["trainer"] = {str(i): Held(None, self._clock(), "trainer") for i in range(count)}
        self._acquired("trainer", count)

    def end_training(self) -> None:
        if not self._held["trainer"]:
            return
        for name in list(self._held["trainer"]):
            self.drop("trainer", name)
        self._killed["trainer"].clear()
        self._sink(LeaseChanged("trainer", "released", 0))

    def gpu_hours(self) -> float:
        now = self._clock()
        running = sum(
            (now - h.since) * self.placement.role(role).gpus for role, held in self._held.items() for h in held.values()
        )
        return (self._gpu_seconds + running) / 3600

    # giving back

    def release(self, *roles: RoleName, deadline: float = 60) -> None:
        """Kill all actors of the roles and prove that what they held is free; raises naming what is not."""
        import ray

        for role in roles:
            for name, held in list(self._held[role].items()):
                if held.actor is not None:
                    ray.kill(held.actor, no_restart=True)
                self.drop(role, name)
        for role in roles:
            actors = self._killed[role]
            if not actors and not self._nodes[role]:
                continue
            alive: list[str] = []
            if not wait_until(lambda a=actors, s=alive: not _still(a, s), deadline):
                raise InfraError(
                    f"placement: {len(alive)} {role} actors are still alive {deadline:g} s after they were killed",
                    hint="see the Ray dashboard for these actors, or restart the nodes they are on",
                )
            self._prove_gone(role, deadline)
            self._killed[role] = []
            self._nodes[role].clear()
            self._sink(LeaseChanged(role, "released", 0))

    def _prove_gone(self, role: RoleName, deadline: float) -> None:
        """Search the nodes for processes with the lease's mark, and end those that outlived their actor."""
        import ray
        from ray.exceptions import RayError
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        probe = ray.remote(num_cpus=0, max_retries=0)(processes_of)
        left: dict[str, list[str]] = {}
        began = time.monotonic()
        nodes = {n.id: n for n in cluster.resources()}
        todo = self._nodes[role] & nodes.keys()
        while todo:
            force = time.monotonic() - began > min(FORCE_AFTER, deadline / 2)
            refs = {
                node: probe.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)).remote(
                    self.mark(role), force
                )
                for node in todo
            }
            for node, ref in refs.items():
                try:
                    left[node] = ray.get(ref, timeout=max(5.0, deadline))
                except (RayError, TimeoutError) as error:
                    left[node] = [f"the node does not answer: {type(error).__name__}"]
            todo = {n for n in todo if left[n]} & {n.id for n in cluster.resources()}
            if todo and time.monotonic() - began > deadline:
                what = "; ".join(f"{nodes[n].name}: {', '.join(left[n])}" for n in sorted(todo))
                raise InfraError(
                    f"placement: what the {role}s held is not free after {deadline:g} s: {what}",
                    hint="end these processes, or restart the nodes they are on",
                )
            if todo:
                time.sleep(0.2)

    def close(self, deadline: float = 30) -> None:
        """Give everything back at the end of a run."""
        self.release("sampler", "worker", deadline=deadline)
        self.end_training()

    def _acquired(self, role: RoleName, count: int) -> None:
        wants = self.placement.role(role)
        self._sink(LeaseChanged(role, "acquired", count, wants.say(count), wants.gpus))


def _still(actors: list[Any], alive: list[str]) -> bool:
    """Whether any of the actors is not dead yet, by the word of Ray's control store."""
    from ray._private import state

    alive.clear()
    for actor in actors:
        found = state.actors(actor._actor_id.hex())
        if found and found.get("State") != "DEAD":
            alive.append(actor._actor_id.hex())
    return bool(alive)


def processes_of(mark: str, force: bool) -> list[str]:
    """The processes on this node that carry a lease's mark; `force` ends them."""
    import signal

    found = []
    needle = f"{MARK}={mark}".encode()
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            with open(f"/proc/{entry.name}/environ", "rb") as file:
                if needle not in file.read().split(b"\0"):
                    continue
            with open(f"/proc/{entry.name}/cmdline", "rb") as file:
                command = file.read(200).replace(b"\0", b" ").decode(errors="replace").strip()
            if force:
                os.kill(int(entry.name), signal.SIGKILL)
            found.append(f"process {entry.name} ({command[:60] or 'ending'})")
        except (OSError, ValueError):
            continue  # it ended meanwhile, or is another user's
    return found
