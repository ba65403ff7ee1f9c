"""Studies and streams through the command line, on real Ray: in workers' banks, and through Ray Train and DeepSpeed."""

import json
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from command import COMMAND, ROOT, environment, seal_ray

from seal_ray import models
from seal_ray.loops.history import Run

SMALL = ["--set", "domain.max_questions=1", "--set", "answering.max_tokens=2", "--set", "policy.epochs=2"]


def words_of(command: str, uri: Path, *changes: str) -> list[str]:
    words = [command, "jobs/tiny.yaml", "--json", "--set", f"run.uri={uri}", *SMALL]
    return words + [word for change in changes for word in ("--set", change)]


def told(command: str, uri: Path, *changes: str) -> dict[str, Any]:
    return json.loads(seal_ray(*words_of(command, uri, *changes)).stdout)[command]


def killed_when(there: Path, words: list[str]) -> None:
    """Start a command, and kill it as soon as this file is there."""
    log = subprocess.DEVNULL
    with subprocess.Popen([COMMAND, *words], cwd=ROOT, env=environment(), stdout=log, stderr=log) as process:
        try:
            while not there.exists():
                assert process.poll() is None, f"it ended with {process.returncode} before {there.name} was there"
                time.sleep(0.1)
        finally:
            process.kill()


@pytest.mark.slow
def test_a_stream_in_workers_banks_and_its_report(tmp_path: Path) -> None:
    uri = tmp_path / "run"
    found = told("stream", uri, "study.steps=2", "study.sequences=3", "study.keep.method=null_space")
    matrix = found["measures"]["likelihood"]["matrix"]
    assert found["done"] == 2 and matrix[1][0] > matrix[0][0] and matrix[2][1] > matrix[1][1]
    assert told("stream", uri, "study.steps=2", "study.sequences=3", "study.keep.method=null_space") == found
    seal_ray("verify", str(uri))
    assert "version 3" in seal_ray("lineage", str(uri)).stdout
    seal_ray("report", str(uri), "--to", str(tmp_path / "report.html"))
    assert "null_space" in (tmp_path / "report.html").read_text()
    seal_ray("export", str(uri), "--to", str(tmp_path / "adapter"), "--as", "adapter")
    assert (tmp_path / "adapter/adapter_model.safetensors").exists()


@pytest.mark.slow
def test_a_study_of_all_weights_goes_through_deepspeed(tmp_path: Path) -> None:
    uri = tmp_path / "run"
    full = ["policy.mode=full", "policy.zero_stage=3", "policy.lr=1e-4", "study.tasks=3", 'study.arms=["context"]']
    found = told("study", uri, *full)
    gained = found["tables"]["tasks likelihood"]["context"]["difference"]["mean"]
    assert gained > 0 and found["arms"]["context"]["decision"] == "accept"
    assert [v.kind for v in Run(str(uri)).versions()] == ["base", "full"]


@pytest.mark.slow
def test_a_stream_of_all_weights_that_is_killed_goes_on_to_the_same_matrix(tmp_path: Path) -> None:
    """Each step through Ray Train and DeepSpeed (ZeRO 3), from the weights that the step before has left."""
    full = ["policy.mode=full", "policy.zero_stage=3", "policy.lr=1e-4", "study.where=update", "study.steps=2"]
    whole, run = tmp_path / "whole", tmp_path / "run"
    found = told("stream", whole, *full)
    matrix = found["measures"]["likelihood"]["matrix"]
    assert found["done"] == 2 and all(len(row) == 2 and None not in row for row in matrix)
    assert matrix[1][0] > matrix[0][0] and matrix[2][1] > matrix[1][1], "each step is learned when it is its turn"
    killed_when(run / "rounds/0002/manifest.json", words_of("stream", run, *full))
    assert Run(str(run)).latest == 2, "it was killed after its first step"
    again = told("stream", run, *full)["measures"]["likelihood"]["matrix"]
    assert [value for row in again for value in row] == pytest.approx([v for row in matrix for v in row], abs=1e-4)
    versions = Run(str(run)).versions()
    assert [(v.number, v.kind) for v in versions] == [(0, "base"), (2, "full"), (3, "full")]
    assert [v.parent for v in versions[1:]] == [versions[0].digest, versions[1].digest]
    seal_ray("verify", str(run))
    seal_ray("export", str(run), "--to", str(tmp_path / "model"))
    last = models.load(str(tmp_path / "model"), dtype="float32", device="cpu").state_dict()
    base = models.load(models.fetch(Run(str(run)).config.model), dtype="float32", device="cpu").state_dict()
    assert last.keys() == base.keys() and any((last[name] != base[name]).any() for name in base)


@pytest.mark.slow
def test_a_study_from_the_bases_own_edits(tmp_path: Path) -> None:
    uri = tmp_path / "run"
    found = told("study", uri, "study.tasks=2", "study.edits=2", 'study.arms=["context","untrained"]')
    assert list(found["arms"]) == ["none", "context", "untrained"]
    assert Run(str(uri)).round(3).edits
