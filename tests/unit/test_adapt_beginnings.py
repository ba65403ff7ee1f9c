"""What `adapt` can't begin with is said before its hours, and what it can't leave is said by whoever looks for it."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from seal_ray import config_file
from seal_ray.cli import documents
from seal_ray.commands import adapt as adapting
from seal_ray.commands import probe as probing
from seal_ray.commands.served import find
from seal_ray.config import Config, StorageSection
from seal_ray.errors import ConfigError
from seal_ray.loops import adapt
from seal_ray.loops.adapt import Adapted
from seal_ray.loops.probe import QuestionSet
from seal_ray.loops.probing.uncertainty import UncertaintyMap
from seal_ray.policy import versions
from seal_ray.records import ADAPTER, ADAPTER_CONFIG, Version, encode
from seal_ray.storage.ledger import Ledger

BASE = "b" * 64


def run_with(folder: Path, kind: str) -> str:
    """A run whose first round made version 1, an adapter or weights of its own."""
    ledger = Ledger(str(folder))
    ledger.create(config_file.parse("", "test", [f"run.uri={folder}"]).model_dump(mode="json"), {}, 0)
    ledger.acquire("test")
    part, first = ledger.round(1), versions.first(BASE)
    made = Version(1, "a" * 64, BASE, first.digest, "rounds/0001/version", kind, 4)  # type: ignore[arg-type]
    part.put("tasks.json", {"tasks": [], "version": encode(first)})
    part.put("update.json", {"version": encode(made)})
    part.commit({"version": encode(made), "decision": "accept"})
    ledger.close()
    return str(folder)


def test_weights_of_their_own_are_no_policy_of_an_adapter(tmp_path: Path) -> None:
    session: Any = SimpleNamespace(config=Config(), base=BASE, borrow=lambda version, _: version)
    session.ledger = Ledger(str(tmp_path / "new"))
    full, lora = run_with(tmp_path / "full", "full"), run_with(tmp_path / "lora", "adapter")
    for policy in (full, f"{full}#1"):
        with pytest.raises(ConfigError, match=r"version 1 has weights of its own.*model\.name"):
            adapt.begun_with(session, policy)
    assert adapt.begun_with(session, lora).number == 1 and adapt.begun_with(session, f"{full}#0").number == 0


def test_adapt_does_not_begin_to_train_all_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def begun(*_: Any, **__: Any) -> Any:
        raise AssertionError("the run would begin")

    monkeypatch.setattr(adapt, "Session", begun)
    given = ["domain.name=documents", f"domain.data={tmp_path}", "policy.mode=full"]
    with pytest.raises(ConfigError, match=r"policy\.mode: full, and adapt makes an adapter"):
        adapt.adapt(config_file.parse("", "test", given))
    with pytest.raises(AssertionError, match="would begin"):
        adapt.adapt(config_file.parse("", "test", given[:2]))


NOTHING = {"written": 4, "by_people": 0, "lost": {"form": 4}, "kept": 0, "passages": 2, "passages_asked": 0,
           "sentences": 4, "sentences_asked": 0}  # fmt: skip
TEXTS = {"texts": 1, "passages": 1, "edits": 1, "unsupported": 0}


def test_a_folder_in_which_adapt_has_left_no_adapter_says_so_to_whoever_asks_it(tmp_path: Path) -> None:
    tests, known = QuestionSet((), frozenset(), {}, NOTHING), UncertaintyMap(0, (), ())
    done = Adapted(tests, known, None, None, "nothing to learn", ("everything is known already",), (), {})
    adapting.write(done, Config(), tmp_path / "mine")
    with pytest.raises(ConfigError, match=r"mine has no adapter.*learned\.html says why"):
        find(str(tmp_path / "mine"), StorageSection(), str(tmp_path))
    with pytest.raises(ConfigError, match="mine has no adapter"):
        documents.ask(str(tmp_path / "mine"), "Who?")


@pytest.mark.parametrize("earlier", [True, False])
def test_an_export_that_fails_leaves_what_was_there_and_may_be_tried_again(
    earlier: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def exports(done: Adapted, config: Config, to: Path) -> None:
        (to / ADAPTER).write_bytes(b"weights")
        (to / ADAPTER_CONFIG).write_text("{}")

    def fails(done: Adapted, config: Config, to: Path) -> None:
        (to / ADAPTER).write_bytes(b"half of the wei")
        raise OSError("the disk is full")

    def files(folder: Path) -> dict[str, bytes]:
        return {p.name: p.read_bytes() for p in folder.iterdir()}

    tests, known = QuestionSet((), frozenset(), {}, NOTHING), UncertaintyMap(0, (), ())
    version = Version(1, "a" * 64, BASE, "c" * 64, "rounds/0001/version", "adapter", 4)
    done = Adapted(tests, known, known, version, "accept", (), (), TEXTS)
    out = tmp_path / "mine"
    if earlier:
        monkeypatch.setattr(adapting, "_export", exports)
        adapting.write(done, Config(), out)
    before = files(out) if earlier else {}
    assert set(before) == (set(adapting.OURS) if earlier else set())
    monkeypatch.setattr(adapting, "_export", fails)
    with pytest.raises(OSError, match="disk is full"):
        adapting.write(done, Config(), out)
    assert [p.name for p in tmp_path.iterdir()] == (["mine"] if earlier else [])
    assert not earlier or files(out) == before
    adapting.check_target(out)

    monkeypatch.setattr(adapting, "_export", exports)
    assert adapting.write(done, Config(), out)["exported"]
    assert set(files(out)) == set(adapting.OURS) and files(out)[ADAPTER] == b"weights"
    adapting.write(Adapted(tests, known, None, None, "reject", (), (), {}), Config(), out)
    assert set(files(out)) == {adapting.PAGE, adapting.TEXT, adapting.DATA}, "an adapter that is no longer the one"
    assert [p.name for p in tmp_path.iterdir()] == ["mine"]


def test_a_probe_without_a_question_writes_no_file_that_a_run_would_refuse(tmp_path: Path) -> None:
    tests, known = QuestionSet((), frozenset(), {}, NOTHING), UncertaintyMap(0, (), ())
    target = tmp_path / "asked.json"
    probing.write(tests, known, target, 0.15)
    assert not target.exists()
    assert f"{target} was not written" in probing.show(Config(), tests, known, target)
