"""What the policy section offers, in rounds with real Ray, vLLM, PEFT and DeepSpeed on one cluster."""

from collections.abc import Iterator
from pathlib import Path

import pytest

import seal_ray
from seal_ray import config_file, models
from seal_ray.commands.export import export
from seal_ray.config import PlacementSection
from seal_ray.errors import ConfigError
from seal_ray.fleet import cluster
from seal_ray.loops.history import Round, Run
from seal_ray.policy import versions

pytestmark = pytest.mark.slow

STYLES = ("long", "very_long", "rewrite", "self_qa", "chain_of_thought", "entities", "none")
SMALL = ("inner.repeats=1", "inner.context_arm=false", "run.tasks_per_round=2", "run.rounds=1")
# whatever an edit of a random model is worth, the update has something to learn from
LEARN_FROM_ALL = ("select.rule=threshold", "select.threshold=-1000")


@pytest.fixture(scope="module", autouse=True)
def machines() -> Iterator[None]:
    import ray

    cluster.connect(PlacementSection(address="local"))
    yield
    ray.shutdown()


def run(folder: Path, *overrides: str) -> Run:
    config = config_file.load("jobs/tiny.yaml", [f"run.uri={folder / 'run'}", *SMALL, *overrides])
    return seal_ray.run(config)


def learned(found: Round) -> dict:
    assert found.committed and found.update is not None and found.update["version"], "there was no update"
    return found.update


def test_three_rounds_each_begin_a_fresh_adapter_and_write_in_every_style(tmp_path: Path) -> None:
    mixture = "{" + ", ".join(f"{s}: 1" for s in STYLES) + "}"
    done = run(
        tmp_path, *LEARN_FROM_ALL, "run.rounds=3", "policy.fresh=true", "sampling.edits=6", "domain.style=mixture",
        f"domain.mixture={mixture}",
    )  # fmt: skip
    rounds = done.rounds()
    assert [learned(r)["version"]["rank"] for r in rounds] == [4, 8, 12]
    assert [r.version.rank for r in rounds if r.version] == [0, 4, 8]
    assert {e.style for r in rounds for e in r.edits} == set(STYLES)
    assert all(r.committed and {e.version for e in r.edits} == {r.version.digest} for r in rounds if r.version)
    exported = export(done, tmp_path / "merged", kind="merged", number=0)
    assert exported.effect > 0 and exported.difference < 1e-3


def test_full_fine_tuning_goes_round_twice_under_zero_3_and_is_exported(tmp_path: Path) -> None:
    done = run(
        tmp_path, *LEARN_FROM_ALL, "run.rounds=2", "policy.mode=full", "policy.zero_stage=3", "placement.trainers=2",
        "policy.checkpoint_steps=1",
    )  # fmt: skip
    one, two = done.rounds()
    for found in (one, two):
        update = learned(found)
        assert update["kind"] == "full" and update["drift"] > 0 and update["environment"]["engine"] == "deepspeed"
        assert update["losses"][-1] < update["losses"][0] or len(update["losses"]) == 1
    assert two.version is not None and two.version.kind == "full"
    assert {e.version for e in two.edits} == {two.version.digest}
    # the second update went on from the first one's weights
    assert learned(two)["drift"] > learned(one)["drift"]
    exported = export(done, tmp_path / "merged", kind="merged", number=0)
    current = done.current()
    assert current is not None and exported.effect > 0
    versions.check(current, str(tmp_path / "merged"))
    assert models.load(tmp_path / "merged", dtype="float32").num_parameters() > 0
    with pytest.raises(ConfigError, match="has no adapter"):
        export(done, tmp_path / "adapter", kind="adapter", number=0)


@pytest.mark.parametrize(
    ("algorithm", "placement"),
    [("weighted", "policy.zero_stage=1"), ("pairs", "policy.zero_stage=2"), ("grpo", "policy.zero_stage=3")],
)
def test_every_algorithm_learns_through_deepspeed(algorithm: str, placement: str, tmp_path: Path) -> None:
    workers = 2 if algorithm == "grpo" else 1
    done = run(
        tmp_path, f"select.algorithm={algorithm}", placement, "policy.engine=deepspeed", "sampling.edits=3",
        f"placement.trainers={workers}",
    )  # fmt: skip
    found = done.round(1)
    update = learned(found)
    assert found.choices and {c.algorithm for c in found.choices} == {algorithm}
    assert update["recipe"]["algorithm"] == algorithm and update["recipe"]["seed"] > 0
    assert update["environment"]["engine"] == "deepspeed" and update["kl"] > 0
    assert {e["edit"] for e in update["edits"]} == {c.edit for c in found.choices}
