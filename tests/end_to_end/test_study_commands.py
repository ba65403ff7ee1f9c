"""Studies and streams through the command line, on real Ray: in workers' banks, and through Ray Train and DeepSpeed."""

import json
from pathlib import Path
from typing import Any

import pytest
from command import seal_ray

from seal_ray.loops.history import Run

SMALL = ["--set", "domain.max_questions=1", "--set", "answering.max_tokens=2", "--set", "policy.epochs=2"]


def told(command: str, uri: Path, *changes: str) -> dict[str, Any]:
    words = [command, "jobs/tiny.yaml", "--json", "--set", f"run.uri={uri}", *SMALL]
    words += [word for change in changes for word in ("--set", change)]
    return json.loads(seal_ray(*words).stdout)[command]


@pytest.mark.slow
@pytest.mark.timeout(900)
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
@pytest.mark.timeout(900)
def test_a_study_of_all_weights_goes_through_deepspeed(tmp_path: Path) -> None:
    uri = tmp_path / "run"
    full = ["policy.mode=full", "policy.zero_stage=3", "policy.lr=1e-4", "study.tasks=3", 'study.arms=["context"]']
    found = told("study", uri, *full)
    gained = found["tables"]["tasks likelihood"]["context"]["difference"]["mean"]
    assert gained > 0 and found["arms"]["context"]["decision"] == "accept"
    assert [v.kind for v in Run(str(uri)).versions()] == ["base", "full"]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_study_from_the_bases_own_edits(tmp_path: Path) -> None:
    uri = tmp_path / "run"
    found = told("study", uri, "study.tasks=2", "study.edits=2", 'study.arms=["context","untrained"]')
    assert list(found["arms"]) == ["none", "context", "untrained"]
    assert Run(str(uri)).round(3).edits
