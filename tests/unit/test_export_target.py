"""Where an export can't be written is found before anything is fetched for it."""

from pathlib import Path
from typing import Any

import pytest
from two_versions import two_versions

from seal_ray import models
from seal_ray.commands.export import export
from seal_ray.errors import ConfigError, SealError
from seal_ray.loops.history import Run
from seal_ray.policy.export import check_target


def test_a_target_that_can_not_be_written_costs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    two_versions(str(tmp_path / "run"), tmp_path)
    (tmp_path / "file").touch()

    def fetch(*_: Any, **__: Any) -> str:
        raise AssertionError("the model was fetched")

    monkeypatch.setattr(models, "fetch", fetch)
    for to in (tmp_path / "file", tmp_path / "file/below"):
        with pytest.raises(SealError, match=r"already there|can't be written") as caught:
            export(Run(str(tmp_path / "run")), to, kind="adapter", number=1)
        assert caught.value.exit_code == 2


def test_folders_above_a_target_are_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    check_target("new/below")
    monkeypatch.setattr("os.access", lambda *_: False)
    with pytest.raises(ConfigError, match="takes no new folder"):
        check_target("new/below")
