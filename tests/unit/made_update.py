"""What an update tells, where none was run."""

from typing import Any

from seal_ray.policy.job import UpdateJob, UpdateResult


def updated(job: UpdateJob, **known: Any) -> UpdateResult:
    """A result whose figures are made up, but for those that are known."""
    made_up: dict[str, Any] = {
        "folder": job.output, "kind": "adapter", "rank": job.section.rank, "steps": 1, "losses": (1.0,), "log": (),
        "seconds": 0.1, "kl": 0.1, "drift": 0.1, "entropy": 1.0, "entropy_before": 1.1, "likelihood": (),
        "likelihood_before": (), "validation_losses": (), "left_out": (), "held_back": (), "edits": (), "recipe": {},
        "environment": {},
    }  # fmt: skip
    return UpdateResult(**made_up | known)
