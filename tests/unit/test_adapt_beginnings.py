"""What `adapt` can't begin with is said before its hours, and what it can't leave is said by whoever looks for it."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from seal_ray import config_file
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
from seal_ray.records import Version, encode
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


def test_a_folder_in_which_adapt_has_left_no_adapter_says_so_to_whoever_asks_it(tmp_path: Path) -> None:
    tests, known = QuestionSet((), frozenset(), {}, NOTHING), UncertaintyMap(0, (), ())
    done = Adapted(tests, known, None, None, "nothing to learn", ("everything is known already",), (), {})
    adapting.write(done, Config(), tmp_path / "mine")
    with pytest.raises(ConfigError, match=r"mine has no adapter.*learned\.html says why"):
        find(str(tmp_path / "mine"), StorageSection(), str(tmp_path))


def test_a_probe_without_a_question_writes_no_file_that_a_run_would_refuse(tmp_path: Path) -> None:
    tests, known = QuestionSet((), frozenset(), {}, NOTHING), UncertaintyMap(0, (), ())
    target = tmp_path / "asked.json"
    probing.write(tests, known, target, 0.15)
    assert not target.exists()
    assert f"{target} was not written" in probing.show(Config(), tests, known, target)
