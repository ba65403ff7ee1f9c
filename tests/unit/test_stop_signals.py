"""Whoever stops a command gets the process back in the time that is configured, also where it is stuck."""

import os
import pty
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from seal_ray.cli import documents, start
from seal_ray.errors import Interrupted
from seal_ray.process_end import SHOW_CURSOR

STUCK = """
import sys, threading
from pathlib import Path
from seal_ray.cli.stop_signals import StopSignals

with StopSignals(0.5, "run", Path("my.yaml")) as signals:
    signals.on_stop(lambda: print("wound up", flush=True))
    print("begun", flush=True)
    while True:
        threading.Event().wait(600)
"""


def test_a_command_that_is_stuck_winds_up_and_leaves() -> None:
    stuck = subprocess.Popen([sys.executable, "-c", STUCK], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert stuck.stdout and stuck.stdout.readline() == "begun\n"
    stuck.send_signal(signal.SIGTERM)
    out, err = stuck.communicate(timeout=120)
    assert stuck.returncode == Interrupted.exit_code and out == "wound up\n"
    assert "Go on with: seal-ray run my.yaml" in err


UNANSWERED = STUCK.replace(
    'signals.on_stop(lambda: print("wound up", flush=True))',
    'signals.on_stop(lambda: open("/no/store")); signals.on_stop(lambda: print("wound up", flush=True))',
)


def test_a_command_leaves_also_where_its_store_does_not_answer() -> None:
    stuck = subprocess.Popen(
        [sys.executable, "-c", UNANSWERED], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert stuck.stdout and stuck.stdout.readline() == "begun\n"
    stuck.send_signal(signal.SIGTERM)
    try:
        out, err = stuck.communicate(timeout=120)
    finally:
        stuck.kill()
    assert stuck.returncode == Interrupted.exit_code and out == "wound up\n"
    assert "Go on with: seal-ray run my.yaml" in err


DONE = """
import os, signal, time
from seal_ray.cli.stop_signals import StopSignals

with StopSignals(1, "run", "my.yaml"):
    os.kill(os.getpid(), signal.SIGTERM)
time.sleep(2)
print("written")
"""


def test_what_was_done_before_it_could_stop_is_written_in_peace() -> None:
    done = subprocess.run([sys.executable, "-c", DONE], capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, done.stdout) == (0, "written\n"), done.stderr


COMMANDS: dict[str, Callable[[Path, list[str]], Any]] = {
    "run": lambda folder, set_: start.run(set_=set_),
    "evaluate": lambda folder, set_: start.evaluate(Path("builtin:quickstart"), set_=set_),
    "study": lambda folder, set_: start.study(Path("builtin:quickstart"), set_=set_),
    "stream": lambda folder, set_: start.stream(Path("builtin:quickstart"), set_=set_),
    "probe": lambda folder, set_: documents.probe(str(folder), set_=set_),
    "adapt": lambda folder, set_: documents.adapt(str(folder), folder / "out", set_=set_),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_that_computes_leaves_within_the_time_as_configured(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Reached(Exception):
        pass

    def signals(within: float, *_: object) -> None:
        raise Reached(within)

    (tmp_path / "lamp.md").write_text("The lamp on the pier is lit by whale oil, and has been since 1840.")
    for module in (start, documents):
        monkeypatch.setattr(module, "StopSignals", signals)
    with pytest.raises(Reached) as reached:
        COMMANDS[command](tmp_path, ["storage.stop_within=33", f"run.uri={tmp_path}/run"])
    assert reached.value.args == (33,)


def test_a_terminal_gets_its_cursor_back() -> None:
    ours, theirs = pty.openpty()
    stuck = subprocess.Popen([sys.executable, "-c", STUCK], stdout=subprocess.PIPE, stderr=theirs, text=True)
    assert stuck.stdout and stuck.stdout.readline() == "begun\n"
    stuck.send_signal(signal.SIGTERM)
    assert stuck.wait(timeout=120) == Interrupted.exit_code
    assert SHOW_CURSOR.encode() in os.read(ours, 1000)
    for end in (ours, theirs):
        os.close(end)


def test_a_command_is_told_again_as_a_shell_takes_it() -> None:
    spaced = STUCK.replace("my.yaml", "my jobs/a.yaml")
    stuck = subprocess.Popen([sys.executable, "-c", spaced], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert stuck.stdout and stuck.stdout.readline() == "begun\n"
    stuck.send_signal(signal.SIGTERM)
    assert "Go on with: seal-ray run 'my jobs/a.yaml'" in stuck.communicate(timeout=120)[1]
