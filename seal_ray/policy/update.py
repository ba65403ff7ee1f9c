"""The policy update: Ray Train places the workers, DeepSpeed shards what they train, the result is a version's files.

`update` is the driver's side, `_train` the workers', and `_Engine` all that is known here of DeepSpeed. A step learns
from one global batch whatever the number of workers: its loss is divided by what the whole batch holds, and the rows
of a batch are only ever summed.
"""

import contextlib
import logging
import os
import shutil
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from seal_ray import models
from seal_ray.config import PolicySection
from seal_ray.errors import ConfigError, DataError, InfraError
from seal_ray.events import Sink, UpdateValidated, Warned
from seal_ray.policy.job import StepLog, UpdateJob, UpdateResult
from seal_ray.policy.lessons import Lesson
from seal_ray.policy.packing import fitting, hold_back
from seal_ray.policy.update_actor import CHUNK, Desk, Limits, TrainerCount, TrainerProcess
from seal_ray.policy.update_watch import Watch
from seal_ray.records import derive_seed

__all__ = ["UpdateJob", "UpdateResult", "update"]

ADAPTER = "adapter_model.safetensors"
SHARD = 4 * 2**30  # bytes of one file of full weights


# the driver's side


def update(job: UpdateJob, *, sink: Sink, tick: Callable[[], None] = lambda: None) -> UpdateResult:
    """Train the policy on, and return where the new version's files are. Ray must be up; nothing is left running.

    `tick` is called often, and what it raises ends the update.

    Lost workers are replaced and the update starts again from its inputs (full fine-tuning from its last checkpoint),
    at most `policy.retries` times. Whatever goes wrong, `job.output` is either whole or not there.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    began = time.monotonic()
    section = job.section
    vocabulary, longest = _check(job)
    limits = {
        "policy.max_length": section.max_length,
        "policy.micro_batch_tokens": section.micro_batch_tokens,
        "the model's own limit": longest,
    }
    fit, left_out = fitting(job.lessons, limits, vocabulary)
    for left in left_out:
        sink(Warned(f"edit {left.edit} of task {left.task} is left out: {left.reason}"))
    if not fit:
        raise DataError(
            f"none of the {len(job.lessons)} lessons can be learned from; the first has {left_out[0].reason}",
            hint="raise policy.max_length and policy.micro_batch_tokens, or lower sampling.max_tokens",
        )
    train, held = hold_back(fit, section.validation, job.seed)

    part, checkpoints = f"{job.output}.part", f"{job.output}.checkpoints"
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    options: dict[str, Any] = {"num_cpus": 0, "max_concurrency": 8, "scheduling_strategy": here}
    desk = ray.remote(Desk).options(**options).remote(part)
    watch = Watch(desk, sink, tick)
    crew = TrainerCount(job.num_workers, job.use_gpu, job.cpus_per_worker, _environment(job))
    try:
        payload = ray.put(_Payload(job, tuple(train), tuple(held), _files(job.adapter), checkpoints))
        shutil.rmtree(checkpoints, ignore_errors=True)
        os.mkdir(checkpoints)
        within = Limits(section.worker_timeout, section.hang_timeout, section.collective_timeout)
        found, attempts = watch.attempts(_train, payload, crew, within, section.retries)
        os.rename(part, job.output)
    finally:
        watch.end()
        shutil.rmtree(part, ignore_errors=True)
        shutil.rmtree(checkpoints, ignore_errors=True)
    log = tuple(watch.steps[n] for n in sorted(watch.steps))
    return UpdateResult(
        folder=job.output,
        steps=len(log),
        losses=tuple(s.loss for s in log),
        log=log,
        seconds=time.monotonic() - began,
        left_out=tuple(left_out),
        held_back=tuple(lesson.edit for lesson in held),
        edits=tuple((lesson.edit, lesson.weight) for lesson in train),
        recipe=section.model_dump(mode="json") | {"algorithm": job.lessons[0].algorithm, "seed": job.seed},
        environment=_software() | {"workers": str(crew)},
        attempts=attempts,
        validation_losses=tuple(watch.validation[n] for n in sorted(watch.validation)),
        **found,
    )


def _check(job: UpdateJob) -> tuple[int, int]:
    """Refuse what can't work before anything is started. Returns what `learner.vocabulary` does."""
    from seal_ray.policy.learner import vocabulary

    section = job.section
    if not job.lessons:
        raise DataError("there is nothing to learn from", hint="a round without a choice commits without an update")
    if len({lesson.algorithm for lesson in job.lessons}) > 1:
        raise DataError("the lessons of one update come from different algorithms", hint="update with one at a time")
    if section.mode == "full" and section.fresh:
        raise ConfigError("policy.fresh: true begins a new adapter, and mode: full has none", hint="use mode: lora")
    if job.num_workers < 1:
        raise ConfigError(f"placement.trainers: {job.num_workers} is no number of workers", hint="use 1 or more")
    if os.path.exists(job.output):
        raise DataError(f"{job.output}: already there", hint="remove it, or name another folder")
    os.makedirs(os.path.dirname(os.path.abspath(job.output)), exist_ok=True)
    return vocabulary(job.base)


def _files(folder: str | None) -> dict[str, bytes] | str | None:
    """An adapter's files, to travel with the job; full weights are too much for that and are read where they lie."""
    if folder is None:
        return None
    if (Path(folder) / "config.json").exists():
        return folder
    names = (ADAPTER, "adapter_config.json")
    try:
        return {name: (Path(folder) / name).read_bytes() for name in names}
    except OSError as error:
        raise DataError(f"{folder}: no adapter to go on from: {error}", hint="name the folder of a version") from None


def _environment(job: UpdateJob) -> dict[str, str]:
    return {
        "OMP_NUM_THREADS": str(job.threads or max(int(job.cpus_per_worker), 1)),
        "TOKENIZERS_PARALLELISM": "false",
        "DS_ACCELERATOR": "cuda" if job.use_gpu else "cpu",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "TRANSFORMERS_VERBOSITY": "error",
        "PYTHONWARNINGS": "ignore::FutureWarning",
    }


def _software() -> dict[str, str]:
    return {name: metadata.version(name) for name in ("torch", "transformers", "peft", "deepspeed", "ray")}


# the workers' side


@dataclass(frozen=True)
class _Payload:
    job: UpdateJob
    train: tuple[Lesson, ...]
    held: tuple[Lesson, ...]
    start: dict[str, bytes] | str | None
    checkpoints: str


def _train(config: dict[str, Any]) -> dict[str, Any]:
    """What every worker runs. What the first one returns becomes part of the result."""
    import ray
    import ray.train
    import ray.train.torch
    import ray.util

    from seal_ray.policy.checkpoints import Checkpoints
    from seal_ray.policy.training import Training, as_event

    payload: _Payload = ray.get(config["payload"])
    job, section = payload.job, payload.job.section
    context, runtime = ray.train.get_context(), ray.get_runtime_context()
    rank = context.get_world_rank()
    desk = config["desk"]
    group = ray.util.get_current_placement_group()
    me = TrainerProcess(f"trainer-{rank}", runtime.get_node_id(), os.getpid(), group.id.hex() if group else "")
    desk.arrived.remote(me)
    device = ray.train.torch.get_device() if job.use_gpu else "cpu"
    with _start(payload) as (base, adapter):
        engine = _Engine(base, adapter, section, derive_seed(job.seed, "adapter"), str(device))
    training = Training(engine, section, payload.train, payload.held, job.seed)

    def alive() -> None:
        desk.alive.remote()

    def tell(log: StepLog) -> None:
        if rank == 0:
            ray.get(desk.tell.remote(as_event(log, len(training.batches))))

    def validated(epoch: int, found: float) -> None:
        if rank == 0:
            ray.get(desk.tell.remote(UpdateValidated(epoch, found)))

    alive()
    before = training.scan(payload.train, alive)
    training.reference = before.logprobs
    if payload.held:
        validated(0, training.scan(payload.held, alive).loss())
    probe = [Lesson("", "", text) for text in job.probe]
    checkpoints = Checkpoints(engine, payload.checkpoints, section, desk)
    training.run(tell, alive, validated, checkpoints.after, first=checkpoints.resume())
    after = training.scan(payload.train, alive)
    changes = [
        (n - b).double()
        for new, old in zip(after.logprobs, before.logprobs, strict=True)
        for n, b in zip(new, old, strict=True)
    ]
    found = {
        "kind": "full" if section.mode == "full" else "adapter",
        "rank": engine.adapter_rank,
        "kl": sum(float((c.exp() - 1 - c).sum()) for c in changes) / sum(len(c) for c in changes),
        "drift": None if section.mode == "full" else training.drift(probe or payload.train, alive),
        "entropy": after.entropy,
        "entropy_before": before.entropy,
        "likelihood": after.likelihood(),
        "likelihood_before": before.likelihood(),
    }

    def send(name: str, path: str) -> None:
        with open(path, "rb") as file:
            while data := file.read(CHUNK):
                ray.get(desk.write.remote(name, file.tell() - len(data), data))

    engine.save(send, base)
    return found


@contextlib.contextmanager
def _start(payload: _Payload) -> Iterator[tuple[str, str | None]]:
    """The folder of the base on this node, and that of the adapter to go on from."""
    job, start = payload.job, payload.start
    base = job.base if os.path.isdir(job.base) else models.fetch(job.model, job.storage)
    if isinstance(start, str):
        if not os.path.isdir(start):
            raise InfraError(
                f"{start}: the weights to go on from are not on this node",
                hint="keep full weights where every node of the update sees them",
            )
        yield start, None
        return
    if start is None:
        yield base, None
        return
    with tempfile.TemporaryDirectory(prefix="seal-ray-adapter-") as folder:
        for name, data in start.items():
            (Path(folder) / name).write_bytes(data)
        yield base, folder


class _Engine:
    """The model under DeepSpeed: ZeRO 1 to 3, with the optimiser's state on the device or on the CPU."""

    def __init__(self, base: str, adapter: str | None, section: PolicySection, seed: int, device: str) -> None:
        import torch
        import torch.distributed as dist

        from seal_ray.policy import learner

        deepspeed = _deepspeed(device)
        self.rank, self.world = dist.get_rank(), dist.get_world_size()
        self.device = torch.device(device)
        self._section, self._base = section, base
        dtype = models.pick_dtype(section.dtype, device)
        config = self._config(dtype)
        with _sharded_from_the_start(config) if section.zero_stage == 3 else contextlib.nullcontext():
            model = learner.build(base, adapter, section, seed, dtype, device)
        if section.checkpointing:
            # under ZeRO 3 weights are gone when a layer is recomputed, which only the reentrant way survives
            model.gradient_checkpointing_enable({"use_reentrant": section.zero_stage == 3})
            model.enable_input_require_grads()
        model.train()  # or nothing is recomputed; there is no dropout left that it could wake
        self.adapter_rank = 0 if section.mode == "full" else sum(int(c.r) for c in model.peft_config.values())
        weights = [p for _, p in learner.trainable(model)]
        self._trained = {id(p) for p in weights}
        optimizer = torch.optim.AdamW(weights, lr=section.lr, weight_decay=section.weight_decay)
        self.engine, self.optimizer, _, _ = deepspeed.initialize(
            model=learner.Learner(model), optimizer=optimizer, model_parameters=weights, config=config
        )

    def _config(self, dtype: str) -> dict[str, Any]:
        section = self._section
        bucket = int(5e7) if self.device.type == "cuda" else int(5e6)
        zero: dict[str, Any] = {
            "stage": section.zero_stage,
            "overlap_comm": False,
            "contiguous_gradients": True,
            "reduce_bucket_size": bucket,
            "allgather_bucket_size": bucket,
        }
        if section.zero_stage == 3:
            zero |= {"stage3_prefetch_bucket_size": bucket, "stage3_param_persistence_threshold": 100_000}
        if section.offload == "cpu":
            zero["offload_optimizer"] = {"device": "cpu", "pin_memory": self.device.type == "cuda"}
        return {
            "train_micro_batch_size_per_gpu": 1,
            "gradient_accumulation_steps": 1,
            "managed_gradient_accumulation": False,  # steps differ in rows: we say when a batch is complete
            "zero_optimization": zero,
            "bf16": {"enabled": dtype == "bfloat16"},
            "gradient_clipping": section.clip,
            "zero_allow_untested_optimizer": True,
            "zero_force_ds_cpu_optimizer": False,
            "steps_per_print": 10**9,
        }

    def forward(self, row: Any) -> tuple[Any, Any]:
        return self.engine(row.ids, row.positions, row.keep, row.targets)

    def logits(self, row: Any, *, of_base: bool) -> Any:
        model = self.engine.module.model
        with model.disable_adapter() if of_base else contextlib.nullcontext():
            found = self.engine(row.ids, row.positions, row.keep, None)
        for weight in model.parameters():
            weight.requires_grad_(id(weight) in self._trained)  # PEFT wakes every adapter when it switches them on
        return found

    def backward(self, loss: Any) -> None:
        # DeepSpeed takes the mean over workers, and a batch's loss is a sum
        self.engine.backward(loss * self.world, scale_wrt_gas=False)

    def step(self, lr: float) -> float:
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.engine.step()
        return float(self.engine.get_global_grad_norm())

    def write(self, folder: str, tag: str) -> None:
        self.engine.save_checkpoint(folder, tag=tag, save_latest=False)

    def read(self, folder: str, tag: str) -> None:
        self.engine.load_checkpoint(folder, tag=tag, load_lr_scheduler_states=False)

    def save(self, send: Callable[[str, str], None], base: str) -> None:
        """Hand the files of the new version over, each by name and path on this node."""
        with tempfile.TemporaryDirectory(prefix="seal-ray-version-") as folder:
            if self._section.mode == "full":
                self._save_full(folder, send, base)
            else:
                self._save_adapter(folder, send)

    def _save_adapter(self, folder: str, send: Callable[[str, str], None]) -> None:
        from safetensors.torch import save_file

        from seal_ray.policy import learner

        tensors, config = learner.adapter_files(self.engine.module.model, self._whole)
        if self.rank == 0:
            save_file(tensors, os.path.join(folder, ADAPTER), metadata={"format": "pt"})
            Path(folder, "adapter_config.json").write_bytes(config)
            for name in (ADAPTER, "adapter_config.json"):
                send(name, os.path.join(folder, name))

    def _whole(self, weight: Any) -> Any:
        """A parameter on CPU in float32: of a trained one the optimiser's copy, which is the finer one."""
        import deepspeed
        from deepspeed.utils import safe_get_full_fp32_param

        if id(weight) in self._trained:
            found = safe_get_full_fp32_param(weight)
            assert found is not None, "DeepSpeed keeps a float32 copy of whatever it trains"
            return found.detach().to("cpu").float().clone()
        with deepspeed.zero.GatheredParameters([weight], enabled=self._section.zero_stage == 3):
            return weight.detach().to("cpu").float().clone()

    def _save_full(self, folder: str, send: Callable[[str, str], None], base: str) -> None:
        import deepspeed
        from safetensors.torch import save_file

        model = self.engine.module.model
        shards: dict[str, list[str]] = {}
        shard: dict[str, Any] = {}

        def close() -> None:
            if shard:
                name = f"model-{len(shards) + 1:05d}.safetensors"
                save_file(shard, os.path.join(folder, name), metadata={"format": "pt"})
                send(name, os.path.join(folder, name))
                os.remove(os.path.join(folder, name))
                shards[name] = list(shard)
                shard.clear()

        total = 0
        for name, weight in model.named_parameters():
            with deepspeed.zero.GatheredParameters([weight], enabled=self._section.zero_stage == 3):
                if self.rank == 0:
                    shard[name] = weight.detach().to("cpu").clone()
                    total += shard[name].nbytes
                    if sum(t.nbytes for t in shard.values()) >= SHARD:
                        close()
        if self.rank == 0:
            close()
            _finish_full(folder, send, base, shards, total)


def _finish_full(
    folder: str, send: Callable[[str, str], None], base: str, shards: dict[str, list[str]], total: int
) -> None:
    """The index of the shards, and from the base what a model's folder holds besides weights."""
    import json

    index = {"metadata": {"total_size": total}, "weight_map": {n: s for s, names in shards.items() for n in names}}
    path = Path(folder, "model.safetensors.index.json")
    path.write_text(json.dumps(index, indent=1, sort_keys=True))
    send(path.name, str(path))
    for file in sorted(Path(base).iterdir()):
        if file.is_file() and ".safetensors" not in file.name and file.suffix in {".json", ".model", ".txt", ".jinja"}:
            send(file.name, str(file))


def _deepspeed(device: str) -> Any:
    import deepspeed
    import deepspeed.ops

    logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
    if device == "cpu":
        # keeps it from compiling a shared-memory collective at first use: gloo does the same without a compiler,
        # and a worker that is lost ends a gloo collective but leaves the other's processes spinning in that one
        deepspeed.ops.__dict__["__compatible_ops__"] = defaultdict(bool)
    return deepspeed


@contextlib.contextmanager
def _sharded_from_the_start(config: dict[str, Any]) -> Iterator[None]:
    """Let transformers cut the weights to shards while it loads them, so that no worker ever holds the whole model."""
    from transformers.integrations.deepspeed import HfDeepSpeedConfig, unset_hf_deepspeed_config

    held = HfDeepSpeedConfig(config)
    try:
        yield
    finally:
        del held
        unset_hf_deepspeed_config()
