"""Who holds what of the cluster: roles take their resources by reservation and give them back provably."""

import time
from dataclasses import dataclass
from typing import Any

from seal_ray.events import LeaseChanged, RoleName, Sink
from seal_ray.fleet import cluster
from seal_ray.fleet.marked_processes import MARK, prove_gone
from seal_ray.fleet.placement import Placement, say_nodes
from seal_ray.fleet.reservations import ALL, Reservations


@dataclass
class Held:
    """One actor and what it holds."""

    actor: Any
    since: float
    node: str = ""
    gpus: tuple[str, ...] = ()


class ResourcesHeld:
    """The resources of a run. State: which actors each role has, and where a role has been since it was last free."""

    def __init__(
        self,
        placement: Placement,
        sink: Sink,
        *,
        reservations: Reservations | None = None,
    ) -> None:
        self.placement, self._sink = placement, sink
        self.reservations = reservations or Reservations(priority=placement.section.priority)
        self._held: dict[RoleName, dict[str, Held]] = {"sampler": {}, "worker": {}, "trainer": {}}
        self._gone: dict[RoleName, list[Held]] = {"sampler": [], "worker": [], "trainer": []}
        self._gpu_seconds = 0.0

    # what `RayActors` asks for

    def want(self, role: RoleName, count: int) -> int:
        """Ask for so many of the role; returns how many more of them may be started now."""
        wants = self.placement.role(role)
        if not wants.most and self.placement.device == "cpu":  # memory is a limit that Ray does not watch
            count = min(count, max(self.placement.again(cluster.resources()).role(role).count, wants.least))
        return self.reservations.want(wants, count)

    def too_many(self, role: RoleName) -> int:
        """How many should go because other runs wait for their share; only workers do."""
        if role != "worker":
            return 0
        return self.reservations.too_many(self.placement.role(role))

    def options(self, role: RoleName, name: str) -> dict[str, Any]:
        """What an actor is started with: its part of a reservation, and the role's mark."""
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

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
        slot = self.reservations.take(wants, name)
        assert slot, f"{name} is started where `want` has granted nothing"
        group, index = slot
        strategy = PlacementGroupSchedulingStrategy(group, index, placement_group_capture_child_tasks=index == ALL)
        if index == ALL:  # an engine that reaches over nodes: its parts hold the GPUs, and the actor itself none
            options |= {"num_cpus": 0, "num_gpus": 0, "resources": {}}
        return {**options, "scheduling_strategy": strategy}

    def mark(self, role: RoleName) -> str:
        return f"{self.reservations.run}-{role}"

    def missing(self, role: RoleName) -> str:
        wants = self.placement.role(role)
        return f"{wants.say(1)} more, while {say_nodes(cluster.resources())}"

    def hold(self, role: RoleName, name: str, actor: Any) -> None:
        self._held[role][name] = Held(actor, time.monotonic())
        if len(self._held[role]) == 1:
            self._acquired(role, self.placement.role(role).count)

    def placed(self, role: RoleName, name: str, node: str, gpus: tuple[str, ...] = ()) -> None:
        held = self._held[role].get(name)
        if held:
            held.node, held.gpus = node, gpus

    def drop(self, role: RoleName, name: str) -> None:
        """An actor was killed or has died."""
        held = self._held[role].pop(name, None)
        if held:
            self._gpu_seconds += (time.monotonic() - held.since) * self.placement.role(role).gpus
            self._gone[role].append(held)
            self.reservations.give_back(name)

    # trainers are started by Ray Train, in a placement group of its own

    def begin_training(self, count: int) -> None:
        self._held["trainer"] = {str(i): Held(None, time.monotonic()) for i in range(count)}
        self._acquired("trainer", count)

    def end_training(self) -> None:
        if not self._held["trainer"]:
            return
        for name in list(self._held["trainer"]):
            self.drop("trainer", name)
        self._gone["trainer"].clear()
        self._sink(LeaseChanged("trainer", "released", 0))

    def gpu_hours(self) -> float:
        now = time.monotonic()
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
            self.reservations.release(self.placement.role(role))
        for role in roles:
            if self._gone[role]:
                prove_gone(self.mark(role), self._where(role), deadline)
                self._gone[role].clear()
                self._sink(LeaseChanged(role, "released", 0))

    def _where(self, role: RoleName) -> dict[str, list[str]]:
        """The nodes that a role has been on, and its GPUs there; every node if it did not live to say where it was."""
        gone = self._gone[role]
        where: dict[str, list[str]] = {h.node: [] for h in gone if h.node}
        if not all(h.node for h in gone):
            where = {n.id: [] for n in cluster.resources()}
        whole = self.placement.role(role).gpus >= 1  # what is left on a part of a GPU may be a neighbour's
        for held in gone if whole else []:
            where.setdefault(held.node, []).extend(held.gpus)
        return where

    def close(self, deadline: float = 30) -> None:
        """Give everything back at the end of a run."""
        self.release("sampler", "worker", deadline=deadline)
        self.end_training()
        self.reservations.let_go()

    def _acquired(self, role: RoleName, count: int) -> None:
        wants = self.placement.role(role)
        self._sink(LeaseChanged(role, "acquired", count, wants.say(count), wants.gpus))
