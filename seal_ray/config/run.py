"""What a run is: where it lives, how long it goes on, and what it may spend."""

from typing import Literal

from pydantic import Field

from seal_ray.config.section import LEFT_OUT, Section, Share


class Budget(Section):
    """What a run may spend. 0 is no limit. A spent budget stops the run cleanly; a larger one resumes it."""

    gpu_hours: float = Field(default=0, ge=0, description="GPU-hours over all leases")
    hours: float = Field(default=0, ge=0, description="hours on the wall")
    judge_dollars: float = Field(default=0, ge=0, description="spend on a paid judge, by its price per token")


class RunSection(Section):
    uri: str = Field(
        default="runs/default", min_length=1, description="where the run is kept: a folder, s3://bucket/path, gs://…"
    )
    seed: int = Field(default=0, ge=0, description="every other seed is derived from this one")
    rounds: int = Field(default=2, ge=1, le=1000, description="rounds of sample, try, grade, select, update, gate")
    tasks_per_round: int = Field(
        default=50, ge=1, description="training tasks in a round, drawn without repeats until all were seen"
    )
    resume: Literal["auto", "must", "never", "again"] = Field(
        default="auto",
        description="what to do with a run that is already at the URI; again: go on also where it ended for good",
    )
    parent: Literal["latest", "best", "archive"] = Field(
        default="latest",
        description="which version a round begins with: the latest accepted, the best on validation tasks, or any of "
        "the archive, drawn by that score and by how few children it has, rejected ones too",
    )
    coverage: Share = Field(
        default=0.8, description="share of a round's candidates that must have a verdict, else the round stops"
    )
    domain_errors: Share = Field(
        default=0.1,
        description="share of the edits read, training sets made or answers judged in which the domain's own code may "
        "raise; each is a failure, and more of them stop the run",
    )
    budget: Budget = LEFT_OUT
