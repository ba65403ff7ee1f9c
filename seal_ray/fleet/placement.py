"""Who runs where: how many samplers, workers and trainers, with what each, and who must make room for whom.

It is arithmetic over plain data. What of a plan the cluster grants is Ray's to say: see `reservations`.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from seal_ray.config import PlacementSection
from seal_ray.events import RoleName
from seal_ray.fleet.cluster import Node

ROLES: tuple[RoleName, ...] = ("sampler", "worker", "trainer")

SAMPLER_CPUS = 1.0
GPUS_PER_SAMPLER = 8  # trying an edit costs several times what writing it does, so most GPUs try
CPUS_PER_SAMPLER = 16
ACTOR_BYTES = 3e9  # of an actor with a small model; on CPU there are no more of them than memory holds


@dataclass(frozen=True)
class Role:
    """One kind of actor: how many, and what each of them holds."""

    name: RoleName
    count: int  # as many as are started where the cluster has room
    least: int  # with fewer the run can't begin
    most: int  # 0: no limit, more are started when the cluster grows
    cpus: float
    gpus: float = 0
    gpu_type: str = ""  # only on nodes with this type; empty: on any
    across_nodes: bool = False  # its GPUs may be on several nodes

    def bundles(self, count: int) -> list[dict[str, float]]:
        """The demand of that many, one entry for each piece that must be on one node."""
        one: dict[str, float] = {"CPU": self.cpus}
        if self.gpus:
            one["GPU"] = self.gpus
        if self.gpu_type:
            one[f"accelerator_type:{self.gpu_type}"] = 0.001
        if self.across_nodes:
            return [{**one, "CPU": self.cpus / self.gpus, "GPU": 1.0} for _ in range(int(self.gpus) * count)]
        return [one] * count

    def say(self, count: int) -> str:
        kind = f" {self.gpu_type}" if self.gpu_type else ""
        each = f"{self.gpus:g}{kind} GPU and {self.cpus:g} CPU" if self.gpus else f"{self.cpus:g} CPU"
        return f"{count} {self.name}{'s' if count != 1 else ''} of {each}"


@dataclass(frozen=True)
class Placement:
    """A plan: the roles, and whether samplers and workers stand side by side."""

    section: PlacementSection
    mode: Literal["colocated", "split"]
    device: Literal["cpu", "gpu"]
    sampler: Role
    worker: Role
    trainer: Role
    training_alone: bool  # samplers and workers must be gone before training starts
    most_trainers: int = 0
    actor_bytes: float = ACTOR_BYTES

    def again(self, nodes: Sequence[Node], *, begun: bool = True) -> "Placement":
        """The plan that the same wishes lead to on other nodes.

        Once the run has begun the device stays, also where every GPU is lost for now: others are waited for.
        """
        section = self.section.model_copy(update={"device": self.device}) if begun else self.section
        plan = plan_placement(section, nodes, most_trainers=self.most_trainers, actor_bytes=self.actor_bytes)
        return replace(plan, section=self.section)

    @property
    def overlap(self) -> bool:
        """Whether edits are sampled while others are tried."""
        return self.mode == "split"

    def layout(self) -> tuple[Any, ...]:
        """Who stands where with what: actors of one layout have no place in another."""
        roles = (self.sampler, self.worker, self.trainer)
        return self.mode, self.device, self.training_alone, *((r.least, *r.bundles(1)) for r in roles)

    @property
    def most_samplers(self) -> int:
        """Where roles take turns, samplers may use whatever workers may."""
        grown = int(self.section.max_workers * self.worker.gpus // self.sampler.gpus) if self.sampler.gpus else 0
        return self.section.samplers or max(self.sampler.count, grown if self.mode == "colocated" else 0)

    def role(self, name: RoleName) -> Role:
        return {"sampler": self.sampler, "worker": self.worker, "trainer": self.trainer}[name]

    def before(self, name: RoleName) -> tuple[RoleName, ...]:
        """The roles that must have been released before this one starts."""
        if self.mode == "colocated":
            return tuple[RoleName, ...](r for r in ROLES if r != name)
        return ("sampler", "worker") if name == "trainer" and self.training_alone else ()

    def phases(self) -> list[list[Role]]:
        """Roles that are on at the same time, phase by phase."""
        if self.mode == "colocated":
            return [[self.sampler], [self.worker], [self.trainer]]
        return [[self.sampler, self.worker], [self.trainer]]

    def phases_by_size(self) -> list[list[Role]]:
        """The phases, the one whose least asks for most at the end."""
        return sorted(self.phases(), key=lambda phase: _size([b for r in phase for b in r.bundles(r.least)]))

    def fits(self, roles: Sequence[Role], nodes: Sequence[Node]) -> bool:
        """Whether what is free on the nodes holds the least of these roles."""
        return not _unplaced([b for role in roles for b in role.bundles(role.least)], nodes, free=True)

    def lacks(self, roles: Sequence[Role], nodes: Sequence[Node]) -> str:
        """Why the least of these roles is not there yet."""
        return _lack(roles, nodes, self.section)

    def say(self) -> str:
        how = "side by side" if self.overlap else "in turn"
        roles = "; ".join(r.say(r.count) for r in (self.sampler, self.worker, self.trainer))
        return f"{self.mode} on {self.device} ({how}): {roles}"


# The plan


def plan_placement(
    section: PlacementSection, nodes: Sequence[Node], *, most_trainers: int = 0, actor_bytes: float = ACTOR_BYTES
) -> Placement:
    """The plan for these nodes. What they lack is not refused here: nodes may still come (see `preflight`).

    `most_trainers`: more of them would have nothing to do (the update's global batch); 0 is no limit.
    `actor_bytes`: main memory of an actor that computes on CPU.
    """
    device = section.device
    if device == "auto":
        device = "gpu" if any(n.gpus for n in nodes) else "cpu"
    plan = _on_gpus(section, nodes) if device == "gpu" else _on_cpus(section, nodes, actor_bytes)
    trainer = plan.trainer
    if most_trainers and trainer.count > most_trainers and not section.trainers:
        trainer = replace(trainer, count=most_trainers, least=min(trainer.least, most_trainers))
    return replace(plan, trainer=trainer, most_trainers=most_trainers, actor_bytes=actor_bytes)


def _on_gpus(section: PlacementSection, nodes: Sequence[Node]) -> Placement:
    parallel = section.tensor_parallel
    total = sum(n.gpus for n in nodes)
    per_gpu = round(1 / section.worker_gpus)
    across = section.across_nodes and parallel > max((n.gpus for n in nodes), default=0)
    engines = total // parallel if across else sum(n.gpus // parallel for n in nodes)
    least_workers = math.ceil(section.min_workers / per_gpu)
    mode = section.mode
    if mode == "auto":
        mode = "split" if total >= parallel * max(1, section.samplers) + least_workers else "colocated"
    sampler_type = trainer_type = ""
    if mode == "split":
        spare = (total - least_workers) // parallel
        samplers = section.samplers or int(max(1, min(total // (GPUS_PER_SAMPLER * parallel), spare, engines)))
        workers = max(section.min_workers, math.floor((total - samplers * parallel) * per_gpu))
        sampler_type = _type_for_samplers(nodes, samplers * parallel)
    else:
        samplers = section.samplers or int(max(1, engines))
        workers = max(section.min_workers, math.floor(total * per_gpu))
    if section.max_workers:
        workers = min(workers, section.max_workers)
    by_type = _by_type(nodes)
    trainers = section.trainers or int(max(1, total))
    if len(by_type) > 1:
        # in step with each other, trainers are as slow as the slowest: they stay on the most frequent type
        trainer_type = max(by_type, key=lambda t: (by_type[t], t))
        if by_type[trainer_type] < trainers and section.trainers:
            trainer_type = ""
        else:
            trainers = section.trainers or int(by_type[trainer_type])
    return Placement(
        section,
        mode,
        "gpu",
        Role(
            "sampler",
            samplers,
            section.samplers or 1,
            samplers,
            SAMPLER_CPUS * (parallel if across else 1),
            parallel,
            sampler_type,
            across,
        ),
        Role("worker", workers, section.min_workers, section.max_workers, section.worker_cpus, section.worker_gpus),
        Role("trainer", trainers, section.trainers or 1, trainers, section.trainer_cpus, 1, trainer_type),
        training_alone=True,
    )


def _by_type(nodes: Iterable[Node]) -> dict[str, float]:
    gpus: dict[str, float] = {}
    for node in nodes:
        if node.gpus:
            gpus[node.gpu_type] = gpus.get(node.gpu_type, 0) + node.gpus
    return gpus


def _type_for_samplers(nodes: Sequence[Node], gpus: float) -> str:
    """With several types of GPU, samplers take the rarest that holds them all, so that trials run on like ones."""
    types = _by_type(nodes)
    if len(types) < 2:
        return ""
    enough = [t for t in types if t and types[t] >= gpus]
    return min(enough, key=lambda t: (types[t], t)) if enough else ""


def _on_cpus(section: PlacementSection, nodes: Sequence[Node], actor_bytes: float) -> Placement:
    total = sum(n.cpus for n in nodes)
    memory = sum(n.memory for n in nodes) or math.inf
    mode = section.mode
    if mode == "auto":
        mode = "split" if memory >= 2 * actor_bytes else "colocated"
    samplers = section.samplers or max(1, int(total // CPUS_PER_SAMPLER))
    trainers = section.trainers or 1
    cpus = {"sampler": SAMPLER_CPUS, "worker": section.worker_cpus, "trainer": section.trainer_cpus}
    taken = (samplers * cpus["sampler"] + trainers * cpus["trainer"]) if mode == "split" else 0
    room = max(1, math.floor((total - taken) / section.worker_cpus)) if total else 1
    holds = max(1, math.floor(memory / actor_bytes) - samplers) if memory < math.inf else room
    workers = max(section.min_workers, min(section.max_workers or room, room, holds))

    def roles() -> tuple[Role, Role, Role]:
        return (
            Role("sampler", samplers, section.samplers or 1, samplers, cpus["sampler"]),
            Role("worker", workers, section.min_workers, section.max_workers, cpus["worker"]),
            Role("trainer", trainers, section.trainers or 1, trainers, cpus["trainer"]),
        )

    if mode == "split" and nodes and section.min_workers * section.worker_cpus <= total:
        # few cores: each role asks for less than it will use, so that all can be there; they seldom work at once
        share = 1.0
        while share > 0.05 and _unplaced([b for r in roles() for b in r.bundles(r.count)], nodes, free=False):
            share *= 0.8
            cpus = {
                "sampler": round(SAMPLER_CPUS * share, 2),
                "worker": round(section.worker_cpus * share, 2),
                "trainer": round(section.trainer_cpus * share, 2),
            }
    sampler, worker, trainer = roles()
    alone = bool(_unplaced([b for r in roles() for b in r.bundles(r.count)], nodes, free=False))
    return Placement(section, mode, "cpu", sampler, worker, trainer, training_alone=alone)


# Whether it fits


def _size(bundles: Sequence[dict[str, float]]) -> tuple[float, float]:
    return sum(b.get("GPU", 0) for b in bundles), sum(b["CPU"] for b in bundles)


def _unplaced(bundles: Sequence[dict[str, float]], nodes: Sequence[Node], *, free: bool) -> list[dict[str, float]]:
    """The bundles that find no place, largest first, each on the fullest node that still holds it."""
    left = [[n.free_gpus, n.free_cpus, n.gpu_type] if free else [n.gpus, n.cpus, n.gpu_type] for n in nodes]
    out = []
    for bundle in sorted(bundles, key=lambda b: (-b.get("GPU", 0), -b["CPU"])):
        wanted = next((k.split(":", 1)[1] for k in bundle if k.startswith("accelerator_type:")), "")
        gpus = bundle.get("GPU", 0)
        places = [
            n for n in left if n[0] >= gpus - 1e-6 and n[1] >= bundle["CPU"] - 1e-6 and (not wanted or n[2] == wanted)
        ]
        if not places:
            out.append(bundle)
            continue
        place = min(places, key=lambda n: (n[0], n[1]))
        place[0] -= gpus
        place[1] -= bundle["CPU"]
    return out


def that_fit(role: Role, nodes: Sequence[Node]) -> int:
    """How many of a role what is free on the nodes holds, were nothing else to go there."""
    if role.across_nodes:
        return int(sum(n.free_gpus for n in nodes) // role.gpus)
    suitable = [n for n in nodes if not role.gpu_type or n.gpu_type == role.gpu_type]
    rooms = [[n.free_cpus / role.cpus, n.free_gpus / role.gpus if role.gpus else math.inf] for n in suitable]
    return sum(math.floor(min(room) + 1e-6) for room in rooms)


def _lack(roles: Sequence[Role], nodes: Sequence[Node], section: PlacementSection) -> str:
    bundles = [b for role in roles for b in role.bundles(role.least)]
    gpus, cpus = _size(bundles)
    demand = " + ".join(role.say(role.least) for role in roles)
    need = (f"{gpus:g} GPUs and " if gpus else "") + f"{cpus:g} CPUs"
    unplaced = _unplaced(bundles, nodes, free=True)
    if not unplaced:
        return f"{demand} need {need} at once, which others wait for as well: {say_nodes(nodes)}"
    largest = max(unplaced, key=lambda b: (b.get("GPU", 0), b["CPU"]))
    kind = next((k.split(":", 1)[1] for k in largest if k.startswith("accelerator_type:")), "")
    piece = (f"{largest['GPU']:g}{' ' + kind if kind else ''} GPUs and " if largest.get("GPU") else "") + (
        f"{largest['CPU']:g} CPUs"
    )
    return (
        f"{demand} need {need} at once, but {len(unplaced)} of these pieces ({piece} on one node) find no place: "
        f"{say_nodes(nodes)}{_advice(roles, nodes, section)}"
    )


def _advice(phase: Sequence[Role], nodes: Sequence[Node], section: PlacementSection) -> str:
    sampler = next((r for r in phase if r.name == "sampler"), None)
    largest = max((n.gpus for n in nodes), default=0)
    if sampler and sampler.gpus > largest and not sampler.across_nodes and sum(n.gpus for n in nodes) >= sampler.gpus:
        return (
            f" (tensor_parallel {section.tensor_parallel} is over the {largest:g} GPUs of the largest node: "
            "placement.across_nodes: true lets an engine reach over nodes)"
        )
    return ""


def say_nodes(nodes: Sequence[Node]) -> str:
    """The nodes in a few words: what there is and how much of it is free."""
    if not nodes:
        return "the cluster has no node"
    kinds: dict[tuple[float, float, str], list[Node]] = {}
    for node in nodes:
        kinds.setdefault((node.gpus, node.cpus, node.gpu_type), []).append(node)
    parts = []
    for (gpus, cpus, kind), some in sorted(kinds.items(), reverse=True):
        gpu = f"{gpus:g} {kind + ' ' if kind else ''}GPU{'s' if gpus != 1 else ''} and " if gpus else "no GPU and "
        free = f"{sum(n.free_gpus for n in some):g} GPUs, " if gpus else ""
        parts.append(
            f"{len(some)} node{'s' if len(some) > 1 else ''} with {gpu}{cpus:g} CPUs"
            f"{' each' if len(some) > 1 else ''} (free: {free}{sum(n.free_cpus for n in some):g} CPUs)"
        )
    return "the cluster has " + ", ".join(parts)
