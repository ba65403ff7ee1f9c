"""The gate at the end of real rounds of both domains: real Ray, vLLM, PEFT and DeepSpeed with a tiny random model.

One round of each domain is held at its gate. Whatever else a gate may do with a round is done with the same trials:
with other settings of the gate, its copy goes on from the ledger and asks for no machine.
"""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

import seal_ray
from seal_ray import cli, config_file
from seal_ray.config import Config, PlacementSection
from seal_ray.fleet import cluster
from seal_ray.loops.history import Run
from seal_ray.loops.rounds import run_rounds
from seal_ray.loops.session import Session
from seal_ray.policy.versions import flat
from seal_ray.records import Candidate
from seal_ray.software import software
from seal_ray.storage.ledger import Ledger

pytestmark = pytest.mark.timeout(900)

ROOT = Path(__file__).parents[2]
SMALL = [
    *("run.rounds=1", "run.tasks_per_round=2", "inner.repeats=1", "inner.context_arm=false", "gate.mode=hold"),
    *("gate.tasks=2", "gate.edits=1", "observe.progress=quiet", "observe.ray_metrics=false"),
    # whatever an edit of a random model is worth, there is something to learn from
    *("select.rule=threshold", "select.threshold=-1000"),
]
KNOWLEDGE = ["domain.validation=0.2"]
ARC = {
    "name": "arc",
    "data": "jobs/data/arc_tiny_challenges.json",
    "validation": 0.1,
    "learning_rates": [0.001, 0.002],
    "epoch_choices": [1, 2],
    "max_epochs": 2,
    "max_examples": 4,
    "max_grid": 3,
    "views": 1,
}


def guarded(domain: str, folder: Path) -> Path:
    """Two tasks of their own whose questions must not get worse."""
    path = folder / "guarded.json"
    if domain == "arc":
        puzzles = json.loads((ROOT / str(ARC["data"])).read_text())
        path.write_text(json.dumps({f"guarded-{name}": puzzle for name, puzzle in list(puzzles.items())[:2]}))
    else:
        passages = json.loads((ROOT / "seal_ray/demo/quickstart.json").read_text())[:2]
        path.write_text(json.dumps([p | {"context": f"It is said: {p['context']}"} for p in passages]))
    return path


def configured(domain: str, uri: Path, *changes: str) -> Config:
    own = [f"domain={json.dumps(ARC)}"] if domain == "arc" else KNOWLEDGE
    return config_file.load("jobs/tiny.yaml", [f"run.uri={uri}", *own, *SMALL, *changes])


@pytest.fixture(scope="module", params=["knowledge", pytest.param("arc", marks=pytest.mark.slow)])
def held(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    import ray

    folder = tmp_path_factory.mktemp(request.param)
    cluster.connect(PlacementSection(address="local"))
    try:
        config = configured(request.param, folder / "run", f"gate.regression={guarded(request.param, folder)}")
        yield seal_ray.run(config)
    finally:
        ray.shutdown()


def copy(held: Run, to: Path, *changes: str) -> Config:
    """The held round at another place; with changes to the gate, as if it had just come to it. Its configuration."""
    shutil.copytree(held.uri, to)
    config = config_file.resolved(held.record["config"], [f"run.uri={to}", *changes])
    if changes:
        ledger = Ledger(str(to))
        ledger.acquire("test")
        ledger.round(1).discard("gate.json")
        ledger.close()
        (to / "run.json").unlink()
        ledger.create(config.model_dump(mode="json"), software(), config.run.seed)
    return config


def nobody(*_: Any) -> Any:
    raise AssertionError("machines were asked for, though every trial is in the ledger")


def go_on(config: Config) -> Run:
    with Session(config, hire=nobody) as session:
        run_rounds(session)
    return Run(config.run.uri)


def command(*words: str, monkeypatch: pytest.MonkeyPatch) -> int:
    """The exit code of the command line, in this process."""
    monkeypatch.setattr("sys.argv", ["seal-ray", *words])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return int(ended.value.code or 0)


def versions(run: Run) -> tuple[Any, Any]:
    """The one that wrote the round, and the one that it made."""
    found = run.round(1)
    assert found.version and found.update
    return found.version.digest, found.update["version"]["digest"]


def test_a_held_round_waits_with_both_versions_tried(held: Run, tmp_path: Path) -> None:
    found = held.round(1)
    assert held.held() == 1 and held.latest == 0 and not found.committed
    assert found.gate and found.gate["decision"] == "hold" and found.gate["advice"] in {"accept", "reject"}
    figures = found.gate["figures"]
    assert figures["measure"] == "likelihood" and figures["tasks"] == 2 and figures["unpaired"] == 0
    assert figures["new"] - figures["old"] == pytest.approx(figures["gain"]) and figures["gain"] != 0
    old, new = versions(held)
    own = {t.id for t in found.tasks}
    asked = {e.task for e in found.edits} - own
    assert len(asked) == 2 and {e.version for e in found.edits if e.task in asked} == {old, new}
    alone: dict[str, list[Candidate]] = {}
    for candidate in found.candidates:
        if candidate.kind == "baseline":
            alone.setdefault(candidate.task, []).append(candidate)
    # each version answers by itself: on the validation tasks and on those of gate.regression
    assert len(alone.keys() - own - asked) == 2
    assert all(len(candidates) == 2 for task, candidates in alone.items() if task not in own)
    tried = {t.candidate for t in found.trials if not t.failure}
    assert {c.id for c in found.candidates} == tried == {v.candidate for v in found.verdicts}
    # the same command again waits on
    again = go_on(copy(held, tmp_path / "run"))
    assert again.held() == 1 and again.round(1).gate == found.gate


@pytest.mark.parametrize("word", ["approve", "reject"])
def test_a_person_decides_and_the_run_goes_on(
    held: Run, tmp_path: Path, word: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = copy(held, tmp_path / "run")
    assert command(word, config.run.uri, "--why", "seen by hand", "--json", monkeypatch=monkeypatch) == 0
    file = tmp_path / "job.yaml"
    file.write_text(yaml.safe_dump(config.model_dump(mode="json")))
    expected = 4 if word == "reject" else 0
    assert command("run", str(file), "--json", "--fail-on-reject", monkeypatch=monkeypatch) == expected
    run = Run(config.run.uri)
    old, new = versions(run)
    manifest = run.ledger.manifest(1)
    assert manifest and manifest["decision"] == ("accept" if word == "approve" else "reject")
    assert manifest["version"]["digest"] == (new if word == "approve" else old)
    assert [n["gate"]["decision"] for n in flat(run.lineage()) if n["gate"]] == [manifest["decision"]]
    decision = run.ledger.round(1).get("decision.json")
    assert decision and decision["why"] == "seen by hand" and run.held() is None
    # a rejection is a result and no failure, and there is nothing more to decide
    assert command("run", str(file), "--json", monkeypatch=monkeypatch) == 0
    assert command(word, config.run.uri, monkeypatch=monkeypatch) == 2


@pytest.mark.parametrize(
    ("changes", "decision", "reason"),
    [
        (("gate.min_gain=-1000", "gate.tolerance=1000", "gate.max_kl=1000"), "accept", "nothing measured"),
        (("gate.min_gain=1000", "gate.tolerance=1000", "gate.max_kl=1000"), "reject", "min_gain"),
        (("gate.min_gain=-1000", "gate.tolerance=1000", "gate.max_kl=0"), "reject", "drift"),
    ],
    ids=["accepts", "rejects a small gain", "rejects a drift"],
)
def test_the_rule_decides_by_itself(
    held: Run, tmp_path: Path, changes: tuple[str, ...], decision: str, reason: str
) -> None:
    run = go_on(copy(held, tmp_path / "run", "gate.mode=auto", *changes))
    manifest, gate = run.ledger.manifest(1), run.round(1).gate
    assert manifest and gate and manifest["decision"] == gate["decision"] == gate["advice"] == decision
    assert any(reason in said for said in gate["reasons"])
    assert manifest["version"]["digest"] == versions(run)[decision == "accept"]
    before = held.round(1).gate
    assert before and gate["figures"] == before["figures"] and gate["figures"]["drift"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("words", [("approve",), ("reject",), ("approve", "rollback")], ids=" then ".join)
def test_the_next_round_is_written_by_the_version_that_was_decided_for(
    held: Run, tmp_path: Path, words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = copy(held, tmp_path / "run")
    assert command(words[0], config.run.uri, monkeypatch=monkeypatch) == 0
    if "rollback" in words:
        assert go_on(config).latest == 1  # committed as approved
        assert command("rollback", config.run.uri, "--to", "0", monkeypatch=monkeypatch) == 0
    run = seal_ray.run(config.model_copy(update={"run": config.run.model_copy(update={"rounds": 2})}))
    assert run.latest == 1 and run.held() == 2
    written = run.round(2).version
    assert written and written.digest == versions(run)[words == ("approve",)]
    assert {e.version for e in run.round(2).edits} >= {written.digest}
