"""A run that version 0.1.0 began ends with what is written since, with real Ray, vLLM, PEFT and DeepSpeed."""

import shutil
from pathlib import Path

from command import seal_ray

from seal_ray.loops.history import Run

FOLDER = Path("tests/recorded/v0.1.0")


def test_a_recorded_run_goes_on_where_it_stopped(tmp_path: Path) -> None:
    uri = tmp_path / "run"
    shutil.copytree(FOLDER / "run", uri)
    recorded = Run(str(uri)).round(2)
    # as if its driver had died a little earlier: these were not written yet
    for name in ("rewards.json", "selection.json", "trials", "verdicts"):
        path = uri / "rounds/0002" / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    seal_ray("run", str(FOLDER / "job.yaml"), "--set", f"run.uri={uri}")
    resumed = Run(str(uri)).round(2)
    assert resumed.committed
    assert {e.id for e in resumed.edits} == {e.id for e in recorded.edits}, "edits were sampled again"
    assert {c.id for c in resumed.candidates} == {c.id for c in recorded.candidates}, "candidates have other names"
    before, after = ({t.candidate: t.likelihoods for t in r.trials} for r in (recorded, resumed))
    assert before.keys() == after.keys()
    for candidate, likelihoods in before.items():
        for was, now in zip(likelihoods, after[candidate], strict=True):
            assert abs(was.logprob - now.logprob) < 1e-2
