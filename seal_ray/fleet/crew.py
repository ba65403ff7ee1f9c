"""The crew of a run: it joins the cluster, plans who runs where, and has samplers, workers and trainers at hand."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from seal_ray import models
from seal_ray.config import Config
from seal_ray.errors import ConfigError
from seal_ray.events import RoleName, Sink
from seal_ray.fleet import cluster
from seal_ray.fleet.actors import RayActors
from seal_ray.fleet.placement import Placement, plan_placement
from seal_ray.fleet.pool import Pool
from seal_ray.fleet.preflight import preflight, room_for_trainers, wait_for_least
from seal_ray.fleet.programs import run_on_cluster
from seal_ray.fleet.reservations import Reservations
from seal_ray.fleet.resources_held import ResourcesHeld
from seal_ray.fleet.samplers import SamplerGroup, sampler_class
from seal_ray.fleet.worker import WorkerSettings, worker_class
from seal_ray.models.shared import Shared, kept_at, share
from seal_ray.records import Version
from seal_ray.sampling.adapters import LARGEST_RANK, served_rank
from seal_ray.sampling.engine import EngineSettings
from seal_ray.sandbox import Program, ProgramLimits, ProgramResult
from seal_ray.sandbox.choice import WantedIsolation

PROCESS_BYTES = 1.5e9  # an actor without a model: its libraries and what they keep
COPIES = 4  # of the weights as they are stored: in float32, and as much again for what is computed with them
ANSWERING_ADAPTERS = 8  # adapters that answer in one batch of the engine beside a bank
ALLOCATOR = "PYTORCH_ALLOC_CONF"


class Crew:
    """Everything that computes for a run. Roles come up when they are asked for, and make room for each other."""

    def __init__(self, config: Config, folder: str, sink: Sink) -> None:
        self._config, self._sink = config, sink
        self._rank = engine_rank(config)  # refuses what no engine could serve, before anything is started
        self.head = cluster.connect(config.placement)  # its address
        plan = plan_placement(
            config.placement,
            cluster.resources(),
            most_trainers=config.policy.global_batch,
            actor_bytes=PROCESS_BYTES + COPIES * models.weight_bytes(folder),
        )
        self._reservations = Reservations(priority=config.placement.priority)
        self.placement: Placement = preflight(plan, self._reservations, config.placement.deadline, sink)
        self.held = ResourcesHeld(self.placement, sink, reservations=self._reservations)
        self._samplers: SamplerGroup | None = None
        self._pool: Pool | None = None

    @property
    def overlap(self) -> bool:
        """Whether samplers and workers are there at the same time."""
        return self.placement.overlap

    def samplers(self, version: Version, adapter_dir: str | None) -> SamplerGroup:
        """The samplers, writing with this version."""
        self._be_ready_for(version)
        if self._samplers is None:
            self._make_room("sampler")
            actors = RayActors("sampler", self.held, self._make_sampler)
            self._samplers = SamplerGroup(self.placement, actors, self._sink, share=self._share)
        self._samplers.version(version, adapter_dir)
        return self._samplers

    def pool(self, version: Version, adapter_dir: str | None) -> Pool:
        """The workers, trying with this version."""
        self._be_ready_for(version)
        if self._pool is None:
            self._make_room("worker")
            actors = RayActors("worker", self.held, self._make_worker)
            most = self.placement.worker.most
            self._pool = Pool(
                actors, self.placement.section, self._sink, wave=self._config.inner.wave, most=most, share=self._share
            )
        self._pool.version(version, adapter_dir)
        return self._pool

    def run_programs(
        self, programs: Sequence[Program], limits: ProgramLimits, isolation: WantedIsolation
    ) -> list[ProgramResult]:
        """What a model wrote, in sandboxes of the cluster's nodes; from any thread."""
        return run_on_cluster(programs, limits, isolation)

    def trainers(self) -> dict[str, Any]:
        """What the policy update is given to run on; whoever is in its way has gone by then.

        The update is held to be over when another role is asked for, or when `release("trainer")` says so.
        """
        self.plan_anew()
        self._make_room("trainer")
        role = self.placement.trainer
        asked = Reservations(priority=self._config.placement.priority, run=self._reservations.run)
        count = room_for_trainers(self.placement, asked, self._sink)
        self.held.begin_training(count)
        # on few cores a lease asks for less than it uses: the roles seldom work at once
        threads = 0 if role.gpus else max(1, int(self.placement.section.trainer_cpus))
        on_gpu = role.gpus > 0
        return {"num_workers": count, "use_gpu": on_gpu, "cpus_per_worker": role.cpus, "threads": threads}

    def release(self, *roles: RoleName) -> None:
        """Let roles go, and prove that what they held is free."""
        if "sampler" in roles and self._samplers:
            self._samplers.close()
            self._samplers = None
        if "worker" in roles and self._pool:
            self._pool.close()
            self._pool = None
        if "trainer" in roles:
            self.held.end_training()
        own: list[RoleName] = [r for r in roles if r != "trainer"]
        self.held.release(*own, deadline=min(60.0, self.placement.section.deadline))

    def gpu_hours(self) -> float:
        return self.held.gpu_hours()

    def close(self) -> None:
        """Let everybody go; also where what was held is not proven to be free, others may try."""
        try:
            self.release("sampler", "worker", "trainer")
        finally:
            self._reservations.let_go()

    def plan_anew(self) -> None:
        """Nodes may have come or gone since the plan. Where that changes who stands where, everybody goes first."""
        new = self.placement.again(cluster.resources())
        if new.layout() != self.placement.layout():
            self.release("sampler", "worker", "trainer")
            self._reservations.let_go()
        self.placement = self.held.placement = new

    def _be_ready_for(self, version: Version) -> None:
        """A version of another run may have a higher rank than the engines of this one were started for: they go."""
        if version.rank > self._rank:
            self.release("sampler", "worker")
            self._rank = served_rank(version.rank)

    def _make_room(self, role: RoleName) -> None:
        """Whoever is in the way of a role goes, and its least is reserved, with that of those who stand beside it."""
        self.release(*self.placement.before(role), "trainer")
        if role != "trainer":
            together = next(phase for phase in self.placement.phases() if role in [r.name for r in phase])
            deadline = self.placement.section.deadline
            wait_for_least(self.placement, together, self._reservations, deadline, self._sink)
        elif self.placement.before(role):
            self._reservations.let_go()  # Ray Train reserves for itself

    def _make_sampler(self, _name: str, options: dict[str, Any]) -> Any:
        config = self._config
        settings = replace(
            self._engine(),
            lora_rank=self._rank,
            tensor_parallel=config.placement.tensor_parallel if self.placement.device == "gpu" else 1,
            across_nodes=self.placement.sampler.across_nodes,
            gpu_memory=config.sampling.gpu_memory,
        )
        if self.placement.device == "gpu":  # a chunk's edits are all written at once
            settings = replace(settings, batch=max(settings.batch, config.sampling.chunk * config.sampling.edits))
        options = _for_vllm(options, over_gpus=settings.tensor_parallel > 1)
        return sampler_class().options(**options).remote(config.model, settings, config.storage)

    def _make_worker(self, name: str, options: dict[str, Any]) -> Any:
        config = self._config
        on_gpu = self.placement.device == "gpu"
        settings = WorkerSettings(
            config.model,
            config.storage,
            config.inner,
            config.answering,
            device="cuda" if on_gpu else "cpu",
            threads=0 if on_gpu else max(1, int(config.placement.worker_cpus)),
            gpu_share=config.placement.worker_gpus if on_gpu else 1.0,
        )
        if config.answering.how == "bank":
            return worker_class().options(**options).remote(name, settings)
        rank = config.inner.rank + self._rank  # a candidate's adapter stands beside the policy's
        engine = replace(
            self._engine(),
            lora_rank=rank,
            adapters=ANSWERING_ADAPTERS,
            gpu_memory=config.answering.engine_memory * settings.gpu_share,
            rank_from="inner.rank with policy.rank",
            memory_from="answering.engine_memory",
        )
        return worker_class().options(**_for_vllm(options)).remote(name, replace(settings, engine=engine))

    def _share(self, adapter_dir: str | None, version: Version) -> Shared | None:
        return share(adapter_dir, kept_at(self._config, version))

    def _engine(self) -> EngineSettings:
        """What every vLLM engine of the run has in common."""
        config = self._config
        return EngineSettings(
            device=self.placement.device,
            dtype=config.model.dtype,
            max_length=config.model.max_length,
            kv_cache_gb=config.sampling.kv_cache_gb,
            trust_remote_code=config.model.trust_remote_code,
            metrics=config.observe.ray_metrics,
        )


def _for_vllm(options: dict[str, Any], *, over_gpus: bool = False) -> dict[str, Any]:
    """An actor's options with the environment in which vLLM runs inside the actor's own process."""
    env = {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", **options["runtime_env"]["env_vars"]}
    if over_gpus and ALLOCATOR in env:
        # The GPUs of one engine hand each other the addresses of what their CUDA graphs compute in, by a call of CUDA
        # that takes no memory of a growing segment: vLLM's processes end there. An engine has no use for such segments.
        env[ALLOCATOR] = "expandable_segments:False"
    return {**options, "runtime_env": {"env_vars": env}}


def engine_rank(config: Config) -> int:
    """The rank that samplers must be ready for; 0 where versions have no adapter."""
    policy = config.policy
    if policy.mode == "full":
        return 0
    rank = config.largest_rank
    if rank > LARGEST_RANK:
        raise ConfigError(
            f"policy.fresh: {config.run.rounds} rounds of rank {policy.rank} make an adapter of rank {rank}, "
            f"and vLLM serves {LARGEST_RANK} at most",
            hint="lower policy.rank or run.rounds, set fresh: false, or export the version merged and begin a new run",
        )
    return served_rank(rank)
