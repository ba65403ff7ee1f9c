"""The few-shot domain: grid puzzles whose self-edits are directives for training at test time."""

from seal_ray.domains.arc.domain import Arc, build

__all__ = ["Arc", "build"]
