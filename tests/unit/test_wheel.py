"""An installed wheel holds everything that the commands need: nothing is read from a checkout."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def files(folder: Path) -> set[str]:
    there = (p for p in (folder / "seal_ray").rglob("*") if p.is_file() and "__pycache__" not in p.parts)
    return {p.relative_to(folder).as_posix() for p in there}


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel of this package, unpacked as pip would."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    shutil.copytree(ROOT / "seal_ray", source / "seal_ray", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    build = f"from setuptools.build_meta import build_wheel; build_wheel({str(folder)!r})"
    subprocess.run([sys.executable, "-c", build], cwd=source, check=True, capture_output=True, timeout=300)
    (wheel,) = folder.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(folder / "site")
    return folder / "site"


def test_every_file_of_the_package_is_in_it(installed: Path) -> None:
    assert files(installed) == files(ROOT)


@pytest.fixture
def elsewhere(installed: Path, tmp_path: Path) -> Callable[..., str]:
    """Runs Python far from the repository, where the package is the wheel's; what it printed."""

    def run(code: str, *words: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", code, *words],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(installed)},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


COMMAND = "import seal_ray.cli, sys; sys.argv[0] = 'seal-ray'; seal_ray.cli.main()"
# everything that a run reads before it asks for machines; a tiny model stands in for the quickstart's
BEGIN = """
import sys
import seal_ray
from seal_ray import config_file
from seal_ray.loops.session import Session

class NoMachines(Exception):
    pass

def nobody(config, folder, tell):
    print(seal_ray.__file__, config.model.name, folder, config.domain.data)
    raise NoMachines

config = config_file.load(sys.argv[1], ["model.name=builtin:tiny", f"model.cache={sys.argv[2]}"])
try:
    Session(config, hire=nobody)
except NoMachines:
    print("machines are asked for")
"""


def test_the_built_in_configurations_are_planned_far_from_the_repository(elsewhere: Callable[..., str]) -> None:
    assert json.loads(elsewhere(COMMAND, "plan", "builtin:quickstart", "--json"))


def test_what_init_writes_is_checked_and_planned_far_from_the_repository(elsewhere: Callable[..., str]) -> None:
    assert "wrote my.yaml; next: seal-ray validate my.yaml" in elsewhere(COMMAND, "init", "my.yaml")
    assert "my.yaml is valid" in elsewhere(COMMAND, "validate", "my.yaml")
    assert "to train on" in elsewhere(COMMAND, "plan", "my.yaml")


def test_a_run_finds_all_it_reads_before_it_asks_for_machines(
    elsewhere: Callable[..., str], installed: Path, tmp_path: Path
) -> None:
    said = elsewhere(BEGIN, "builtin:quickstart", str(tmp_path / "models"))
    assert str(installed) in said and str(tmp_path / "models") in said and "machines are asked for" in said
