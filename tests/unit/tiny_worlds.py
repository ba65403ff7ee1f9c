"""The tiny worlds among the jobs, as their domain sees them: no model has to be there."""

from pathlib import Path
from typing import Any

from seal_ray import config_file
from seal_ray.config import Config
from seal_ray.domains import load_domain

JOBS = Path(__file__).parents[2] / "jobs"


def tiny_world(job: str) -> tuple[Config, Any]:
    """A job's configuration, and its domain."""
    config = config_file.load(JOBS / job)
    domain = load_domain(
        config.domain,
        recipe=config.inner.recipe(),
        answering=config.answering,
        chat=False,
        seed=config.run.seed,
        read=lambda path: (JOBS.parent / path).read_bytes(),
    )
    return config, domain
