"""What people see of a run. All of it is made from the one stream of events."""

import sys
from pathlib import Path
from typing import TextIO

from seal_ray.config import Config, ObserveSection
from seal_ray.observe.sinks import Guarded, Observer
from seal_ray.redaction import redacted


def build(section: ObserveSection, config: Config, stream: TextIO | None = None) -> list[Guarded]:
    """The sinks that the configuration asks for. One that breaks later is left out and does not stop the run."""
    from seal_ray.observe import progress

    out: TextIO = stream or sys.stderr
    observers: list[tuple[str, Observer]] = [("the display", progress.build(section.progress, config, out))]
    if section.ray_metrics:
        from seal_ray.observe.metrics import RayMetrics

        observers.append(("observe.ray_metrics", RayMetrics(config)))
    if section.events:
        from seal_ray.observe.sinks import EventFile

        observers.append(("observe.events", EventFile(Path(section.events))))
    settings = redacted(config.model_dump(mode="json"))
    if section.tensorboard:
        from seal_ray.observe.sinks import TensorBoard

        observers.append(("observe.tensorboard", TensorBoard(section.tensorboard)))
    if section.mlflow:
        from seal_ray.observe.sinks import Mlflow

        observers.append(("observe.mlflow", Mlflow(section.mlflow, config.run.uri, settings)))
    if section.wandb:
        from seal_ray.observe.sinks import Wandb

        observers.append(("observe.wandb", Wandb(section.wandb, config.run.uri, settings)))
    return [Guarded(observer, name, out) for name, observer in observers]
