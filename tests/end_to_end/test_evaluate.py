"""Arms side by side through the command line, on real parts, with edits from the base, a file and a teacher."""

import json
from pathlib import Path

import pytest
from command import seal_ray
from judge_server import JudgeReply, says, serving

from seal_ray.loops.history import Run


@pytest.mark.slow
def test_every_arm_is_tried_on_the_same_tasks_and_a_teacher_is_asked_once(tmp_path: Path) -> None:
    passages = json.loads(Path("seal_ray/demo/quickstart.json").read_text())[:3]
    for p in passages:
        p["edits"] = {"alone": "", "notes": [p["context"][:60], p["context"][60:140]]}
    data, uri = tmp_path / "passages.json", str(tmp_path / "run")
    data.write_text(json.dumps(passages))
    down = [True]

    def teach(body: dict[str, object], attempt: int) -> JudgeReply:
        lost = down[0] and len(json.dumps(body["messages"])) % 2
        return (500, {}, b"{}") if lost else says(f"What {len(str(body['messages']))} words say.")

    with serving(teach) as server:
        arms = ["none", "context", "untrained", f"file:{data}#alone", f"file:{data}#notes", f"teacher:{server.url}#t"]
        words = ["evaluate", "jobs/tiny.yaml", "--split", "train", "--json", "--set", f"run.uri={uri}"]
        words += ["--set", f"domain.data={data}", "--set", "domain.validation=0", "--set", "domain.test=0"]
        words += ["--set", "inner.repeats=1", "--set", "grading.judge_retries=0"]
        words += [w for arm in arms for w in ("--arm", arm)]
        lost = seal_ray(*words, expect=3)
        assert "not all edits could be had" in lost.stderr
        asked, down[0] = len(server.bodies), False
        found = json.loads(seal_ray(*words).stdout)
        assert asked < len(server.bodies) <= 6 + asked
        again = len(server.bodies)
        assert json.loads(seal_ray(*words).stdout) == found and len(server.bodies) == again
    likelihood = found["tables"]["likelihood"]
    assert list(likelihood) == arms and all("mean" in row for row in likelihood.values())
    # an empty edit is the passage alone
    assert likelihood[arms[3]]["mean"] == pytest.approx(likelihood["context"]["mean"], abs=1e-4)
    assert likelihood[arms[4]]["mean"] != likelihood["context"]["mean"]
    texts = {e.text for e in Run(uri).round(6).edits}
    assert len(Run(uri).round(6).edits) == 6 and all(t.startswith("What ") for t in texts)


@pytest.mark.slow
def test_directives_from_a_file_are_an_arm_of_the_puzzles(tmp_path: Path) -> None:
    puzzles = json.loads(Path("jobs/data/arc_tiny_challenges.json").read_text())
    directives = {"basic": True, "size": False, "chain": False, "repeat": False, "loss": "output"}
    directives |= {"learning_rate": 0.001, "epochs": 2}
    edits, data, uri = tmp_path / "edits.json", tmp_path / "puzzles.json", str(tmp_path / "run")
    names = list(puzzles)[:2]
    data.write_text(json.dumps({name: puzzles[name] for name in names}))
    edits.write_text(json.dumps([{"task": name, "mine": directives} for name in names]))
    domain = {"name": "arc", "data": str(data), "validation": 0, "test": 0, "max_grid": 3, "views": 1}
    domain |= {"max_examples": 4, "learning_rates": [0.001], "epoch_choices": [2]}
    words = ["evaluate", "jobs/tiny.yaml", "--split", "train", "--json", "--set", f"run.uri={uri}"]
    words += ["--set", f"domain={json.dumps(domain)}", "--set", "inner.repeats=1"]
    found = json.loads(seal_ray(*words, "--arm", "none", "--arm", f"file:{edits}#mine").stdout)
    rows = found["tables"]["likelihood"]
    assert rows[f"file:{edits}#mine"]["mean"]["mean"] != rows["none"]["mean"]["mean"]
    trials = [t for t in Run(uri).round(2).trials if t.losses]
    assert len(trials) == 2 and not any(t.failure for t in trials)


@pytest.mark.slow
def test_arms_with_settings_of_their_own_sample_and_learn_on_a_cluster(tmp_path: Path) -> None:
    passages = json.loads(Path("seal_ray/demo/quickstart.json").read_text())[:2]
    data, uri = tmp_path / "passages.json", str(tmp_path / "run")
    data.write_text(json.dumps(passages))
    chosen = ["offered=true", "learning_rates=[0.001]", "epoch_choices=[2]"]
    arms = ["none", "untrained with sampling.max_tokens=300 " + " ".join(f"domain.directives.{c}" for c in chosen)]
    arms += ["joined:untrained with inner.last_layers=1 sampling.temperature=0.7"]
    words = ["evaluate", "jobs/tiny.yaml", "--split", "train", "--json", "--set", f"run.uri={uri}"]
    words += ["--set", f"domain.data={data}", "--set", "domain.validation=0", "--set", "domain.test=0"]
    words += ["--set", "inner.repeats=1", *(w for arm in arms for w in ("--arm", arm))]
    costs = json.loads(seal_ray(*words).stdout)["costs"]
    edits = Run(uri).round(2).edits
    assert len(edits) == 4 and all(e.text.lstrip().startswith("{") for e in edits), "vLLM samples under the schema"
    directed = [e.content for e in edits if not e.failure]  # a random model may not come to the end of its object
    assert all((c["learning_rate"], c["epochs"]) == (0.001, 2) for c in directed)
    assert {e.failure.kind for e in edits if e.failure} <= {"unparsable", "no_text", "copy"}
    assert costs[arms[2]]["candidates"] == 2 and costs[arms[2]]["edit_tokens"] > 0 and not costs[arms[2]]["failed"]
