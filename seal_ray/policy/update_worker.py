"""What a worker of a policy update does: build the model, look at the lessons, learn, look again, send the files."""

import contextlib
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from seal_ray import models
from seal_ray.errors import InfraError
from seal_ray.events import UpdateValidated
from seal_ray.models.shared import FETCH_SECONDS, Shared, materialise
from seal_ray.policy.job import StepLog, UpdateJob
from seal_ray.policy.lessons import Lesson
from seal_ray.policy.signs_of_life import signs_of_life
from seal_ray.policy.update_actor import TrainerProcess
from seal_ray.policy.version_files import pieces
from seal_ray.records import derive_seed

if TYPE_CHECKING:
    from seal_ray.policy.training import Scan, TrainingEngine

NAP = 0.5  # seconds between looks at who has the files


@dataclass(frozen=True)
class Payload:
    """What every worker of an update is given."""

    job: UpdateJob
    train: tuple[Lesson, ...]
    held: tuple[Lesson, ...]
    start: Shared | None  # the files of the version to go on from
    checkpoints: str  # a folder beside the output


def train_in_group(config: dict[str, Any]) -> dict[str, Any]:
    """One of the workers that Ray Train has started. What the first one returns becomes part of the result."""
    import ray.train
    import ray.train.torch

    context = ray.train.get_context()
    rank, world = context.get_world_rank(), context.get_world_size()
    payload = _begin(config, rank)
    from seal_ray.policy.deepspeed_engine import DeepSpeedEngine

    device = str(ray.train.torch.get_device()) if payload.job.use_gpu else "cpu"
    return _work(payload, config["desk"], DeepSpeedEngine, device, rank, world)


def train_alone(config: dict[str, Any]) -> dict[str, Any]:
    """The only worker, without Ray Train and DeepSpeed."""
    payload = _begin(config, 0)
    from seal_ray.policy.single_engine import SingleEngine

    return _work(payload, config["desk"], SingleEngine, "cuda" if payload.job.use_gpu else "cpu")


def _begin(config: dict[str, Any], rank: int) -> Payload:
    """The payload; and the first sign of life, before anything large is imported."""
    import ray
    import ray.util

    runtime, group = ray.get_runtime_context(), ray.util.get_current_placement_group()
    me = TrainerProcess(f"trainer-{rank}", runtime.get_node_id(), os.getpid(), group.id.hex() if group else "")
    config["desk"].arrived.remote(me)
    payload: Any = ray.get(config["payload"])
    return payload


def _await_others(desk: Any, rank: int, world: int) -> None:
    """Come back when every worker has its files: the first collective would give up on one that still fetches."""
    import ray

    until = time.monotonic() + FETCH_SECONDS
    while (there := int(ray.get(desk.have_files.remote(rank)))) < world:
        if time.monotonic() > until:
            raise InfraError(
                f"{world - there} of {world} workers of the policy update still fetch the model after "
                f"{FETCH_SECONDS:g} s",
                hint="see how fast those nodes reach the model; model.mirror or a folder that all share is faster",
            )
        time.sleep(NAP)


def _work(
    payload: Payload,
    desk: Any,
    engine_of: "Callable[..., TrainingEngine]",
    device: str,
    rank: int = 0,
    world: int = 1,
) -> dict[str, Any]:
    import ray

    from seal_ray.policy.checkpoints import Checkpoints
    from seal_ray.policy.training import Training, as_event

    job, section = payload.job, payload.job.section
    own = not job.digest and os.path.isdir(job.base)
    trust = job.model.trust_remote_code
    with signs_of_life(desk):
        base = job.base if own else models.fetch(job.model, job.storage, digest=job.digest)
        start = materialise(payload.start, job.model) if payload.start else None
        _await_others(desk, rank, world)
        engine = engine_of(base, start, section, derive_seed(job.seed, "adapter"), device, trust=trust)
    training = Training(engine, section, payload.train, payload.held, job.seed)

    def alive() -> None:
        desk.alive.remote()

    def tell(log: StepLog) -> None:
        if engine.rank == 0:
            desk.tell.remote(as_event(log, len(training.batches)))

    def validated(epoch: int, loss: float) -> None:
        if engine.rank == 0:
            desk.tell.remote(UpdateValidated(epoch, loss))

    alive()
    before = training.scan(payload.train, alive)
    training.reference = before.logprobs
    if payload.held:
        validated(0, training.scan(payload.held, alive).loss())
    probe = [Lesson("", "", text) for text in job.probe]
    checkpoints = Checkpoints(engine, payload.checkpoints, section, desk)
    training.run(tell, alive, validated, checkpoints.after, first=checkpoints.resume())
    after = training.scan(payload.train, alive)
    with signs_of_life(desk) if section.mode == "full" else contextlib.nullcontext():  # loads the base once more
        drift = training.drift(probe or payload.train, alive)
    outcome = {
        "kind": "full" if section.mode == "full" else "adapter",
        "rank": engine.adapter_rank,
        "kl": _moved(before, after),
        "drift": drift,
        "entropy": after.entropy,
        "entropy_before": before.entropy,
        "likelihood": after.likelihood(),
        "likelihood_before": before.likelihood(),
    }
    engine.save(partial(_send, desk))
    # news that are on their way must be there before the update counts as over
    ray.get(desk.news_are_in.remote())
    return outcome


def _send(desk: Any, name: str, path: str) -> None:
    import ray

    for offset, data in pieces(path):
        ray.get(desk.write.remote(name, offset, data))


def _moved(before: "Scan", after: "Scan") -> float:
    """Nats per token between two scans of the same lessons."""
    changes = [
        (n - b).double()
        for new, old in zip(after.logprobs, before.logprobs, strict=True)
        for n, b in zip(new, old, strict=True)
    ]
    return sum(float((c.exp() - 1 - c).sum()) for c in changes) / sum(len(c) for c in changes)
