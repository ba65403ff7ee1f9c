"""The version that `adapt` begins with: which one that is, and where its files are found afterwards."""

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from knowing_crew import KnowingCrew, folder, world
from test_adapt import configured, go
from two_versions import two_versions

from seal_ray import models
from seal_ray.commands.decisions import rollback
from seal_ray.commands.export import export
from seal_ray.commands.served import find
from seal_ray.config import Config, StorageSection
from seal_ray.errors import ConfigError
from seal_ray.loops.adapt import begun_with
from seal_ray.loops.history import Run, find_version
from seal_ray.records import ADAPTER, encode
from seal_ray.storage.ledger import Ledger


def test_a_run_that_is_named_as_the_policy_stands_for_its_current_version(tmp_path: Path) -> None:
    uri, storage = str(tmp_path / "run"), StorageSection()
    two_versions(uri, tmp_path)
    rollback(uri, storage, to=1, why="the second one forgets")
    base = models.digest_of(models.fetch(Run(uri).config.model))
    session: Any = SimpleNamespace(config=Config(storage=storage), base=base, borrow=lambda version, _: version)
    session.ledger = Ledger(str(tmp_path / "new"), storage)
    assert [begun_with(session, policy).number for policy in (uri, f"{uri}#2", f"{uri}#1")] == [1, 2, 1]
    with pytest.raises(ConfigError, match="no such version"):
        begun_with(session, f"{uri}#7")


@pytest.mark.parametrize("committed", [True, False])  # an older run says it only where its first round is committed
def test_a_run_that_is_gone_on_with_keeps_the_policy_that_it_began_with(tmp_path: Path, committed: bool) -> None:
    uri, storage = str(tmp_path / "run"), StorageSection()
    two_versions(uri, tmp_path)
    base = models.digest_of(models.fetch(Run(uri).config.model))
    ledger = Ledger(str(tmp_path / "mine"), storage)
    session: Any = SimpleNamespace(config=Config(storage=storage), base=base, borrow=lambda version, _: version)
    session.ledger = ledger
    ledger.create(session.config.model_dump(mode="json"), {}, 1)
    ledger.acquire("test")
    begun = begun_with(session, uri)
    if committed:
        ledger.round(1).commit({"version": encode(begun)})
    else:
        ledger.round(1).put("policy.json", {"version": encode(begun)})
    rollback(uri, storage, to=1, why="the second one forgets")
    assert [begun_with(session, policy).number for policy in (uri, f"{uri}#2")] == [2, 2]
    for other in ("", f"{uri}#1"):
        with pytest.raises(ConfigError, match="the run began with version 2"):
            begun_with(session, other)
    ledger.close()


def test_a_borrowed_version_that_stays_current_is_found_in_the_run_that_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    lender, storage, facts = "lender", StorageSection(), world(8)
    two_versions(lender, tmp_path)
    config = configured(tmp_path, folder(tmp_path, facts))
    assert go(config, KnowingCrew(facts), monkeypatch, policy=f"{lender}#2").decision == "nothing to learn"
    monkeypatch.chdir("/")
    lender = str(tmp_path / lender)
    for run in (config.run.uri, f"{config.run.uri}#2"):
        (found,) = find(run, storage, str(tmp_path / "asked")).adapters.values()
        assert (Path(found) / ADAPTER).read_bytes() == (tmp_path / "made-2" / ADAPTER).read_bytes()
    version, keeper = find_version(f"{config.run.uri}#2", storage)
    assert (version.number, keeper.uri) == (2, Run(lender).uri)
    again = configured(tmp_path, tmp_path / "docs", f"run.uri={tmp_path / 'again'}")
    assert go(again, KnowingCrew(facts), monkeypatch, policy=config.run.uri).decision == "nothing to learn"
    assert Run(again.run.uri).keeper(version).uri == Run(lender).uri
    export(Run(again.run.uri), tmp_path / "out", kind="adapter", number=0)
    assert (tmp_path / "out" / ADAPTER).is_file()
    shutil.move(lender, tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match=rf"version 2 of .*run is kept in {lender}, and no run is there"):
        find_version(f"{config.run.uri}#2", storage)
