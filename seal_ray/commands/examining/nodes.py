"""This machine and its cluster: are the nodes there, alike, free, and within reach of each other?"""

from dataclasses import replace
from importlib import metadata

from seal_ray import ray_private
from seal_ray.commands.examining.setup import GB, Setup, Skipped, all_well, count
from seal_ray.errors import InfraError
from seal_ray.fleet import cluster, node_facts, node_survey
from seal_ray.fleet.node_survey import Told, computing
from seal_ray.fleet.placement import plan_placement
from seal_ray.software import astray, software, unlike

FREE_GPU = 0.9  # share of a GPU's memory that is free where nobody holds it


def joined(setup: Setup) -> str:
    cluster.connect(setup.config.placement)
    setup.nodes = cluster.resources()
    gpus, cpus = sum(n.gpus for n in setup.nodes), sum(n.cpus for n in setup.nodes)
    if setup.config.placement.device == "gpu" and not gpus:
        raise InfraError("placement.device: gpu, but no node has a GPU", hint="add GPU nodes, or use device: cpu")
    return f"{count(setup.nodes)}, {cpus:g} CPUs, {gpus:g} GPUs"


def room(setup: Setup) -> str:
    """The least of every phase, on what the nodes have, whoever holds it now."""
    config = setup.config
    nodes = [replace(n, free_cpus=n.cpus, free_gpus=n.gpus) for n in setup.computing()]
    plan = plan_placement(config.placement, nodes, most_trainers=config.policy.global_batch)
    missing = [plan.lacks(phase, nodes) for phase in plan.phases() if not plan.fits(phase, nodes)]
    if missing:
        raise InfraError(
            "; ".join(missing),
            hint="add nodes, raise the quota, or lower the numbers under placement; a run asks an autoscaler for them "
            "and waits placement.deadline seconds",
        )
    return plan.say()


def versions(setup: Setup) -> str:
    here = software()
    try:
        wrong = astray(here)
    except metadata.PackageNotFoundError:
        raise Skipped("seal_ray is not installed here, so what it asks for is not known") from None
    if wrong:
        raise InfraError(f"here: {'; '.join(wrong)}", hint="install from the lock files in docker/")
    told = node_survey.ask(computing(setup.nodes), software)
    all_well(
        [(t.node, t.error or ", ".join(unlike(here, t.value))) for t in told],
        hint="use one image, or install the same lock file, on every node",
    )
    where = f"here and on {count(told)}" if told else "here"
    return f"{where}: " + ", ".join(f"{k} {v}" for k, v in here.items())


def gpus(setup: Setup) -> str:
    nodes = [n for n in setup.nodes if n.gpus]
    if not nodes:
        raise Skipped("no node has a GPU")
    told = node_survey.ask(nodes, node_facts.gpus)
    all_well([(t.node, _wrong_gpus(t)) for t in told], hint="end what holds the memory, or restart the node")
    cards = [g for t in told for g in t.value]
    free = [g.free for g in cards if g.total]
    memory = f"the fullest has {min(free) / GB:.0f} GB free" if free else "which do not tell how much memory is free"
    return f"{len(cards)} GPUs ({', '.join(sorted({g.name for g in cards}))}), {memory}"


def _wrong_gpus(told: Told) -> str:
    node, cards = told.node, told.value
    if told.error:
        return told.error
    if len(cards) < node.gpus:
        return f"Ray counts {node.gpus:g} GPUs, nvidia-smi {len(cards)}"
    if node.free_gpus < node.gpus:
        return ""  # which of them are held is not told, so their memory says nothing
    full = [c for c in cards if c.free < FREE_GPU * c.total]
    return ", ".join(f"{c.free / GB:.0f} of {c.total / GB:.0f} GB free on a GPU that nobody holds" for c in full)


def orphans(setup: Setup) -> str:
    nodes = setup.computing()
    alive = ray_private.live_actors()
    told = node_survey.ask(nodes, node_facts.orphans, each=[(alive.get(n.id, []),) for n in nodes])
    all_well([(t.node, t.error or "; ".join(t.value)) for t in told], hint="end these processes")
    return f"no process is left of earlier runs on {count(told)}"


def collective(setup: Setup) -> str:
    """The sum over two or more processes, by the library that training would use."""
    nodes = setup.computing()
    ranks = nodes if len(nodes) > 1 else nodes * 2
    on_gpu = setup.config.placement.device != "cpu" and all(n.free_gpus >= ranks.count(n) for n in nodes)
    backend = "nccl" if on_gpu else "gloo"
    (place,) = node_survey.ask(ranks[:1], node_facts.address)
    if place.error:
        raise InfraError(f"{place.node.name}: {place.error}")
    world = len(ranks)
    told = node_survey.ask(
        ranks,
        node_facts.all_reduce,
        place.value,
        world,
        backend,
        40.0,
        gpus=int(on_gpu),
        each=[(r,) for r in range(world)],
    )
    total = world * (world + 1) / 2
    all_well(
        [(t.node, t.error or ("" if t.value == total else f"the sum is {t.value:g} and not {total:g}")) for t in told],
        hint="let the nodes reach each other on all ports; GLOO_SOCKET_IFNAME or NCCL_SOCKET_IFNAME names the network",
    )
    held = ""
    if not on_gpu and any(n.gpus for n in nodes):
        held = "; NCCL was not tried: a GPU of every rank must be free for it"
    return f"{backend} over {world} processes on {count(nodes)}{held}"
