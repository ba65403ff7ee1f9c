"""What a person gets wrong: one readable message, the right exit code, no traceback, nothing written."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from command import ROOT, environment, seal_ray

PASSAGE = {"title": "A", "context": "B is C.", "questions": [{"question": "What is B?", "answer": "C"}]}


def refused(tmp_path: Path, *overrides: str, command: str = "run", expect: int = 2) -> str:
    """The message of a run that is refused; checks that it left nothing behind."""
    uri = tmp_path / "run"
    words = [w for o in (f"run.uri={uri}", *overrides) for w in ("--set", o)]
    done = seal_ray(command, "jobs/tiny.yaml", *words, expect=expect, within=120)
    assert "Traceback" not in done.stderr
    assert not uri.exists(), list(uri.rglob("*"))
    return done.stderr


def data(tmp_path: Path, value: object) -> str:
    path = tmp_path / "data.json"
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return f"domain.data={path}"


@pytest.mark.parametrize(
    ("override", "parts"),
    [
        ("inner.rnak=4", ["inner.rnak", "did you mean rank"]),
        ("inner.rank=0", ["inner.rank", "0", "greater than or equal to 1"]),
        ("domain={name: chess}", ["chess", "not installed", "knowledge"]),
        ("domain.name=chess", ["domain.data", "options"]),
        ("domain.data=none.json", ["none.json", "no file"]),
        ("model.name=./no-such-folder", ["no-such-folder", "there is no folder"]),
        ("model.name=builtin:huge", ["builtin:huge", "builtin:tiny"]),
        ("run.resume=must", ["resume", "no run"]),
    ],
)
def test_a_wrong_value_is_refused(tmp_path: Path, override: str, parts: list[str]) -> None:
    message = refused(tmp_path, override)
    for part in parts:
        assert part in message


@pytest.mark.parametrize(
    ("content", "part"),
    [
        ("{not json", "JSON"),
        ([], "no passage"),
        ([PASSAGE | {"questions": []}], "question"),
        ([PASSAGE | {"context": " "}], "empty"),
        ([PASSAGE | {"questions": [{"question": "What?"}]}], "answer"),
    ],
)
def test_wrong_data_is_refused_by_validate_and_by_run(tmp_path: Path, content: object, part: str) -> None:
    override = data(tmp_path, content)
    for command in ("validate", "run"):
        message = refused(tmp_path, override, command=command)
        assert part in message
        assert "data.json" in message


def test_a_gpu_that_is_not_there_is_named_before_the_deadline(tmp_path: Path) -> None:
    message = refused(tmp_path, "placement.device=gpu", "placement.deadline=2", "model.dtype=auto", expect=3)
    assert "GPU" in message


def test_an_unknown_command_and_a_missing_file_exit_with_2() -> None:
    assert "No such command" in seal_ray("fly", expect=2).stderr
    assert "seal-ray init" in seal_ray("validate", "no-such.yaml", expect=2).stderr


def test_init_writes_what_validate_accepts(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    seal_ray("init", str(path))
    seal_ray("validate", str(path))
    assert "already there" in seal_ray("init", str(path), expect=2).stderr


def test_plan_says_what_a_run_will_do() -> None:
    found = json.loads(seal_ray("plan", "builtin:quickstart", "--json").stdout)
    assert found["round"]["candidates"] == 4 * 3 + 4 + 4
    assert found["tasks"]["train"] > 0
    assert found["memory"]["wave_gb"] > found["memory"]["base_gb"]
    assert all(u["seconds"] > 0 and u["gb"] > found["memory"]["base_gb"] for u in found["update"])


def test_a_missing_vllm_is_named_before_anything_is_started(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from importlib import metadata\n"
        "known = metadata.version\n"
        "def version(name):\n"
        "    if name.startswith('vllm'):\n"
        "        raise metadata.PackageNotFoundError(name)\n"
        "    return known(name)\n"
        "metadata.version = version\n"
        "from seal_ray.cli import main\n"
        f"sys.argv = ['seal-ray', 'run', 'jobs/tiny.yaml', '--set', 'run.uri={tmp_path}/run']\n"
        "main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120, env=environment()
    )
    assert done.returncode == 3, done.stderr
    assert "not installed here: vllm; install seal-ray with its cpu or gpu extra" in done.stderr
    assert "Traceback" not in done.stderr and not (tmp_path / "run").exists()
