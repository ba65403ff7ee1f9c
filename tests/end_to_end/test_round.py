"""Whole rounds through the command line, with real Ray, vLLM, PEFT and DeepSpeed and a tiny random model."""

import json
import subprocess
import sys

import pytest
from command import ROOT, environment, seal_ray

from seal_ray.loops.history import Round, Run
from seal_ray.storage.verification import verify


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Two rounds, the update with two workers."""
    uri = str(tmp_path_factory.mktemp("runs") / "first")
    seal_ray("run", "jobs/tiny.yaml", "--set", f"run.uri={uri}", "--set", "placement.trainers=2")
    return Run(uri)


@pytest.fixture(scope="module")
def again(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The same run at another place, from Python, stopped after its first round; what is compared comes before its
    update, which one worker does without Ray Train."""
    uri = str(tmp_path_factory.mktemp("runs") / "again")
    code = (
        "import seal_ray\n"
        "from seal_ray import config_file\n"
        f"config = config_file.load('jobs/tiny.yaml', ['run.uri={uri}', 'run.rounds=1'])\n"
        "print(seal_ray.run(config).latest)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=560, env=environment()
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().splitlines()[-1] == "1"
    return Run(uri)


def test_a_run_commits_every_round(first: Run) -> None:
    assert first.latest == 2
    assert [r.committed for r in first.rounds()] == [True, True]
    assert not verify(first.ledger)


def test_everything_that_was_found_is_in_the_ledger(first: Run) -> None:
    for number in (1, 2):
        found = first.round(number)
        good = [e for e in found.edits if not e.failure]
        assert len(found.tasks) == 3
        assert len(found.edits) == 6
        assert all(e.ids and e.logprobs and e.prompt_ids for e in good)
        assert len(found.candidates) == 3 + 3 * 2 + len(good) * 2
        assert {t.candidate for t in found.trials} == {c.id for c in found.candidates}
        asked = {v.candidate for v in found.verdicts}
        assert asked == {t.candidate for t in found.trials if not t.failure}
        for trial in found.trials:
            assert trial.failure is None
            assert trial.likelihoods and trial.answers


def test_training_lowers_the_loss_and_the_baseline_is_not_trained(first: Run) -> None:
    found = first.round(1)
    trials = {t.candidate: t for t in found.trials}
    begun, ended = [], []
    for candidate in found.candidates:
        losses = trials[candidate.id].losses
        if candidate.kind == "baseline":
            assert losses == ()
        else:  # an epoch's steps are on different texts, so epochs are compared
            half = len(losses) // 2
            begun.append(sum(losses[:half]))
            ended.append(sum(losses[half:]))
    assert sum(e < b for b, e in zip(begun, ended, strict=True)) > 0.8 * len(begun)
    assert sum(ended) < sum(begun)


def test_the_second_round_is_written_by_the_version_that_the_first_made(first: Run) -> None:
    one, two = first.round(1), first.round(2)
    assert one.version is not None and two.version is not None
    assert one.version.number == 0
    assert one.choices, "nothing was chosen: the update has not run"
    assert one.update is not None and one.update["version"]["digest"] == two.version.digest
    assert {e.version for e in two.edits if not e.failure} == {two.version.digest}
    assert [v.number for v in first.versions()][:2] == [0, 1]


def test_the_table_has_a_row_for_each_round_and_a_column_for_each_arm(first: Run) -> None:
    rows = first.table()
    assert [r["round"] for r in rows] == [1, 2]
    for row in rows:
        for arm in ("base", "context", "edit"):
            assert row["arms"][arm]["likelihood"]["mean"] < 0


def comparable(found: Round) -> dict:
    rewards = {r["edit"]: r["value"]["mean"] for r in (found.rewards or {})["rewards"]}
    return {
        "edits": [(e.task, e.slot, e.ids) for e in sorted(found.edits, key=lambda e: (e.task, e.slot))],
        "candidates": sorted(c.id for c in found.candidates),
        "chosen": sorted((c.task, c.edit) for c in found.choices),
        "rewards": rewards,
    }


def test_the_same_seed_gives_the_same_round(first: Run, again: Run) -> None:
    one, other = comparable(first.round(1)), comparable(again.round(1))
    rewards, rewards_again = one.pop("rewards"), other.pop("rewards")
    assert one == other
    assert rewards.keys() == rewards_again.keys()
    for edit, value in rewards.items():
        assert value == pytest.approx(rewards_again[edit], abs=1e-3)


def test_a_run_that_is_done_is_left_as_it_is(first: Run) -> None:
    before = first.ledger.manifest(2)
    seal_ray("run", "jobs/tiny.yaml", "--set", f"run.uri={first.uri}", "--set", "placement.trainers=2")
    assert Run(first.uri).ledger.manifest(2) == before


def test_status_and_inspect_tell_what_happened(first: Run) -> None:
    status = json.loads(seal_ray("status", first.uri, "--json").stdout)
    assert status["rounds_committed"] == 2
    task = first.round(1).tasks[0]
    text = seal_ray("inspect", first.uri, "--task", task.id).stdout
    assert task.data["title"] in text
    assert "reward" in text
    candidate = first.round(1).candidates[0].id
    assert candidate in seal_ray("inspect", first.uri, "--candidate", candidate[:12], "--json").stdout


def test_a_run_that_was_configured_otherwise_is_refused(first: Run) -> None:
    done = seal_ray("run", "jobs/tiny.yaml", "--set", f"run.uri={first.uri}", "--set", "inner.rank=8", expect=2)
    assert "inner.rank was 4 and is 8" in done.stderr
