"""Looks at a set-up before a run trusts it: one finding for each thing that can be wrong, with its hint.

Each check is a small function that returns what it found, or raises: `SealError` is red, `Skipped` says why the check
could not be made, which is not green either. None may take longer than its limit.
"""

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from seal_ray import grading, models, ray_private
from seal_ray.config import CodeDomain, Config
from seal_ray.errors import InfraError, SealError
from seal_ray.fleet import cluster, node_facts, node_survey
from seal_ray.fleet.cluster import Node
from seal_ray.fleet.node_survey import Told, computing
from seal_ray.fleet.placement import plan_placement
from seal_ray.records import Json
from seal_ray.sampling.engine import ENVIRONMENT
from seal_ray.sandbox import choose
from seal_ray.sandbox.choice import HINT
from seal_ray.software import astray, software, unlike
from seal_ray.storage.store import Store, is_local

State = Literal["green", "red", "skipped"]
GB = 1e9
ROOM = 5 * GB  # of a disk beside the model: versions on their way, Ray's own files
SHARED_MEMORY = 1 * GB  # containers get 64 MB unless asked for more, and Ray keeps its objects there
FREE_GPU = 0.9  # share of a GPU's memory that is free where nobody holds it


class Skipped(Exception):
    """A check that could not be made, and why."""


@dataclass(frozen=True)
class Finding:
    check: str
    state: State
    found: str
    hint: str = ""


@dataclass
class Setup:
    """What is looked at: a configuration, and the nodes of its cluster once that is joined."""

    config: Config
    nodes: Sequence[Node] = field(default_factory=tuple)

    def computing(self) -> list[Node]:
        nodes = computing(self.nodes)
        if not nodes:
            raise Skipped("no node to ask: see `cluster`")
        return nodes


Check = Callable[[Setup], str]


def examine(config: Config, checks: "Sequence[tuple[str, float, Check]] | None" = None) -> Iterator[Finding]:
    """Every finding as it is made, in the order of the checks."""
    setup = Setup(config)
    for name, seconds, check in checks or CHECKS:
        yield _bounded(name, seconds, check, setup)


def _bounded(name: str, seconds: float, check: Check, setup: Setup) -> Finding:
    if check is joined:  # the processes of a local cluster die with the thread that started them
        return _one(name, check, setup)
    findings: list[Finding] = []
    thread = threading.Thread(target=lambda: findings.append(_one(name, check, setup)), daemon=True)
    thread.start()
    thread.join(seconds)
    if findings:
        return findings[0]
    return Finding(name, "red", f"no answer within {seconds:g} s", "see what this machine or the cluster waits for")


def _one(name: str, check: Check, setup: Setup) -> Finding:
    try:
        return Finding(name, "green", check(setup))
    except Skipped as why:
        return Finding(name, "skipped", str(why))
    except SealError as error:
        return Finding(name, "red", error.message, error.hint)
    except Exception as error:  # a check that breaks must not hide the others
        return Finding(name, "red", f"{type(error).__name__}: {error}"[:500], "--debug shows where it came from")


# this machine and its cluster


def joined(setup: Setup) -> str:
    cluster.connect(setup.config.placement)
    setup.nodes = cluster.resources()
    gpus, cpus = sum(n.gpus for n in setup.nodes), sum(n.cpus for n in setup.nodes)
    if setup.config.placement.device == "gpu" and not gpus:
        raise InfraError("placement.device: gpu, but no node has a GPU", hint="add GPU nodes, or use device: cpu")
    return f"{_nodes(setup.nodes)}, {cpus:g} CPUs, {gpus:g} GPUs"


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
    _all_well(
        [(t.node, t.error or ", ".join(unlike(here, t.value))) for t in told],
        hint="use one image, or install the same lock file, on every node",
    )
    where = f"here and on {_nodes(told)}" if told else "here"
    return f"{where}: " + ", ".join(f"{k} {v}" for k, v in here.items())


def gpus(setup: Setup) -> str:
    nodes = [n for n in setup.nodes if n.gpus]
    if not nodes:
        raise Skipped("no node has a GPU")
    told = node_survey.ask(nodes, node_facts.gpus)
    _all_well([(t.node, _wrong_gpus(t)) for t in told], hint="end what holds the memory, or restart the node")
    cards = [g for t in told for g in t.value]
    return f"{len(cards)} GPUs ({', '.join(sorted({g.name for g in cards}))}), " + (
        f"the fullest has {min(g.free for g in cards) / GB:.0f} GB free"
    )


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
    _all_well([(t.node, t.error or "; ".join(t.value)) for t in told], hint="end these processes")
    return f"no process is left of earlier runs on {_nodes(told)}"


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
    _all_well(
        [(t.node, t.error or ("" if t.value == total else f"the sum is {t.value:g} and not {total:g}")) for t in told],
        hint="let the nodes reach each other on all ports; GLOO_SOCKET_IFNAME or NCCL_SOCKET_IFNAME names the network",
    )
    held = ""
    if not on_gpu and any(n.gpus for n in nodes):
        held = "; NCCL was not tried: a GPU of every rank must be free for it"
    return f"{backend} over {world} processes on {_nodes(nodes)}{held}"


# what a run needs


def run_uri(setup: Setup) -> str:
    """Write, read and delete: here, and on every node what was written here."""
    config = setup.config
    node_survey.refuse_local(config, setup.nodes)
    with _tidy(config.run.uri):
        store = Store(config.run.uri, config.storage.model_copy(update={"patience": 5.0}))
        try:
            key = f".probe-{os.getpid()}"
            store.write(key, b"1")
            if store.read(key) != b"1":
                raise InfraError(f"{config.run.uri}: what was written is not what is read")
            store.delete(key)
        finally:
            store.close()
        nodes = computing(setup.nodes)
        _all_well(
            node_survey.unreached(config.run.uri, config.storage, nodes) if nodes else [],
            hint="give every node the credentials and the network that the store needs",
        )
    return f"{config.run.uri}: written, read and deleted here and on {_nodes(nodes)}"


def conditional_put(setup: Setup) -> str:
    config = setup.config
    with _tidy(config.run.uri):
        store = Store(config.run.uri, config.storage.model_copy(update={"patience": 5.0}))
        try:
            store.probe()
            store.probe_large()
        finally:
            store.close()
    return "a create-only write refuses to replace what is there"


def chat(setup: Setup) -> str:
    """How this model will be spoken to, told before it matters: base models may come with a template too."""
    section = setup.config.model
    if not section.name.startswith("builtin:") and not Path(section.name).is_dir():  # not fetched only to be looked at
        if section.chat != "auto":
            return f"model.chat: {section.chat}, as it is configured"
        return "model.chat: auto: by the template if there is one; base models may come with one too, so pin yes or no"
    folder = models.fetch(section, setup.config.storage)
    has = models.has_chat_template(folder)
    if section.chat == "no" or (section.chat == "auto" and not has):
        ignored = "; its tokenizer has a chat template, which is not used" if has else ""
        return f"model.chat: {section.chat}: prompts are bare text{ignored}"
    thinks = models.thinks(models.tokenizer(folder, trust_remote_code=section.trust_remote_code))
    thoughts = "; it may think first (model.thinking)" if thinks and section.thinking != "no" else ""
    pinned = "" if section.chat == "yes" else "; if it is a base model, set model.chat: no"
    return f"model.chat: {section.chat}: prompts go through the model's chat template{thoughts}{pinned}"


def model(setup: Setup) -> str:
    config = setup.config
    nodes = computing(setup.nodes)
    if not nodes:
        return models.reach(config.model, config.storage)
    told = node_survey.ask(nodes, models.reach, config.model, config.storage)
    _all_well([(t.node, t.error) for t in told], hint="check model.name, model.mirror, HF_TOKEN and the network there")
    return f"{told[0].value} on {_nodes(told)}"


def grader(setup: Setup) -> str:
    section, domain = setup.config.grading, setup.config.domain
    if isinstance(domain, CodeDomain) and domain.language != "toy":
        return _sandboxes(setup, domain)
    grading.build(section)
    if section.reward == "rubric":
        grading.judge_endpoint(section)
    return section.grader if section.grader == "lexical" else f"{section.grader}; its key is set where one is asked for"


def _sandboxes(setup: Setup, domain: CodeDomain) -> str:
    """What keeps programs apart, tried out on every node that would run some; here, where none is asked."""
    nodes = computing(setup.nodes)
    if not nodes:
        return f"programs run in sandboxes: {choose(domain.isolation).kind} here"
    told = node_survey.ask(nodes, choose, domain.isolation)
    _all_well([(t.node, t.error) for t in told], hint=HINT)
    kinds = ", ".join(sorted({t.value.kind for t in told}))
    return f"programs run in sandboxes: {kinds} on {_nodes(told)}"


def lora(setup: Setup) -> str:
    node = max(setup.computing(), key=lambda n: (n.free_gpus, n.free_cpus))
    on_gpu = setup.config.placement.device != "cpu" and node.free_gpus >= 1
    if setup.config.placement.device != "cpu" and node.gpus and not on_gpu:
        raise Skipped("every GPU is held; try again when one is free")
    device = "gpu" if on_gpu else "cpu"
    (told,) = node_survey.ask(
        [node], node_facts.canary, device, gpus=int(on_gpu), seconds=LORA_SECONDS, env=ENVIRONMENT
    )
    full = "low on memory" in told.error  # as Ray says it of whatever it ends then
    hint = (
        "free memory there: this check takes some GB"
        if full
        else "install vLLM and PEFT from the lock files in docker/"
    )
    _all_well([(told.node, told.error)], hint=hint)
    return f"{told.value} ({device})"


def disks(setup: Setup) -> str:
    nodes = setup.computing()
    told = node_survey.ask(nodes, node_facts.room_for_models, setup.config.model.cache)
    wanted = ROOM + _bytes(setup.config)
    _all_well(
        [(t.node, t.error or _cramped(t.value[0], t.value[1], wanted)) for t in told],
        hint="free or add disk, set model.cache to a larger one; give containers shared memory (--shm-size, or an "
        "emptyDir of medium Memory at /dev/shm)",
    )
    least = [min(t.value[i][1] for t in told) / GB for i in (0, 1)]
    return f"at least {least[0]:.0f} GB free for models and {least[1]:.1f} GB of shared memory"


def _cramped(disk: tuple[str, int, int], shared: tuple[str, int, int], wanted: float) -> str:
    out = []
    if disk[1] < wanted:
        out.append(f"{disk[0]} has {disk[1] / GB:.1f} GB free, {wanted / GB:.0f} GB are wanted")
    if shared[2] < SHARED_MEMORY:
        out.append(f"/dev/shm holds {shared[2] / GB:.2f} GB, {SHARED_MEMORY / GB:.0f} GB are wanted")
    return ", ".join(out)


def _bytes(config: Config) -> float:
    """What a model that has to be fetched takes on disk, where that is known."""
    name = config.model.name
    if Path(name.removeprefix("file://")).expanduser().is_dir():
        return 0.0
    try:
        return 2.0 * models.shape(name).parameters
    except SealError:
        return 0.0


# how it is said


def _nodes(some: Sequence[object]) -> str:
    return f"{len(some)} node{'' if len(some) == 1 else 's'}"


def _all_well(problems: Sequence[tuple[Node, str]], *, hint: str) -> None:
    text = node_survey.by_node(problems)
    if text:
        raise InfraError(text, hint=hint)


class _tidy:
    """A folder that only a check made is gone again after it."""

    def __init__(self, uri: str) -> None:
        path = Path(uri.partition("://")[2] or uri)
        self._made = [p for p in (path, *path.absolute().parents) if not p.exists()] if is_local(uri) else []

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        for path in self._made:
            try:
                path.rmdir()
            except OSError:
                return


LORA_SECONDS = 240.0
CHECKS: list[tuple[str, float, Check]] = [
    ("cluster", 120, joined),
    ("room", 30, room),
    ("versions", 120, versions),
    ("gpus", 120, gpus),
    ("orphans", 120, orphans),
    ("collective", 200, collective),
    ("run uri", 180, run_uri),
    ("conditional put", 90, conditional_put),
    ("model", 200, model),
    ("chat", 120, chat),
    ("grader", 120, grader),
    ("lora", LORA_SECONDS + 20, lora),
    ("disks", 120, disks),
]


def as_data(findings: Sequence[Finding]) -> dict[str, Json]:
    red = sum(f.state == "red" for f in findings)
    checks: list[Any] = [{"check": f.check, "state": f.state, "found": f.found, "hint": f.hint} for f in findings]
    return {"well": not red, "red": red, "checks": checks}


def line(finding: Finding) -> str:
    """One line of text, the hint after an arrow."""
    hint = f" -> {finding.hint}" if finding.hint else ""
    return f"{finding.state:<8} {finding.check:<16} {finding.found}{hint}".replace("\n", " ")
