"""Trackers of experiments: what is written with them is read back with their own readers."""

import io
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from made_events import make

from seal_ray import observe
from seal_ray.config import Config
from seal_ray.errors import ConfigError
from seal_ray.events import PhaseEnded, RewardsMade, RunEnded, UpdateStep, Warned
from seal_ray.observe import sinks
from seal_ray.observe.scalars import Scalar, scalars
from seal_ray.observe.sinks import Guarded, Mlflow, TensorBoard, Wandb
from seal_ray.records import digest

ARM = {"accuracy": {"mean": 0.25, "error": 0.02, "n": 3}, "likelihood": None}
EVENTS = [
    make(RewardsMade, 1, 10.0, arms={"base": ARM}, coverage=0.5, reliability={"accuracy": 0.4}),
    make(UpdateStep, 1, 11.0, step=1, steps=2, loss=2.0),
    make(UpdateStep, 1, 12.0, step=2, steps=2, loss=1.0),
    make(PhaseEnded, 1, 13.0, phase="update", seconds=7.5),
    make(UpdateStep, 2, 20.0, step=1, steps=2, loss=0.5),
    make(RunEnded, 2, 21.0, outcome="done"),
]
UPDATES = [(500, 2.0), (1000, 1.0), (1500, 0.5)]  # thousandths of a round, and the loss there
CONFIG = {"inner": {"rank": 32}, "run": {"uri": "runs/x"}}


def built(stream: io.StringIO, **section: Any) -> list[Guarded]:
    config = Config.model_validate({"observe": {"progress": "quiet", "ray_metrics": False} | section})
    return observe.build(config.observe, config, stream)


def test_update_steps_of_rounds_with_different_numbers_of_them_never_overlap() -> None:
    def axis(number: int, steps: int) -> list[int]:
        events = [make(UpdateStep, number, step=n, steps=steps) for n in range(1, steps + 1)]
        return [next(s.step for s in scalars(e) if s.name == "update/loss") for e in events]

    whole = [x for number, steps in enumerate((10, 4, 700, 3), 1) for x in axis(number, steps)]
    assert whole == sorted(set(whole)), "whoever goes on in a later round knows nothing of the earlier ones"
    assert axis(2, 4) == [1250, 1500, 1750, 2000]
    assert axis(0, 2) == [500, 1000], "an update outside of rounds"


def test_events_become_numbers_over_rounds_and_update_steps_over_the_whole_run() -> None:
    found = [s for e in EVENTS for s in scalars(e)]
    assert Scalar("arms/base/accuracy", 0.25, 1) in found
    assert Scalar("arms/base/accuracy_error", 0.02, 1) in found
    assert Scalar("reliability/accuracy", 0.4, 1) in found
    assert Scalar("seconds/update", 7.5, 1) in found
    assert [(s.step, s.value) for s in found if s.name == "update/loss"] == UPDATES


def test_tensorboard_files_are_read_back(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    sink = TensorBoard(str(tmp_path))
    for event in EVENTS:
        sink(event)
    sink.close()
    read = EventAccumulator(str(tmp_path))
    read.Reload()
    assert [(s.step, s.value) for s in read.Scalars("update/loss")] == UPDATES
    (accuracy,) = read.Scalars("arms/base/accuracy")
    assert (accuracy.step, accuracy.value, accuracy.wall_time) == (1, 0.25, 10.0)


def test_mlflow_is_read_back_and_a_resumed_run_goes_on_in_the_same_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    tracking = tmp_path.as_uri()
    for part in (EVENTS[:3], EVENTS[3:]):
        sink = Mlflow(tracking, "runs/x", CONFIG)
        for event in part:
            sink(event)
        sink.close()
    client = mlflow.MlflowClient(tracking_uri=tracking)
    experiment = client.get_experiment_by_name("seal-ray")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"
    assert run.data.params["inner.rank"] == "32"
    assert run.data.metrics["seconds/update"] == 7.5
    history = client.get_metric_history(run.info.run_id, "update/loss")
    assert [(m.step, m.value) for m in history] == UPDATES


@pytest.mark.parametrize(
    ("outcome", "status"), [("held", "FINISHED"), ("nothing to learn", "FINISHED"), ("DataError", "FAILED")]
)
def test_what_is_no_error_is_no_failure_to_mlflow(outcome: str, status: str) -> None:
    told: list[str] = []
    sink = object.__new__(Mlflow)
    sink._run, sink._outcome = "id", "KILLED"
    sink._client = SimpleNamespace(set_terminated=lambda run, status: told.append(status))
    sink(RunEnded(outcome))
    sink.close()
    assert told == [status]


@pytest.mark.slow  # its own service writes the file, when it gets to it
def test_weights_and_biases_writes_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    for key, value in {"WANDB_MODE": "offline", "WANDB_DIR": str(tmp_path), "WANDB_SILENT": "true"}.items():
        monkeypatch.setenv(key, value)
    sink = Wandb("seal-ray", "runs/x", CONFIG)
    for event in EVENTS:
        sink(event)
    sink.close()
    (file,) = tmp_path.rglob("*.wandb")
    until = time.monotonic() + 60
    while b"arms/base/accuracy" not in file.read_bytes() and time.monotonic() < until:
        time.sleep(0.2)
    written = file.read_bytes()
    assert b"arms/base/accuracy" in written and b"update_step" in written


@pytest.mark.parametrize(
    ("module", "make", "key"),
    [
        ("tensorboardX", lambda: TensorBoard("x"), "observe.tensorboard"),
        ("mlflow", lambda: Mlflow("x", "runs/x", {}), "observe.mlflow"),
        ("wandb", lambda: Wandb("x", "runs/x", {}), "observe.wandb"),
    ],
)
def test_a_tracker_that_is_not_installed_is_named_with_the_mend(
    monkeypatch: pytest.MonkeyPatch, module: str, make: object, key: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ConfigError, match=rf"{key}: the package {module} .*seal-ray\[sinks\]"):
        make()  # type: ignore[operator]


@pytest.mark.parametrize("error", [BrokenPipeError(32, "Broken pipe"), OSError(5, "Input/output error"), ValueError()])
def test_a_stream_that_breaks_does_not_stop_the_run(error: Exception) -> None:
    class Broken(io.StringIO):
        def write(self, text: str) -> int:
            raise error

    show, *_ = built(Broken(), progress="plain")
    for message in ("told", "told again"):
        show(make(Warned, 1, 1.0, message=message))
    show.close()
    assert show.broken


def test_a_tracker_that_fails_at_the_start_is_told_once_and_left_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    class Away:
        def __init__(self, **_: object) -> None:
            raise ConnectionError("nobody answers")

    (tmp_path / "file").touch()
    monkeypatch.setitem(sys.modules, "mlflow", SimpleNamespace(entities=None, MlflowClient=Away))
    out = io.StringIO()
    sinks = built(out, mlflow="http://127.0.0.1:9", tensorboard=str(tmp_path / "file"), events=str(tmp_path / "events"))
    assert [sink.name for sink in sinks] == ["the display", "observe.events"]
    assert out.getvalue().count("left out") == 2
    assert "observe.mlflow is left out from here on: ConnectionError: nobody answers\n" in out.getvalue()


def test_a_folder_for_events_that_can_not_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file/below"):
        with pytest.raises(ConfigError, match=r"observe\.events: .*file.* can't be written"):
            built(io.StringIO(), events=str(folder))


def test_a_tracker_knows_a_run_by_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    named = []
    for project in ("one", "other"):
        (tmp_path / project).mkdir()
        monkeypatch.chdir(tmp_path / project)
        named.append(sinks._name("runs/default"))
    assert named[0] != named[1] == sinks._name(f"{tmp_path}/other/runs/default/")
    assert sinks._name("s3://bucket/run") == digest("s3://bucket/run"), "as before"
