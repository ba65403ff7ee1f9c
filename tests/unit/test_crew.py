"""Who has which reservation from phase to phase, on a table of nodes and with actors that only answer."""

from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import Any

import pytest
import ray
from cluster_table import ClusterTable

from seal_ray import models
from seal_ray.config import Config, ModelSection
from seal_ray.errors import ConfigError, InfraError, PlacementError
from seal_ray.fleet import cluster, crew, preflight, resources_held
from seal_ray.fleet.actor_health import Sign
from seal_ray.fleet.cluster import Node
from seal_ray.fleet.crew import Crew
from seal_ray.fleet.fair_share import read_claim
from seal_ray.fleet.reservations import Reservations
from seal_ray.loops import session
from seal_ray.records import Version
from seal_ray.sampling import engine
from seal_ray.sampling.engine import EngineSettings

BASE = Version(0, "v0", "base")


class Answers:
    """An actor that has loaded what it was told to load."""

    def __getattr__(self, method: str) -> Any:
        class Bound:
            @staticmethod
            def remote(*args: Any) -> Any:
                value: Any = args[0].digest if method == "load_version" else Sign("v0", None, node="n0", host="n0")

                class Reference:
                    @staticmethod
                    def future() -> Future[Any]:
                        future: Future[Any] = Future()
                        future.set_result(value)
                        return future

                return Reference

        return Bound


class Actors:
    """A class of actors, in the place of Ray's."""

    def __init__(self, role: str, started: dict[str, Any]) -> None:
        self._role, self._started = role, started

    def options(self, **options: Any) -> "Actors":
        self._started[f"{self._role}'s environment"] = options["runtime_env"]["env_vars"]
        return self

    def remote(self, *given: Any) -> Answers:
        self._started[self._role] = given
        return Answers()


class Machines:
    """A cluster that is a table: its nodes, what is reserved there, and a crew that works on it."""

    def __init__(
        self,
        patch: pytest.MonkeyPatch,
        *nodes: tuple[float, float],
        sections: Any = MappingProxyType({}),
        **placement: Any,
    ) -> None:
        self.table = ClusterTable([{"CPU": cpus, "GPU": gpus} for cpus, gpus in nodes])
        patch.setattr(cluster, "connect", lambda *_, **__: "")
        for module in (cluster, preflight):
            patch.setattr(module, "resources", self.nodes)
        for function in (preflight.preflight, preflight.wait_for_least, preflight.room_for_trainers):
            assert function.__kwdefaults__
            patch.setitem(function.__kwdefaults__, "nodes", self.nodes)
        patch.setattr(cluster, "leaving_nodes", dict)
        patch.setattr(ray, "kill", lambda actor, no_restart: None)
        patch.setattr(resources_held, "prove_gone", lambda *_: None)
        patch.setattr(crew, "Reservations", lambda **more: Reservations(self.table, **more))
        self.started: dict[str, Any] = {}  # the last actor of each role: what it was given, and its environment
        patch.setattr(crew, "sampler_class", lambda: Actors("sampler", self.started))
        patch.setattr(crew, "worker_class", lambda: Actors("worker", self.started))
        config = Config.model_validate({"placement": {"deadline": 1, **placement}, **sections})
        self.crew = Crew(config, str(Path(__file__).parent), lambda event: None)

    def nodes(self) -> tuple[Node, ...]:
        def node(number: int, has: dict[str, float]) -> Node:
            return Node(f"n{number}", f"n{number}", has["CPU"], has["GPU"], "H100" if has["GPU"] else "", 64e9)

        return tuple(node(number, has) for number, has in enumerate(self.table.nodes) if has)

    def start(self, role: str) -> set[str]:
        """The actors of a role that run once it was asked for and looked after."""
        actors: Any = self.crew.samplers(BASE, None) if role == "sampler" else self.crew.pool(BASE, None)
        actors.poll(0.2)
        return set(actors._group.members)

    def held(self) -> list[float]:
        """What each placement group holds: GPUs, or CPUs where it has none."""
        return [
            round(sum(b.get("GPU", 0) or b["CPU"] for b in g.bundles), 2)
            for g in self.table.groups
            if g.places is not None
        ]


def test_on_one_gpu_the_roles_take_turns_in_one_reservation_and_trainers_reserve_for_themselves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    machines = Machines(monkeypatch, (8, 1))
    made = len(machines.table.made)
    assert machines.start("sampler") == {"sampler-1"}
    assert machines.start("worker") == {"worker-1"}
    assert machines.held() == [1] and len(machines.table.made) == made, "the GPU was out of hand between two phases"
    told = machines.crew.trainers()
    assert told["num_workers"] == 1 and told["use_gpu"] and machines.held() == []
    assert machines.start("sampler") == {"sampler-1"} and machines.held() == [1]
    machines.crew.close()
    assert not machines.table.groups


def test_side_by_side_all_stay_while_trainers_train_where_there_is_room(monkeypatch: pytest.MonkeyPatch) -> None:
    machines = Machines(monkeypatch, (2, 0))
    assert machines.crew.overlap
    assert machines.start("sampler") == {"sampler-1"} and machines.start("worker") == {"worker-1"}
    before = list(machines.table.groups)
    assert machines.crew.trainers()["num_workers"] == 1
    assert machines.table.groups == before, "what will be needed again was given back"
    assert machines.start("worker") == {"worker-1"}


def test_after_a_lost_node_the_plan_is_made_anew_before_room_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    machines = Machines(monkeypatch, (1, 0), (1, 0), trainer_cpus=1, min_workers=1)
    machines.start("sampler")
    machines.start("worker")
    before = machines.crew.placement
    machines.table.lose(1)
    told = machines.crew.trainers()  # waits for nothing that its own sampler and worker hold
    after = machines.crew.placement
    assert after.layout() != before.layout() and told["cpus_per_worker"] == after.trainer.cpus < before.trainer.cpus


def test_what_is_reserved_is_given_back_also_where_it_is_not_proven_to_be_free(monkeypatch: pytest.MonkeyPatch) -> None:
    machines = Machines(monkeypatch, (8, 1))
    machines.start("worker")
    machines.crew.held._held["worker"]["worker-1"].actor = Answers()

    def not_free(*_: object) -> None:
        raise InfraError("placement: what was held is not free")

    monkeypatch.setattr(resources_held, "prove_gone", not_free)
    with pytest.raises(InfraError, match="not free"):
        machines.crew.close()
    assert not machines.table.groups


def test_a_cluster_whose_nodes_are_refused_keeps_nothing_reserved(monkeypatch: pytest.MonkeyPatch) -> None:
    machines = Machines(monkeypatch, (8, 1))
    assert machines.table.groups

    def refused(config: Config) -> None:
        raise InfraError("the cluster's software is not the driver's")

    monkeypatch.setattr(session, "check_nodes", refused)
    monkeypatch.setattr(session, "Crew", lambda *_: machines.crew)
    with pytest.raises(InfraError, match="software"):
        session.hire(Config(), "", lambda event: None)
    assert not machines.table.groups


def test_what_does_not_fit_is_said_and_nothing_stays_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PlacementError, match="2 workers of 1 GPU"):
        Machines(monkeypatch, (8, 1), min_workers=2)


def test_what_a_run_reserves_says_its_priority_as_configured(monkeypatch: pytest.MonkeyPatch) -> None:
    machines = Machines(monkeypatch, (8, 4), priority=3)
    machines.start("worker")
    machines.crew.release("worker")
    asked: list[float] = []
    room = crew.room_for_trainers
    monkeypatch.setattr(
        crew, "room_for_trainers", lambda plan, own, sink: asked.append(own.priority) or room(plan, own, sink)
    )
    machines.crew.trainers()
    claims = [read_claim(name, True) for name in machines.table.made]
    assert claims and {claim and claim.priority for claim in claims} == {3.0} and asked == [3.0]


def test_engines_take_the_shares_of_a_gpu_that_are_configured(monkeypatch: pytest.MonkeyPatch) -> None:
    sections = {"sampling": {"gpu_memory": 0.7}, "answering": {"engine_memory": 0.3}, "model": {"max_length": 512}}
    machines = Machines(monkeypatch, (8, 1), sections=sections, worker_gpus=0.5)
    machines.start("sampler")
    machines.start("worker")
    (_, sampler, _), (_, worker) = machines.started["sampler"], machines.started["worker"]
    assert worker.gpu_share == 0.5
    for settings, share in ((sampler, 0.7), (worker.engine, 0.15)):  # of a whole GPU
        given = told_to_vllm(monkeypatch, replace(settings, dtype="bfloat16"))
        assert given["gpu_memory_utilization"] == pytest.approx(share) and given["max_model_len"] == 512


def test_engines_serve_the_rank_of_a_version_of_another_run(monkeypatch: pytest.MonkeyPatch) -> None:
    machines = Machines(monkeypatch, (8, 2), sections={"policy": {"rank": 8}, "inner": {"rank": 4}})

    def started_for(version: Version) -> list[int]:
        """The ranks of the engines that are started for a version; none where those that are there serve it."""
        machines.started.clear()
        for group in (machines.crew.samplers(version, None), machines.crew.pool(version, None)):
            group.poll(0.2)
        if not machines.started:
            return []
        (_, sampler, _), (_, worker) = machines.started["sampler"], machines.started["worker"]
        return [sampler.lora_rank, worker.engine.lora_rank]

    own, higher, lower = (replace(BASE, number=n, digest=f"v{n}", kind="adapter", rank=n) for n in (8, 24, 2))
    assert started_for(BASE) == [8, 12] and started_for(own) == []
    assert started_for(higher) == [32, 36] and started_for(lower) == []


@pytest.mark.parametrize(("gpus", "segments"), [(1, "True"), (2, "False")])
def test_an_engine_over_several_gpus_has_no_segments_that_grow(
    monkeypatch: pytest.MonkeyPatch, gpus: int, segments: str
) -> None:
    monkeypatch.delenv("PYTORCH_ALLOC_CONF", raising=False)
    machines = Machines(monkeypatch, (8, 2), mode="colocated", tensor_parallel=gpus)
    for role, grows in (("sampler", segments), ("worker", "True")):
        machines.start(role)
        assert machines.started[f"{role}'s environment"]["PYTORCH_ALLOC_CONF"] == f"expandable_segments:{grows}"
    monkeypatch.setenv("PYTORCH_ALLOC_CONF", "max_split_size_mb:64")  # whoever starts a run may say otherwise
    machines = Machines(monkeypatch, (8, 2), mode="colocated", tensor_parallel=gpus)
    machines.start("sampler")
    assert "PYTORCH_ALLOC_CONF" not in machines.started["sampler's environment"]


@pytest.mark.parametrize(("gpus", "chunk", "batch"), [(1, 16, 128), (1, 4, 64), (0, 16, 64)])
def test_a_gpu_writes_all_edits_of_a_chunk_at_once(
    monkeypatch: pytest.MonkeyPatch, gpus: int, chunk: int, batch: int
) -> None:
    machines = Machines(monkeypatch, (8, gpus), sections={"sampling": {"chunk": chunk, "edits": 8}})
    machines.start("sampler")
    (_, sampler, _) = machines.started["sampler"]
    given = told_to_vllm(monkeypatch, replace(sampler, dtype="bfloat16"))
    assert given["max_num_seqs"] == batch and given["enforce_eager"] is (gpus == 0)
    brief = told_to_vllm(monkeypatch, replace(sampler, dtype="bfloat16", brief=True))
    assert brief["enforce_eager"] is True, "graphs are captured for a few tokens"


def test_an_engine_on_cpu_takes_the_memory_that_is_configured(monkeypatch: pytest.MonkeyPatch) -> None:
    machines = Machines(monkeypatch, (4, 0), sections={"sampling": {"kv_cache_gb": 0.25}}, worker_cpus=2)
    machines.start("sampler")
    machines.start("worker")
    (_, sampler, _), (_, worker) = machines.started["sampler"], machines.started["worker"]
    assert worker.threads == 2
    for settings in (sampler, worker.engine):
        assert told_to_vllm(monkeypatch, settings)["kv_cache_memory_bytes"] == 2**28


@pytest.mark.parametrize("gpus", [0, 1])
def test_an_engine_that_does_not_start_names_the_settings_that_it_was_given(
    monkeypatch: pytest.MonkeyPatch, gpus: int
) -> None:
    machines = Machines(monkeypatch, (8, gpus))
    machines.start("sampler")
    machines.start("worker")
    (_, sampler, _), (_, worker) = machines.started["sampler"], machines.started["worker"]
    monkeypatch.setattr(Vllm, "full", True)
    for settings, memory, rank in (
        (sampler, "sampling.gpu_memory", "policy.rank"),
        (worker.engine, "answering.engine_memory", "inner.rank with policy.rank"),
    ):
        with pytest.raises(InfraError, match="No available memory") as refused:
            told_to_vllm(monkeypatch, replace(settings, dtype="bfloat16"))
        assert f"change {memory if gpus else 'sampling.kv_cache_gb'} or lower model.max_length" in refused.value.hint
        with pytest.raises(ConfigError, match=f"^{rank}: vLLM serves adapters up to rank"):
            told_to_vllm(monkeypatch, replace(settings, lora_rank=600))


class Vllm:
    """In the place of the library: an engine as long as it was asked for, where it is not full."""

    full = False

    def LLM(self, **given: Any) -> Any:
        if self.full:
            raise ValueError("No available memory for the cache blocks.")
        self.given = given
        configured = SimpleNamespace(max_model_len=given["max_model_len"])
        return SimpleNamespace(llm_engine=SimpleNamespace(model_config=configured))


def told_to_vllm(patch: pytest.MonkeyPatch, settings: EngineSettings) -> dict[str, Any]:
    """What vLLM is started with."""
    vllm = Vllm()
    patch.setattr(engine, "_import_vllm", lambda device: vllm)
    engine.Engine(models.fetch(ModelSection(name="builtin:tiny")), replace(settings, metrics=False))
    return vllm.given
