"""Whoever runs the tests finds their own folder of models as it was before."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from seal_ray import cache_folder
from seal_ray.models import cache
from seal_ray.models.builtin import make_tiny, recipe_of

ROOT = Path(__file__).parents[2]
# each takes something from the folder of models: a built-in model, one of a store, a digest that is remembered
TESTS = (
    "tests/unit/test_probe.py::test_progress_is_told",
    "tests/unit/test_described_models.py::test_a_store_tells_no_digests_so_the_model_is_fetched",
)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A person's home, with a built-in model that the person has used before."""
    folder = tmp_path / "home"
    own = cache.ModelCache(folder / ".cache" / "seal-ray")
    own.take(own.key("builtin:tiny", recipe_of("builtin:tiny")), make_tiny)
    return folder


def run_tests(home: Path) -> None:
    env = {k: v for k, v in os.environ.items() if k not in (cache_folder.ROOT, "XDG_CACHE_HOME") and "PYTEST" not in k}
    command = [sys.executable, "-m", "pytest", "-q", f"--basetemp={home.parent / 'tests'}", *TESTS]
    done = subprocess.run(
        command, env=env | {"HOME": str(home)}, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout


def inside(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_a_test_run_leaves_a_persons_models_as_they_were(home: Path) -> None:
    before = inside(home)
    run_tests(home)
    assert inside(home) == before
