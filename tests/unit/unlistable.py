"""A disk that does not let a folder be listed, as a network disk does at times."""

import os
from pathlib import Path

import pytest


def unlistable(monkeypatch: pytest.MonkeyPatch, folder: Path, number: int) -> None:
    """Listing the folder fails with this errno; root, who runs tests, is refused nothing by its mode."""
    real = os.scandir

    def scandir(path: str) -> object:
        if os.fspath(path) == str(folder):
            raise OSError(number, os.strerror(number), str(folder))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
