"""What is in jobs/ can be submitted: valid with its data, explained, listed, and fitting the machines it is for."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from seal_ray import config_checks, config_file
from seal_ray.commands import plan as planning
from seal_ray.config import ArcDomain, CodeDomain, Config, KnowledgeDomain, MathDomain
from seal_ray.domains import training_tasks
from seal_ray.errors import ConfigError, SealError
from seal_ray.fleet.cluster import Node
from seal_ray.fleet.crew import engine_rank
from seal_ray.fleet.placement import Placement, plan_placement
from seal_ray.records import PAPER_RECIPE

ROOT = Path(__file__).parents[2]
JOBS = sorted((ROOT / "jobs").glob("*.yaml"))
SHARED = Path("../shared/data")
FORMS = Path("tests/recorded/forms")  # invented rows in the form of public data sets


def load(name: str, *overrides: str) -> Config:
    return config_file.load(ROOT / "jobs" / name, overrides)


def in_place_of_what_users_bring(config: Config) -> list[str]:
    """Overrides that put data of the same form where a configuration names files that its user has to fetch."""
    domain = config.domain
    if isinstance(domain, MathDomain | CodeDomain) and domain.data.startswith("hf:"):
        return [f"domain.data={FORMS}/{'gsm8k' if domain.name == 'math' else 'mbpp'}.jsonl"]
    if not isinstance(domain, KnowledgeDomain | ArcDomain) or (ROOT / domain.data).exists():
        return []
    if isinstance(domain, KnowledgeDomain):
        return [f"domain.data={SHARED}/squad_dev.json"]
    found = [f"domain.data={SHARED}/arc/training_challenges_filtered.json"]
    return [*found, f"domain.solutions={SHARED}/arc/training_solutions_filtered.json"]


@pytest.mark.parametrize("path", JOBS, ids=lambda p: p.name)
def test_every_configuration_passes_validate_with_data_of_its_form(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    overrides = in_place_of_what_users_bring(load(path.name))
    if any(not Path(o.partition("=")[2]).exists() for o in overrides):
        pytest.skip(f"{SHARED} is not there")
    training_tasks(load(path.name, *overrides))
    with pytest.raises(SealError):
        training_tasks(load(path.name, *overrides, "domain.data=no-such-file.json"))


@pytest.mark.parametrize("path", JOBS, ids=lambda p: p.name)
def test_every_configuration_says_when_to_take_it_and_is_listed(path: Path) -> None:
    assert path.read_text().startswith("# ")
    assert f"`{path.name}`" in (ROOT / "jobs/README.md").read_text()


BASE_MODELS = re.compile(r"Qwen/Qwen2\.5-\d+B$")


@pytest.mark.parametrize("path", JOBS, ids=lambda p: p.name)
def test_a_base_model_whose_tokenizer_has_a_chat_template_is_not_spoken_to(path: Path) -> None:
    model = load(path.name).model
    if BASE_MODELS.search(model.name):
        assert model.chat == "no", "its tokenizer ships a template that it was never trained with"
    elif model.name.endswith("Instruct"):
        assert model.chat != "no"


def test_the_papers_recipe_can_go_on_for_as_many_rounds_as_its_adapters_can_be_served() -> None:
    assert engine_rank(load("squad-7b-paper.yaml", "run.rounds=3")) == 256, "three adapters of 64 side by side"
    assert engine_rank(load("squad-7b-paper.yaml", "run.rounds=8")) == 512
    with pytest.raises(ConfigError, match=r"policy.fresh: 9 rounds of rank 64 make an adapter of rank 576"):
        engine_rank(load("squad-7b-paper.yaml", "run.rounds=9"))
    assert engine_rank(load("squad-7b-paper.yaml", "run.rounds=9", "policy.fresh=false")) == 64


def test_what_the_list_names_is_there() -> None:
    for name in re.findall(r"`([\w-]+\.(?:yaml|py))`", (ROOT / "jobs/README.md").read_text()):
        assert (ROOT / "jobs" / name).exists(), name


def nodes(count: int, cpus: float, gpus: float = 0) -> list[Node]:
    return [Node(f"n{i}", f"n{i}", cpus, gpus, "H100" if gpus else "", 2e12, cpus, gpus) for i in range(count)]


def lacking(plan: Placement, machine: Sequence[Node]) -> list[str]:
    return [text for phase in plan.phases() if "find no place" in (text := plan.lacks(phase, machine))]


@pytest.mark.parametrize(
    ("name", "machine", "workers", "trainers"),
    [
        ("cpu.yaml", nodes(1, 8), 6, 1),
        ("one-gpu.yaml", nodes(1, 16, 1), 1, 1),
        ("squad-3b.yaml", nodes(1, 16, 1), 1, 1),
        ("8-gpus.yaml", nodes(1, 64, 8), 7, 8),
        ("gsm8k-7b.yaml", nodes(1, 64, 8), 7, 8),
        ("mbpp-7b.yaml", nodes(1, 64, 8), 7, 8),
        ("4-nodes-of-8.yaml", nodes(4, 64, 8), 28, 32),
    ],
)
def test_a_configuration_fits_the_machines_that_it_is_for(
    name: str, machine: list[Node], workers: int, trainers: int
) -> None:
    config = load(name)
    plan = plan_placement(config.placement, machine, most_trainers=config.policy.global_batch)
    assert not lacking(plan, machine)
    assert (plan.worker.count, plan.trainer.count) == (workers, trainers)
    if machine[0].gpus:
        fewer = [n for n in machine if n.id != "n0"] or nodes(1, 16)
        assert name == "4-nodes-of-8.yaml" or lacking(plan, fewer)


@pytest.mark.parametrize("name", ["gsm8k-7b.yaml", "mbpp-7b.yaml"])
def test_a_computed_job_is_planned_with_data_of_its_form(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    config = load(name, *in_place_of_what_users_bring(load(name)))
    assert not config_checks.check(config)
    planned: Any = planning.make(config)
    train = planned["tasks"]["train"]
    assert planned["round"]["edits"] == min(train, config.run.tasks_per_round) * config.sampling.edits > 0
    assert config.answering.max_tokens >= config.answering.engine_from, "long answers are vLLM's to give"


def test_the_papers_recipe_is_what_it_says_it_is() -> None:
    config = load("squad-7b-paper.yaml")
    assert config.inner.recipe() == PAPER_RECIPE
    assert (config.run.rounds, config.run.tasks_per_round) == (2, 50)
    assert (config.sampling.edits, config.inner.repeats, config.inner.extra_repeats) == (5, 3, 0)
    policy = config.policy
    assert (policy.rank, policy.alpha, policy.epochs, policy.lr, policy.global_batch) == (64, 128, 2, 3e-4, 10)
    assert policy.fresh and policy.zero_stage == 3 and policy.targets == ("all-linear",)
    assert (config.grading.grader, config.grading.reward, config.select.rule) == ("judge", "accuracy", "best")
    assert config.gate.mode == "off"


@pytest.mark.parametrize(("flags", "dtype_bytes", "tflops"), [({"avx2"}, 4, 0.1), ({"avx2", "avx512_bf16"}, 2, 0.3)])
def test_a_job_without_gpus_is_planned_for_this_machine_in_its_own_dtype(
    flags: set[str], dtype_bytes: int, tflops: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("seal_ray.models.loading._cpu_flags", lambda: flags)
    monkeypatch.setattr("seal_ray.commands.plan._main_memory", lambda: 4_000_000_000)
    planned: Any = planning.make(load("cpu.yaml"))
    assert planned["memory"]["base_gb"] == pytest.approx(0.1345 * dtype_bytes, abs=0.01)
    assert planned["memory"]["wave_gb"] <= planned["memory"]["device_gb"] == 4
    assert [u["devices"] for u in planned["update"]] == [1]
    assert planned["cpu_hours"]["tflops"] == tflops and "gpu_hours" not in planned
    roomy = planning.make(load("cpu.yaml", "placement.device=gpu"))["memory"]["wave"]  # type: ignore[index]
    assert planned["memory"]["wave"] <= roomy


def test_a_small_model_is_planned_for_either_device_and_a_large_one_for_gpus() -> None:
    small, large = planning.make(load("cpu.yaml", "placement.device=auto")), planning.make(load("one-gpu.yaml"))
    assert small["cpu_hours"]["all"] > small["gpu_hours"]["all"] > 0  # type: ignore[index]
    assert "cpu hours" in planning.show(small) and "gpu hours" in planning.show(small)
    assert "cpu_hours" not in large


def test_moments_in_fewer_bits_are_planned_for_with_more_candidates_at_once() -> None:
    def wave(moments: str) -> int:
        planned: Any = planning.make(load("one-gpu.yaml", "inner.wave_tokens=8192", f"inner.moments={moments}"))
        return planned["memory"]["wave"]

    assert wave("float32") < wave("bfloat16") < wave("int8")
