"""Who computes where."""

from typing import Literal

from pydantic import Field, model_validator

from seal_ray.config.section import LONGEST, Section


class PlacementSection(Section):
    mode: Literal["auto", "colocated", "split"] = Field(
        default="auto", description="roles take turns on the same devices, or stand side by side"
    )
    device: Literal["auto", "cpu", "gpu"] = Field(default="auto", description="auto: GPUs if the cluster has any")
    address: str = Field(
        default="auto",
        description="Ray cluster to join; auto: one that is running, else a local one; local: always a new local one",
    )
    samplers: int = Field(default=0, ge=0, description="vLLM engines; 0: as many as fit")
    tensor_parallel: int = Field(default=1, ge=1, le=64, description="GPUs of one vLLM engine")
    across_nodes: bool = Field(default=False, description="let one engine reach over nodes")
    min_workers: int = Field(default=1, ge=1, description="with fewer for longer than worker_grace the round stops")
    max_workers: int = Field(
        default=0, ge=0, description="0: as many as there is work and room for; an autoscaler is asked for them"
    )
    priority: float = Field(
        default=1, gt=0, le=1000, description="weight of this run's share where several runs want one cluster"
    )
    worker_gpus: float = Field(default=1, gt=0, le=1, description="share of a GPU for a worker")
    worker_cpus: float = Field(default=1, gt=0, description="CPUs for a worker")
    trainers: int = Field(default=0, ge=0, description="workers of the policy update; 0: one per GPU, one on CPU")
    trainer_cpus: float = Field(default=1, gt=0, description="CPUs for each of these")
    deadline: float = Field(default=600, gt=0, le=LONGEST, description="seconds to wait for what is missing")
    worker_grace: float = Field(
        default=300, gt=0, le=LONGEST, description="seconds below min_workers before the round stops"
    )
    heartbeat: float = Field(default=10, gt=0, le=LONGEST, description="seconds between signs of life")
    wave_wait: float = Field(
        default=2, ge=0, le=LONGEST, description="seconds that a wave which is not full waits for more"
    )
    window: int = Field(default=16, ge=1, description="tasks from which waves are cut")
    candidate_deadline: float = Field(
        default=900, gt=0, le=LONGEST, description="seconds for a candidate before it is tried elsewhere"
    )
    candidate_retries: int = Field(
        default=2, ge=0, le=20, description="further attempts for a candidate after a loss that was not its own"
    )

    @model_validator(mode="after")
    def _consistent(self) -> "PlacementSection":
        if self.max_workers and self.min_workers > self.max_workers:
            raise ValueError(f"min_workers {self.min_workers} is more than max_workers {self.max_workers}")
        if self.worker_gpus < 1 and abs(1 / self.worker_gpus - round(1 / self.worker_gpus)) > 1e-6:
            raise ValueError(f"worker_gpus {self.worker_gpus} does not divide a GPU; use 1, 0.5, 0.25, …")
        return self
