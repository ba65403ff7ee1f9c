"""What several tests of models start from."""

from pathlib import Path

import pytest

from seal_ray.models.builtin import make_tiny


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """A folder with a tiny random model."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    make_tiny(folder)
    return folder
