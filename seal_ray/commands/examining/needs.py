"""What a run needs besides nodes: its store, its model, its grader, vLLM with adapters, and room on disks."""

import os
from pathlib import Path

from seal_ray import grading, models
from seal_ray.commands.examining.setup import GB, Setup, Skipped, all_well, count
from seal_ray.config import CodeDomain, Config
from seal_ray.errors import InfraError, SealError
from seal_ray.fleet import node_facts, node_survey
from seal_ray.fleet.node_survey import computing
from seal_ray.sampling.engine import ENVIRONMENT
from seal_ray.sandbox import choose
from seal_ray.sandbox.choice import HINT
from seal_ray.storage.store import Store, is_local

ROOM = 5 * GB  # of a disk beside the model: versions on their way, Ray's own files
SHARED_MEMORY = 1 * GB  # containers get 64 MB unless asked for more, and Ray keeps its objects there
LORA_SECONDS = 240.0


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
        all_well(
            node_survey.unreached(config.run.uri, config.storage, nodes) if nodes else [],
            hint="give every node the credentials and the network that the store needs",
        )
    return f"{config.run.uri}: written, read and deleted here and on {count(nodes)}"


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
    all_well([(t.node, t.error) for t in told], hint="check model.name, model.mirror, HF_TOKEN and the network there")
    return f"{told[0].value} on {count(told)}"


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
    all_well([(t.node, t.error) for t in told], hint=HINT)
    kinds = ", ".join(sorted({t.value.kind for t in told}))
    return f"programs run in sandboxes: {kinds} on {count(told)}"


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
    all_well([(told.node, told.error)], hint=hint)
    return f"{told.value} ({device})"


def disks(setup: Setup) -> str:
    nodes = setup.computing()
    told = node_survey.ask(nodes, node_facts.room_for_models, setup.config.model.cache)
    wanted = ROOM + _bytes(setup.config)
    all_well(
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
