"""What people see of a run. All of it is made from the one stream of events."""

import sys
from pathlib import Path
from typing import TextIO

from seal_ray.config import Config, ObserveSection
from seal_ray.observe.sinks import Guarded, Sink
from seal_ray.redaction import redacted


def build(section: ObserveSection, config: Config, stream: TextIO | None = None) -> list[Sink]:
    """The sinks that the configuration asks for. One that breaks later is left out and does not stop the run."""
    from seal_ray.observe import progress

    out: TextIO = stream or sys.stderr
    found: list[tuple[str, Sink]] = [("the display", progress.build(section.progress, config, out))]
    if section.ray_metrics:
        from seal_ray.observe.metrics import RayMetrics

        found.append(("observe.ray_metrics", RayMetrics(config)))
    if section.events:
        from seal_ray.observe.sinks import EventFile

        found.append(("observe.events", EventFile(Path(section.events))))
    settings = redacted(config.model_dump(mode="json"))
    if section.tensorboard:
        from seal_ray.observe.sinks import TensorBoard

        found.append(("observe.tensorboard", TensorBoard(section.tensorboard)))
    if section.mlflow:
        from seal_ray.observe.sinks import Mlflow

        found.append(("observe.mlflow", Mlflow(section.mlflow, config.run.uri, settings)))
    if section.wandb:
        from seal_ray.observe.sinks import Wandb

        found.append(("observe.wandb", Wandb(section.wandb, config.run.uri, settings)))
    return [Guarded(sink, name, out) for name, sink in found]
