"""`make test` runs every test once, in one of two processes, and fails where one of them fails."""

import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parents[1] / "side_by_side.py"
LINE = "def test_it(): open('ran', 'a').write(__file__.rpartition('/tests/')[2] + ' '); assert {}\n"


def project(folder: Path, **outcomes: bool) -> None:
    for name, passes in outcomes.items():
        (folder / "tests" / name).mkdir(parents=True)
        (folder / "tests" / name / f"test_{name}.py").write_text(LINE.format(passes))


def run(folder: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    env = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST")}
    command = [sys.executable, str(PROGRAM), *words]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=120, check=False)


def test_every_test_runs_once_and_all_that_pass_are_a_success(tmp_path: Path) -> None:
    project(tmp_path, unit=True, attack=True, ray=True, end_to_end=True)
    done = run(tmp_path)
    assert done.returncode == 0, done.stdout
    ran = sorted((tmp_path / "ran").read_text().split())
    assert ran == sorted(f"{n}/test_{n}.py" for n in ("unit", "attack", "ray", "end_to_end"))


@pytest.mark.parametrize("broken", ["unit", "ray"])
def test_a_failure_of_either_is_a_failure_and_is_shown_at_the_end(tmp_path: Path, broken: str) -> None:
    project(tmp_path, **{name: name != broken for name in ("unit", "ray")})
    done = run(tmp_path)
    assert done.returncode == 1
    assert f"FAILED tests/{broken}/test_{broken}.py::test_it" in done.stdout.rpartition("ends with")[2]


def test_a_process_that_has_nothing_to_run_is_no_success(tmp_path: Path) -> None:
    project(tmp_path, unit=True, ray=True)
    assert run(tmp_path, "-m", "no_such_mark").returncode == 5


def test_the_places_that_the_program_names_are_there() -> None:
    program = runpy.run_path(str(PROGRAM))
    for places in (program["CLUSTERS"], *program["LONG"].values()):
        assert places and all((PROGRAM.parents[1] / place).exists() for place in places)


def test_the_long_tests_have_processes_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(PROGRAM.parents[1])
    program = runpy.run_path(str(PROGRAM))
    *some, rest = program["parts"](["-m", "slow"])
    assert {part.name: part.words[2:] for part in some} == {k: list(v) for k, v in program["LONG"].items()}
    assert {f"--ignore={place}" for part in some for place in part.words[2:]} <= set(rest.words)
    assert rest.prefix[0] == "nice" and not any(part.prefix for part in some)
    quick = program["parts"](["-m", "not slow"])
    assert len(quick) == 2 and not any(part.prefix for part in quick)
