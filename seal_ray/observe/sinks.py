"""Where events go besides the ledger: a file of JSON lines, and trackers of experiments if they are asked for."""

import contextlib
import json
import re
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, TextIO

from seal_ray.errors import ConfigError
from seal_ray.event_stream import decode_event, encode_event
from seal_ray.events import Event, RunEnded, UpdateStep
from seal_ray.observe.metrics import exit_code
from seal_ray.observe.scalars import scalars
from seal_ray.records import Json, canonical, digest, encode
from seal_ray.redaction import redact
from seal_ray.storage.uris import from_anywhere
from seal_ray.text import printable


class Observer(Protocol):
    """Takes every event, in order. `close` is called once, also after an error."""

    def __call__(self, event: Event) -> None: ...

    def close(self) -> None: ...


class Guarded:
    """A sink whose troubles are not the run's: after the first error it is said so once, and it stays silent."""

    def __init__(self, sink: Observer, name: str, stream: TextIO | None = None) -> None:
        self._sink, self.name, self._stream = sink, name, stream or sys.stderr
        self.broken = False
        self._one_at_a_time = threading.Lock()  # the store tells of its retries from threads of its own

    def __call__(self, event: Event) -> None:
        if not self.broken:
            self._try(lambda: self._sink(event))

    def close(self) -> None:
        self._try(self._sink.close)

    def _try(self, act: Any) -> None:
        try:
            with self._one_at_a_time:
                act()
        except Exception as error:  # whatever a tracker raises, the run is worth more
            if not self.broken:
                self.broken = True
                tell_left_out(self.name, error, self._stream)


def tell_left_out(name: str, error: Exception, stream: TextIO) -> None:
    told = printable(redact(f"{name} is left out from here on: {type(error).__name__}: {error}"))
    with contextlib.suppress(OSError, ValueError):  # the stream may be what broke: its reader is gone, or the terminal
        stream.write(f"seal-ray: {told}\n")


class EventFile:
    """A copy of the event stream: one JSON object a line, whole lines only, and beside it the trace of this sitting."""

    def __init__(self, folder: Path) -> None:
        from seal_ray.observe.trace import Trace

        self._folder, self._trace = folder, Trace()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file = (folder / "events.jsonl").open("a", encoding="utf-8")
        except OSError as error:
            raise ConfigError(
                f"observe.events: {folder} can't be written: {error.strerror}",
                hint="name another folder, or leave observe.events empty",
            ) from None

    def __call__(self, event: Event) -> None:
        self._file.write(canonical(encode_event(event)) + "\n")
        self._file.flush()
        self._trace.take(event)

    def close(self) -> None:
        self._file.close()
        (self._folder / "trace.json").write_text(json.dumps(self._trace.done()))


def read_events(path: Path) -> list[Event]:
    """The events of such a file. A last line that was cut off is left out."""
    events = []
    for line in path.read_text(encoding="utf-8").split("\n"):  # a text in an event may hold other ends of lines
        try:
            events.append(decode_event(json.loads(line)))
        except ValueError:
            continue
    return events


class TensorBoard:
    """The run's numbers as TensorBoard files."""

    def __init__(self, folder: str) -> None:
        writer = _need("tensorboardX", "observe.tensorboard").SummaryWriter
        self._writer = writer(folder, write_to_disk=True)

    def __call__(self, event: Event) -> None:
        for s in scalars(event):
            self._writer.add_scalar(s.name, s.value, s.step, walltime=event.time or time.time())

    def close(self) -> None:
        self._writer.close()


def _name(uri: str) -> str:
    """What a tracker knows the run by: another project has a runs/default as well."""
    return digest(from_anywhere(uri.rstrip("/")))


class Mlflow:
    """The run's numbers in MLflow: one MLflow run for each run URI, found again on resume."""

    def __init__(self, tracking: str, uri: str, config: Mapping[str, Json]) -> None:
        mlflow = _need("mlflow", "observe.mlflow")
        self._entities = mlflow.entities
        self._client = mlflow.MlflowClient(tracking_uri=tracking)
        there = self._client.get_experiment_by_name("seal-ray")
        experiment = there.experiment_id if there else self._client.create_experiment("seal-ray")
        name = _name(uri)[:32]
        known = self._client.search_runs([experiment], f"tags.seal_ray_run = '{name}'", max_results=1)
        if known:
            self._run = known[0].info.run_id
        else:
            run = self._client.create_run(experiment, tags={"seal_ray_run": name, "uri": uri}, run_name=uri)
            self._run = run.info.run_id
            for key, value in _settings(config):
                self._client.log_param(self._run, key, value[:500])
        self._outcome = "KILLED"

    def __call__(self, event: Event) -> None:
        if isinstance(event, RunEnded):
            self._outcome = "FAILED" if exit_code(event.outcome) else "FINISHED"
        when = int((event.time or time.time()) * 1000)
        batch = [
            self._entities.Metric(re.sub(r"[^\w./ -]", "_", s.name), s.value, when, s.step) for s in scalars(event)
        ]
        if batch:
            self._client.log_batch(self._run, metrics=batch)

    def close(self) -> None:
        self._client.set_terminated(self._run, self._outcome)


class Wandb:
    """The run's numbers in Weights & Biases: one of its runs for each run URI, taken up again on resume."""

    def __init__(self, project: str, uri: str, config: Mapping[str, Json]) -> None:
        wandb = _need("wandb", "observe.wandb")
        self._run = wandb.init(
            project=project, name=uri, id=_name(uri)[:16], resume="allow", config=dict(_settings(config))
        )
        # rounds and update steps are two axes; a tracker's own step must only grow
        self._run.define_metric("round")
        self._run.define_metric("update_step")
        self._run.define_metric("update/*", step_metric="update_step")

    def __call__(self, event: Event) -> None:
        numbers = scalars(event)
        if numbers:
            axis = "update_step" if isinstance(event, UpdateStep) else "round"
            self._run.log({s.name: s.value for s in numbers} | {axis: numbers[0].step})

    def close(self) -> None:
        self._run.finish()


def _need(module: str, key: str) -> Any:
    import importlib

    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ConfigError(
            f"{key}: the package {module} can't be imported here ({error})",
            hint=f"install it (pip install 'seal-ray[sinks]'), or leave {key} empty",
        ) from None


def _settings(config: Mapping[str, Json], prefix: str = "") -> list[tuple[str, str]]:
    """The configuration as flat pairs. It holds names of keys and never keys."""
    out = []
    for key, value in config.items():
        if isinstance(value, Mapping):
            out += _settings(value, f"{prefix}{key}.")
        else:
            out.append((f"{prefix}{key}", json.dumps(encode(value), ensure_ascii=False)))
    return out
