"""The archive of versions: who may be a parent, and how one is drawn."""

from collections import Counter
from pathlib import Path

import pytest

from seal_ray import config_file
from seal_ray.commands import report
from seal_ray.config import Config, StorageSection
from seal_ray.loops import parents
from seal_ray.loops.history import Run
from seal_ray.policy import versions
from seal_ray.policy.archive import Archived, best, drawn
from seal_ray.policy.versions import tree
from seal_ray.records import Version, digest, encode
from seal_ray.storage.ledger import Ledger

BASE = "base-model"


def version(number: int, parent: Version) -> Version:
    name = digest([parent.digest, number])
    return Version(number, name, BASE, parent.digest, f"rounds/{number:04d}/version", "adapter", 4)


FIRST = versions.first(BASE)
ONE, TWO = version(1, FIRST), version(2, FIRST)


def test_the_best_is_the_accepted_one_with_the_highest_score() -> None:
    archive = [
        Archived(FIRST, 0.2, 2, True),
        Archived(ONE, 0.3, 0, True),
        Archived(TWO, 0.9, 0, False),
        Archived(version(3, ONE), None, 0, True),
    ]
    assert best(archive).version == ONE
    assert best([Archived(FIRST, None, 1, True), Archived(ONE, None, 0, True)]).version == ONE


def test_the_archive_draws_by_score_and_by_how_few_children_there_are() -> None:
    archive = [Archived(FIRST, 0.2, 3, True), Archived(ONE, 0.6, 0, True), Archived(TWO, 0.4, 0, False)]
    count = Counter(drawn(archive, seed)[0].version.number for seed in range(400))
    _, chances = drawn(archive, 1)
    assert sum(chances.values()) == pytest.approx(1)
    for one in archive:
        assert count[one.version.number] / 400 == pytest.approx(chances[one.version.digest], abs=0.1)
    assert count[1] > count[2] > count[0] > 0, "a rejected version and the base are drawn too"
    assert drawn(archive, 5)[0] == drawn(archive[::-1], 5)[0], "the same for the same seed"


def test_without_scores_only_the_children_count() -> None:
    _, chances = drawn([Archived(FIRST, None, 1, True), Archived(ONE, None, 0, True)], 1)
    assert chances[ONE.digest] == pytest.approx(2 * chances[FIRST.digest])


def configured(uri: str, parent: str) -> Config:
    return config_file.parse("", "nothing", [f"run.uri={uri}", f"run.parent={parent}", "run.rounds=9"])


def ledger_of(uri: str, decisions: list[str], parent: str) -> Ledger:
    """Rounds with these decisions, each from the parent that the archive gives; score and number go together."""
    config = configured(uri, parent)
    ledger = Ledger(uri)
    ledger.create(config.model_dump(mode="json"), {}, config.run.seed)
    ledger.acquire("test")
    for number, decision in enumerate(decisions, 1):
        part = ledger.round(number)
        began = parents.parent_of(ledger, number, BASE, config)
        part.put("tasks.json", {"tasks": [], "version": encode(began)})
        new = version(number, began)
        part.put("update.json", {"version": encode(new), "edits": [], "losses": [1.0], "steps": 1, "kl": 0.0})
        part.put("gate.json", {"decision": decision, "figures": {"old": 0.1, "new": number / 10}, "reasons": []})
        current = new if decision == "accept" else began
        part.commit({"version": encode(current), "decision": decision})
    return ledger


def test_four_rounds_from_the_archive_make_a_tree_of_all_versions(tmp_path: Path) -> None:
    uri = str(tmp_path / "run")
    ledger = ledger_of(uri, ["reject", "accept", "reject", "accept"], "archive")
    began = [parents.parent_of(ledger, n, BASE, configured(uri, "archive")).number for n in (1, 2, 3, 4)]
    ledger.close()
    assert began[0] == 0
    known = {one.version.number: one for one in parents.archive_of(ledger, BASE)}
    assert [known[n].accepted for n in (0, 1, 2, 3, 4)] == [True, False, True, False, True]
    assert sum(one.children for one in known.values()) == 4
    lines = tree(Run(uri).lineage())
    assert all(f"version {n}" in lines for n in range(5))
    assert report.overview(Run(uri))["lineage"] == lines, "the page draws it"


def test_a_run_without_a_version_of_its_own_has_no_tree_to_draw(tmp_path: Path) -> None:
    ledger_of(str(tmp_path / "run"), [], "latest").close()
    assert report.overview(Run(str(tmp_path / "run")))["lineage"] is None


def test_a_round_that_begins_with_a_rejected_version_goes_on_from_it(tmp_path: Path) -> None:
    uri = str(tmp_path / "run")
    ledger = ledger_of(uri, ["reject"], "archive")
    rejected = parents.archive_of(ledger, BASE)
    (one,) = [a for a in rejected if not a.accepted]
    part = ledger.round(2)
    part.put("parent.json", {"by": "run.parent: archive", "why": "drawn", "version": encode(one.version)})
    config = configured(uri, "archive")
    began = parents.parent_of(ledger, 2, BASE, config)
    assert began == one.version
    part.put("tasks.json", {"tasks": [], "version": encode(began)})
    child = version(2, began)
    part.put("update.json", {"version": encode(child), "edits": [], "losses": [1.0], "steps": 1, "kl": 0.0})
    part.put("gate.json", {"decision": "accept", "figures": {"old": 0.2, "new": 0.5}, "reasons": []})
    part.commit({"version": encode(child), "decision": "accept"})
    ledger.close()
    (root,) = Run(uri).lineage()
    (rejected_node,) = root["children"]
    (child_node,) = rejected_node["children"]
    assert (rejected_node["gate"]["decision"], child_node["gate"]["decision"]) == ("reject", "accept")
    assert child_node["current"] and Run(uri).current() == child


def test_an_archive_in_which_everything_was_rejected_still_has_the_base_and_the_rejected(tmp_path: Path) -> None:
    ledger = ledger_of(str(tmp_path / "run"), ["reject", "reject", "reject"], "archive")
    ledger.close()
    archive = parents.archive_of(ledger, BASE)
    assert len(archive) == 4 and sum(one.accepted for one in archive) == 1
    assert best(archive).version == FIRST
    assert len({drawn(archive, seed)[0].version.number for seed in range(60)}) == 4


def test_what_was_drawn_is_kept_and_a_person_may_still_name_another(tmp_path: Path) -> None:
    from seal_ray.commands import decisions

    uri = str(tmp_path / "run")
    ledger = ledger_of(uri, ["accept", "accept"], "best")
    assert parents.parent_of(ledger, 3, BASE, configured(uri, "best")).number == 2
    said = parents.said(ledger.round(3))
    assert said and said["by"] == "run.parent: best" and said["why"] == "0.200"
    ledger.close()
    decisions.rollback(uri, StorageSection(), to=1, why="it writes worse edits")
    ledger = Ledger(uri, read_only=True)
    assert parents.parent_of(ledger, 3, BASE, configured(uri, "best")).number == 1


def test_what_an_older_version_called_rollback_is_read(tmp_path: Path) -> None:
    uri = str(tmp_path / "run")
    ledger = ledger_of(uri, ["accept", "accept"], "latest")
    ledger.round(3).put("rollback.json", {"by": "a person", "why": "", "to": 1, "version": encode(version(1, FIRST))})
    assert parents.parent_of(ledger, 3, BASE, configured(uri, "latest")).number == 1
    ledger.close()
    assert (Run(uri).rollback() or {})["by"] == "a person"
