"""One question to every node at once, answered by a task there; and what must hold before a run takes the nodes."""

import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from seal_ray.config import Config, StorageSection
from seal_ray.errors import ConfigError, InfraError, Missing, SealError
from seal_ray.fleet import cluster
from seal_ray.fleet.actors import classify
from seal_ray.fleet.cluster import Node
from seal_ray.software import software, unlike
from seal_ray.storage.store import Store, is_local

SECONDS = 90.0  # a task's process has to start, and libraries are read from a disk that may be far away


@dataclass(frozen=True)
class Told:
    """What a node said, or why it said nothing."""

    node: Node
    value: Any = None
    error: str = ""


def ask(
    nodes: Sequence[Node],
    question: Callable[..., Any],
    *args: Any,
    seconds: float = SECONDS,
    gpus: float = 0,
    env: Mapping[str, str] | None = None,
    each: Iterable[tuple[Any, ...]] = (),
) -> list[Told]:
    """What `question(*args)` gives on every node, in order; `each` has further arguments for each node."""
    if not nodes:
        return []  # Ray would start a cluster of its own to wait for nothing
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    further = list(each) or [()] * len(nodes)
    remote: Any = ray.remote
    asked = {"runtime_env": {"env_vars": dict(env)}} if env else {}
    task = remote(num_cpus=0, num_gpus=gpus, max_retries=0, **asked)(question)
    refs = [
        task.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node.id, soft=False)).remote(*args, *own)
        for node, own in zip(nodes, further, strict=True)
    ]
    ready, late = ray.wait(refs, num_returns=len(refs), timeout=seconds)
    for ref in late:
        ray.cancel(ref, force=True)
    out = []
    for node, ref in zip(nodes, refs, strict=True):
        if ref not in ready:
            out.append(Told(node, error=f"no answer within {seconds:g} s"))
            continue
        try:
            out.append(Told(node, ray.get(ref)))
        except Exception as error:  # whatever the question raised there, as text
            out.append(Told(node, error=_say(classify(error))))
    return out


def _say(error: BaseException) -> str:
    if "No module named 'seal_ray" in str(error):
        return "seal_ray is not installed there, or is another version"
    return str(error).strip().splitlines()[0][:300] if str(error).strip() else type(error).__name__


def computing(nodes: Iterable[Node]) -> list[Node]:
    """The nodes that actors may run on: a head is often kept free of them."""
    return [n for n in nodes if n.cpus or n.gpus]


# before a run takes the nodes


def check_nodes(config: Config) -> None:
    """Raise if a node would fail the run later: other software, or a run URI that it does not see as we do."""
    nodes = cluster.resources()
    refuse_local(config, nodes)
    mine = len(nodes) == 1
    if mine and config.placement.address == "local":
        return  # a cluster of this machine alone, which we started from this very installation
    told = ask(computing(nodes), software)
    problems = _of_those_that_stay([(t.node, t.error or ", ".join(unlike(software(), t.value))) for t in told])
    if problems:
        raise InfraError(
            f"the cluster's software is not the driver's: {by_node(problems)}",
            hint="use one image, or install the same lock file, on every node and where the driver runs",
        )
    if mine and is_local(config.run.uri):
        return
    problems = _of_those_that_stay(unreached(config.run.uri, config.storage, computing(nodes)))
    if problems:
        raise InfraError(
            f"run.uri: the driver reaches {config.run.uri}, but not every node does: {by_node(problems)}",
            hint="give every node the credentials (a role, a service account) and the network that the store needs"
            if not is_local(config.run.uri)
            else "mount the folder on every node, or use s3://… or another store",
        )


def refuse_local(config: Config, nodes: Sequence[Node]) -> None:
    """A folder of one machine is no place for a run on several."""
    if len(nodes) > 1 and is_local(config.run.uri) and not config.storage.shared:
        raise ConfigError(
            f"run.uri: {config.run.uri} is a folder of one machine, and the cluster has {len(nodes)} nodes",
            hint="use s3://… or another store, or set storage.shared: true for a folder that every node sees",
        )


def unreached(uri: str, settings: StorageSection, nodes: Sequence[Node]) -> list[tuple[Node, str]]:
    """The nodes that can't read there what we wrote, or can't write and delete, and why."""
    quick = settings.model_copy(
        update={"patience": min(5.0, settings.patience), "timeout": min(10.0, settings.timeout)}
    )
    store, key, said = Store(uri, quick), f".probe-{uuid.uuid4().hex}", str(time.time()).encode()
    try:
        store.create(key, said)
        try:
            told = ask(nodes, reach_store, uri, quick, key, said, each=[(n.id,) for n in nodes])
        finally:
            store.delete(key)
    finally:
        store.close()
    return [(t.node, t.error or t.value) for t in told if t.error or t.value]


def reach_store(uri: str, settings: StorageSection, key: str, said: bytes, name: str) -> str:
    """Why this node can't use a store as the driver does; empty if it can."""
    store = Store(uri, settings)
    try:
        if store.read(key) != said:
            return "it reads other content there than the driver wrote"
        store.create(f"{key}-{name}", said)
        store.delete(f"{key}-{name}")
    except Missing:
        return "it does not see what the driver wrote there: its folder or store is another"
    except SealError as error:
        return error.message
    finally:
        store.close()
    return ""


def _of_those_that_stay(problems: Sequence[tuple[Node, str]]) -> list[tuple[Node, str]]:
    """Without nodes that left while they were asked: workers come and go, and a run starts without these."""
    here = {n.id for n in cluster.resources()} if any(text for _, text in problems) else set()
    return [(node, text) for node, text in problems if text and node.id in here]


def by_node(problems: Sequence[tuple[Node, str]]) -> str:
    """Who has what problem, with nodes of the same problem together."""
    same: dict[str, list[str]] = {}
    for node, text in problems:
        if text:
            same.setdefault(text, []).append(node.name)
    return "; ".join(f"{', '.join(names)}: {text}" for text, names in same.items())
