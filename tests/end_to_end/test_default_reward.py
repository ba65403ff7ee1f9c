"""Rewards as they are by default, accuracy with the contrast over sampled answers, through real Ray, vLLM and PEFT."""

from pathlib import Path

from command import seal_ray

from seal_ray.loops.history import Run

SETTINGS = (
    "grading.reward=blend", "domain.distractors=4", "answering.samples=2", "answering.temperature=0.7", "run.rounds=1",
)  # fmt: skip


def test_a_round_is_rewarded_by_accuracy_with_the_contrast(tmp_path: Path) -> None:
    uri = tmp_path / "run"
    words = [w for setting in (*SETTINGS, f"run.uri={uri}") for w in ("--set", setting)]
    seal_ray("run", "jobs/tiny.yaml", *words)
    run = Run(str(uri))
    done = run.round(1)
    assert done.committed and run.config.grading.blend_of == "contrast"
    tried = [t for t in done.trials if not t.failure]
    assert tried and all(t.distractors and {a.sample for a in t.answers} == {0, 1} for t in tried)
    rewards = done.rewards or {}
    assert rewards["measure"] == "blend" and rewards["reliability"]["contrast"] is not None
    assert any(r["raw"]["mean"] for r in rewards["rewards"]), "a random model is never right: this is the contrast"
    seal_ray("run", "jobs/tiny.yaml", *words)
    assert Run(str(uri)).latest == 1, "gone on with as it began"
