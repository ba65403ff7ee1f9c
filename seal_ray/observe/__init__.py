"""What people see of a run. All of it is made from the one stream of events."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

from seal_ray.config import Config, ObserveSection
from seal_ray.errors import ConfigError
from seal_ray.observe.sinks import EventFile, Guarded, Mlflow, Observer, TensorBoard, Wandb, tell_left_out
from seal_ray.redaction import redacted


def build(section: ObserveSection, config: Config, stream: TextIO | None = None) -> list[Guarded]:
    """The sinks that the configuration asks for. One that breaks is left out and does not stop the run, be it later or
    at the start; what the configuration can mend is said there.
    """
    from seal_ray.observe import progress

    out: TextIO = stream or sys.stderr
    observers: list[tuple[str, Observer]] = [("the display", progress.build(section.progress, config, out))]
    if section.ray_metrics:
        from seal_ray.observe.metrics import RayMetrics

        observers.append(("observe.ray_metrics", RayMetrics(config)))
    if section.events:
        observers.append(("observe.events", EventFile(Path(section.events))))
    for name, begin in _trackers(section, config).items():
        try:
            observers.append((name, begin()))
        except ConfigError:
            raise
        except Exception as error:  # a server that is away, a folder that is full: the run is worth more
            tell_left_out(name, error, out)
    return [Guarded(observer, name, out) for name, observer in observers]


def _trackers(section: ObserveSection, config: Config) -> dict[str, Callable[[], Observer]]:
    """What begins each tracker that is asked for."""
    settings = redacted(config.model_dump(mode="json"))
    known: dict[str, tuple[str, Callable[[], Observer]]] = {
        "observe.tensorboard": (section.tensorboard, lambda: TensorBoard(section.tensorboard)),
        "observe.mlflow": (section.mlflow, lambda: Mlflow(section.mlflow, config.run.uri, settings)),
        "observe.wandb": (section.wandb, lambda: Wandb(section.wandb, config.run.uri, settings)),
    }
    return {name: begin for name, (wanted, begin) in known.items() if wanted}
