"""Who is told of a run."""

from typing import Literal

from pydantic import Field

from seal_ray.config.section import Section


class ObserveSection(Section):
    progress: Literal["auto", "rich", "plain", "quiet", "json"] = Field(
        default="auto", description="what the terminal shows"
    )
    events: str = Field(default="", description="folder for a copy of the event stream as JSON lines")
    ray_metrics: bool = Field(default=True, description="metrics for Prometheus through Ray")
    tensorboard: str = Field(default="", description="folder for TensorBoard files (extra sinks)")
    mlflow: str = Field(default="", description="MLflow tracking URI (extra sinks)")
    wandb: str = Field(default="", description="Weights & Biases project (extra sinks)")
