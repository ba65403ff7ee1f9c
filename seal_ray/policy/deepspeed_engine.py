"""The model under DeepSpeed: ZeRO 1 to 3 over the workers of an update. All that is known here of DeepSpeed.

All workers call every method together.
"""

import contextlib
import logging
from collections import defaultdict
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

from seal_ray import models
from seal_ray.config import PolicySection
from seal_ray.policy import version_files


class DeepSpeedEngine:
    """One worker's part of the model, with the optimiser's state on the device or on the CPU."""

    def __init__(
        self, base: str, start: str | None, section: PolicySection, seed: int, device: str, *, trust: bool = False
    ) -> None:
        """`start`: an adapter's folder, or in full fine-tuning that of the weights to go on from.

        `trust`: code that comes with the model may run.
        """
        import torch
        import torch.distributed as dist

        from seal_ray.policy import learner

        deepspeed = _deepspeed(device)
        _let_groups_wait(section.collective_timeout)
        self.rank, self.world = dist.get_rank(), dist.get_world_size()
        self.device = torch.device(device)
        self._section, self._base, self._trust = section, base, trust
        self._base_learner: Any = None
        self._dtype = models.pick_dtype(section.dtype, device)
        config = self._config()
        with _sharded_from_the_start(config) if section.zero_stage == 3 else contextlib.nullcontext():
            model = learner.build(base, start, section, seed, self._dtype, device, trust=trust)
        if section.checkpointing:
            # under ZeRO 3 weights are gone when a layer is recomputed, which only the reentrant way survives
            model.gradient_checkpointing_enable({"use_reentrant": section.zero_stage == 3})
            model.enable_input_require_grads()
        model.train()  # or nothing is recomputed; there is no dropout left that it could wake
        self.adapter_rank = 0 if section.mode == "full" else learner.adapter_rank(model)
        weights = [p for _, p in learner.trainable(model)]
        self._trained = {id(p) for p in weights}
        optimizer = torch.optim.AdamW(weights, lr=section.lr, weight_decay=section.weight_decay)
        self.engine, self.optimizer, _, _ = deepspeed.initialize(
            model=learner.Learner(model), optimizer=optimizer, model_parameters=weights, config=config
        )

    def _config(self) -> dict[str, Any]:
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
            "bf16": {"enabled": self._dtype == "bfloat16"},
            "gradient_clipping": section.clip,
            "zero_allow_untested_optimizer": True,
            "zero_force_ds_cpu_optimizer": False,
            "steps_per_print": 10**9,
        }

    # learning

    def forward(self, row: Any) -> tuple[Any, Any]:
        return self.engine(row.ids, row.positions, row.keep, row.targets)

    def logits(self, row: Any, *, of_base: bool) -> Any:
        from seal_ray.policy import learner

        if self._section.mode == "full":
            return (self._base_model() if of_base else self.engine)(row.ids, row.positions, row.keep, None)
        with learner.without_adapter(self.engine.module.model, of_base):
            return self.engine(row.ids, row.positions, row.keep, None)

    def _base_model(self) -> Any:
        """In full fine-tuning nothing is left of the base in the model: it is loaded once more, sharded alike."""
        from seal_ray.policy import learner

        if self._base_learner is None:
            sharded = self._section.zero_stage == 3
            config = self._config()
            config["zero_optimization"].pop("offload_optimizer", None)
            with _sharded_from_the_start(config) if sharded else contextlib.nullcontext():
                device = str(self.device)
                model = models.load(self._base, dtype=self._dtype, device=device, trust_remote_code=self._trust)
            self._base_learner = learner.Learner(model)
            if sharded:
                self._base_learner = _deepspeed(str(self.device)).initialize(model=self._base_learner, config=config)[0]
        return self._base_learner

    def backward(self, loss: Any) -> None:
        # DeepSpeed takes the mean over workers, and a batch's loss is a sum
        self.engine.backward(loss * self.world, scale_wrt_gas=False)

    def step(self, lr: float) -> float:
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.engine.step()
        return float(self.engine.get_global_grad_norm())

    # among workers

    def sum(self, values: Any) -> list[float]:
        import torch.distributed as dist

        there = values.to(self.device)
        dist.all_reduce(there)
        return there.tolist()

    def gather(self, value: Any) -> list[Any]:
        import torch.distributed as dist

        everyone: list[Any] = [None] * self.world
        dist.all_gather_object(everyone, value)
        return everyone

    # what is kept

    def write(self, folder: Path, tag: str) -> None:
        self.engine.save_checkpoint(str(folder), tag=tag, save_latest=False)

    def read(self, folder: Path, tag: str) -> None:
        self.engine.load_checkpoint(str(folder), tag=tag, load_lr_scheduler_states=False)

    def save(self, send: Callable[[str, str], None]) -> None:
        """Hand the files of the new version over, each by name and path on the first worker's node."""
        from seal_ray.policy import learner

        model = self.engine.module.model
        if self._section.mode == "full":
            weights = self._all_weights(model)
            if self.rank == 0:
                version_files.send_full(weights, self._base, send, code=self._trust)
            for _ in weights:
                pass  # the others go along: each weight is put together by all
        else:
            files = learner.adapter_files(model, self._whole)
            if self.rank == 0:
                version_files.send_adapter(*files, send)

    def _all_weights(self, model: Any) -> Iterator[tuple[str, Any]]:
        import deepspeed

        for name, weight in model.named_parameters():
            with deepspeed.zero.GatheredParameters([weight], enabled=self._section.zero_stage == 3):
                copy = weight.detach().to("cpu").clone() if self.rank == 0 else None
            yield name, copy

    def _whole(self, weight: Any) -> Any:
        """A parameter on CPU in float32: of a trained one the optimiser's copy, which is the finer one."""
        import deepspeed
        from deepspeed.utils import safe_get_full_fp32_param

        if id(weight) in self._trained:
            whole = safe_get_full_fp32_param(weight)
            assert whole is not None, "DeepSpeed keeps a float32 copy of whatever it trains"
            return whole.detach().to("cpu").float().clone()
        with deepspeed.zero.GatheredParameters([weight], enabled=self._section.zero_stage == 3):
            return weight.detach().to("cpu").float().clone()


def _deepspeed(device: str) -> Any:
    import deepspeed
    import deepspeed.ops

    logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
    if device == "cpu":
        # keeps it from compiling a shared-memory collective at first use: gloo does the same without a compiler,
        # and a worker that is lost ends a gloo collective but leaves the other's processes spinning in that one
        deepspeed.ops.__dict__["__compatible_ops__"] = defaultdict(bool)
    return deepspeed


def _let_groups_wait(seconds: float) -> None:
    """DeepSpeed makes groups of processes without saying how long they wait: they take torch's default, half an hour
    on CPU, whatever the first group was made with."""
    from torch.distributed import distributed_c10d

    groups: Any = distributed_c10d
    groups.default_pg_timeout = groups.default_pg_nccl_timeout = timedelta(seconds=max(1.0, seconds))


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
