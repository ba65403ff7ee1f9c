"""Real rounds that begin with any version of the archive: real Ray, vLLM, PEFT and DeepSpeed, a tiny random model."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from test_gate_rounds import command, configured

import seal_ray
from seal_ray.config import PlacementSection
from seal_ray.fleet import cluster
from seal_ray.policy.versions import flat

# Round 2 draws high and round 3 low, so far that what the versions score makes no difference: the newest, and the base.
SEED = 15184


@pytest.fixture
def connected() -> Iterator[None]:
    import ray

    cluster.connect(PlacementSection(address="local"))
    yield
    ray.shutdown()


@pytest.mark.slow
@pytest.mark.usefixtures("connected")
def test_a_rejected_version_becomes_a_parent_and_its_child_is_accepted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    uri = tmp_path / "run"
    config = configured("knowledge", uri, "run.rounds=4", "run.parent=archive", f"run.seed={SEED}")
    for number, word in enumerate(("reject", "approve", "reject", "approve"), 1):
        assert seal_ray.run(config).held() == number
        assert command(word, str(uri), monkeypatch=monkeypatch) == 0
    run = seal_ray.run(config)
    assert run.latest == 4
    rounds = [run.round(n) for n in (1, 2, 3, 4)]
    assert [r.version.number for r in rounds[:3] if r.version] == [0, 1, 0]
    for one in rounds:
        assert one.version and {e.version for e in one.edits} >= {one.version.digest}, "others wrote its edits"
    assert "though it was rejected" in (run.ledger.round(2).get("parent.json") or {})["why"]
    nodes = {node["version"]["number"]: node for node in flat(run.lineage())}
    children = {number: set(node["children"]) for number, node in nodes.items()}
    digests = {number: node["version"]["digest"] for number, node in nodes.items()}
    assert children[0] >= {digests[1], digests[3]} and digests[2] in children[1], "the fork"
    assert [nodes[n]["gate"]["decision"] for n in (1, 2, 3, 4)] == ["reject", "accept", "reject", "accept"]
    capsys.readouterr()
    assert command("lineage", str(uri), monkeypatch=monkeypatch) == 0
    drawn = capsys.readouterr().out
    assert all(f"version {n}" in drawn for n in range(5))
