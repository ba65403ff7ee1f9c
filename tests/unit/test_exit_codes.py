"""A finding that is no error is told by the exit code of the installed command, as a script sees it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from recorded_run import record
from two_versions import RECORDED, two_versions

import seal_ray
from seal_ray import cli
from seal_ray.cli.exits import ZERO_WHEN_FINAL

COMMAND = str(Path(sys.executable).parent / "seal-ray")


def code(*words: str) -> int:
    return subprocess.run([COMMAND, *words], capture_output=True, timeout=120, check=False).returncode


@pytest.mark.parametrize("module", ["seal_ray", "seal_ray.cli"])
def test_without_its_script_on_the_path_the_command_line_is_a_module(module: str, tmp_path: Path) -> None:
    def said(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", module, *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)

    assert said("--version").stdout == f"seal-ray {seal_ray.__version__}\n"
    missing = said("validate", str(tmp_path / "none.yaml"))
    assert missing.returncode == 2 and "none.yaml" in missing.stderr


def test_a_damaged_run_is_told_by_the_exit_code(tmp_path: Path) -> None:
    uri = str(tmp_path / "run")
    record(uri, rounds=1, tasks=2, edits=2)
    assert code("verify", uri) == 0
    part = next((tmp_path / "run/rounds/0001").glob("rewards.json"))
    part.write_bytes(part.read_bytes()[:-20])
    assert code("verify", uri) == 3


def test_a_red_line_of_the_doctor_is_told_by_the_exit_code(tmp_path: Path) -> None:
    # nobody listens there, so there is no node to ask
    words = [
        "doctor",
        "--address",
        "127.0.0.1:9",
        "--set",
        f"run.uri={tmp_path}/run",
        "--set",
        "model.name=builtin:tiny",
    ]
    assert code(*words) == 3


@pytest.mark.parametrize(
    ("setting", "words", "expected"),
    [("false", (), 0), ("false", ("--fail-on-reject",), 4), ("true", (), 4), ("true", ("--zero-when-final",), 0)],
)
def test_a_rejected_gate_is_a_result_and_an_error_only_where_it_is_asked_for(
    setting: str, words: tuple[str, ...], expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`gate.fail_on_reject` and `--fail-on-reject`, of a run that is done: no machine is asked for."""
    monkeypatch.setenv(ZERO_WHEN_FINAL, "")
    uri, fails = str(tmp_path / "run"), f"gate.fail_on_reject={setting}"
    two_versions(uri, tmp_path, fails, decision="reject")
    sets = ["--set", f"run.uri={uri}", "--set", fails, "--set", "run.rounds=2", "--set", "observe.ray_metrics=false"]
    monkeypatch.setattr("sys.argv", ["seal-ray", "run", str(RECORDED / "job.yaml"), "--quiet", *sets, *words])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert (ended.value.code or 0) == expected


def test_what_went_well_and_what_was_typed_wrong_have_their_codes() -> None:
    assert [code("--version"), code("--help"), code("status", "--help")] == [0, 0, 0]
    assert [code("fly"), code("status"), code("plan", "--fly")] == [2, 2, 2]


def test_whoever_reads_may_leave_early(tmp_path: Path) -> None:
    record(str(tmp_path / "run"))
    for words in (["--help"], ["inspect", str(tmp_path / "run"), "--task", "harbour-1-0"]):
        reader, writer = os.pipe()
        os.close(reader)
        done = subprocess.run([COMMAND, *words], stdout=writer, stderr=subprocess.PIPE, timeout=120, check=False)
        os.close(writer)
        assert (done.returncode, done.stderr) == (0, b""), words


def test_another_pipe_that_breaks_is_an_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def called(*_: object, **__: object) -> None:
        try:
            raise BrokenPipeError(32, "Broken pipe")
        except OSError:
            sys.exit(1)  # as typer does

    monkeypatch.setattr(cli, "application", lambda *_: called)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 3 and "BrokenPipeError" in capsys.readouterr().err


def test_the_command_alone_shows_its_help() -> None:
    alone, asked = (subprocess.run([COMMAND, *words], capture_output=True, timeout=120) for words in ([], ["--help"]))
    assert (alone.returncode, alone.stderr, alone.stdout) == (0, b"", asked.stdout)


@pytest.mark.parametrize(("debug", "shown"), [("0", False), ("1", True), ("true", True)])
def test_tracebacks_are_for_those_who_ask_for_them(debug: str, shown: bool) -> None:
    env = os.environ | {"SEAL_RAY_DEBUG": debug}
    done = subprocess.run([COMMAND, "validate", "none.yaml"], env=env, capture_output=True, timeout=120, check=False)
    assert done.returncode == 2 and (b"Traceback" in done.stderr) == shown
