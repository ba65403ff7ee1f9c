"""What is damaged or gone is named, is not believed, and takes nothing else with it."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from ledger_samples import begin, committed, flip, only, trial

from seal_ray.errors import LedgerError
from seal_ray.events import Warned
from seal_ray.storage import codec
from seal_ray.storage.garbage import gc
from seal_ray.storage.ledger import Ledger
from seal_ray.storage.verification import verify


@pytest.mark.parametrize("place", [0.0, 0.2, 0.5, 0.9])
@pytest.mark.parametrize(
    "pattern", ["trials/*.jsonl", "tasks.json", "version/*/adapter.safetensors", "manifest.json", "version.files.json"]
)
def test_a_flipped_bit_is_found_and_named(tmp_path: Path, pattern: str, place: float) -> None:
    run = committed(tmp_path)
    broken = only(run / "rounds/0002", pattern)
    flip(broken, place)
    found = verify(Ledger(str(run), read_only=True))
    assert str(broken.relative_to(run)) in [p.path for p in found if p.grave]
    part = Ledger(str(run), read_only=True).round(2)
    if pattern == "manifest.json":
        assert part.manifest() is None
        return
    read = {
        "trials/*.jsonl": lambda: part.records("trials"),
        "tasks.json": lambda: part.get("tasks.json"),
    }.get(pattern, lambda: part.get_dir("version", tmp_path / "back"))
    with pytest.raises(LedgerError, match=f"{broken.name}.*(is damaged|was written with schema)"):
        read()


@pytest.mark.parametrize("pattern", ["trials/*.jsonl", "tasks.json", "version/*/adapter.safetensors"])
def test_a_round_whose_part_is_gone_is_not_the_latest(tmp_path: Path, pattern: str) -> None:
    run = committed(tmp_path)
    gone = only(run / "rounds/0002", pattern)
    gone.unlink()
    reader = Ledger(str(run), read_only=True)
    assert reader.latest() == 1 and reader.manifest(2) is None
    assert [p.path for p in verify(reader) if p.grave] == [str(gone.relative_to(run))]


def test_a_round_that_lost_a_part_is_done_again_and_committed_beside_the_old_manifest(tmp_path: Path) -> None:
    run = committed(tmp_path)
    only(run / "rounds/0002", "trials/*.jsonl").unlink()
    flip(run / "rounds/0002/tasks.json", 0.5)
    ledger = begin(str(run))
    assert ledger.latest() == 1
    part = ledger.round(2)
    left = part.records("trials")
    assert 0 < len(left) < 20 and part.get("tasks.json") is None
    assert any("trials" in d for d in part.damage) and any("tasks.json" in d for d in part.damage)
    for n in range(20):
        part.append("trials", trial(f"c2-{n}"))
    part.put("tasks.json", {"tasks": [2]})
    part.commit({"round": 2})
    ledger.close()
    reader = Ledger(str(run), read_only=True)
    assert reader.latest() == 2 and len(reader.round(2).records("trials")) == 20
    assert reader.round(2).get("tasks.json") == {"tasks": [2]} and verify(reader) == []


def test_torn_segments_of_an_open_round_are_passed_over_and_named(tmp_path: Path) -> None:
    ledger = begin(str(tmp_path))
    for n in range(20):
        ledger.round(1).append("trials", trial(f"c{n}"))
    ledger.close()
    whole = sorted((tmp_path / "rounds/0001/trials").iterdir())
    for cut, path in zip((0, 10, 150, path_size(whole[3]) - 1), whole, strict=False):
        path.write_bytes(path.read_bytes()[:cut])
    reader = Ledger(str(tmp_path), read_only=True)
    assert len({p.path for p in verify(reader)}) == 4
    left = reader.round(1).records("trials")
    assert 0 < len(left) < 20 and len(reader.round(1).damage) == 4


def path_size(path: Path) -> int:
    return path.stat().st_size


def test_a_segment_under_another_name_is_not_believed(tmp_path: Path) -> None:
    ledger = begin(str(tmp_path))
    ledger.round(1).append("trials", trial("c1"))
    ledger.flush()
    path = only(tmp_path, "rounds/0001/trials/*")
    (path.parent / "e000001-00000007.jsonl").write_bytes(path.read_bytes())
    ledger.close()
    assert [p.what for p in verify(Ledger(str(tmp_path)))] == ["damaged"]


def test_a_run_without_its_first_page_is_refused(tmp_path: Path) -> None:
    run = committed(tmp_path)
    (run / "run.json").unlink()
    with pytest.raises(LedgerError, match=r"run\.json is gone"):
        Ledger(str(run)).exists()
    assert [p.path for p in verify(Ledger(str(run)))] == ["run.json"]


def test_a_ledger_that_was_edited_by_hand_is_refused(tmp_path: Path) -> None:
    run = committed(tmp_path)
    text = json.loads((run / "run.json").read_text())
    text["value"]["seed"] = 8
    (run / "run.json").write_text(json.dumps(text))
    with pytest.raises(LedgerError, match=r"run\.json is damaged"):
        Ledger(str(run)).run()


# what verify must miss


def an_open_round(tmp_path: Path, closed: bool) -> tuple[Ledger, Path]:
    """A committed round, and one that is on."""
    run = tmp_path / "run"
    ledger = begin(str(run))
    for number in (1, 2):
        part = ledger.round(number)
        part.put("tasks.json", {"tasks": [number]})
        for n in range(20):
            part.append("trials", trial(f"c{number}-{n}"))
        part.put("rewards.json", {"rewards": []})
        if number == 1:
            part.commit({"round": number})
    if closed:
        ledger.close()
    return ledger, run


def graves(run: Path) -> list[tuple[str, str]]:
    return [(p.what, p.path) for p in verify(Ledger(str(run), read_only=True)) if p.grave]


@pytest.mark.parametrize("gone", ["rounds/0001/manifest.json", "rounds/0002/manifest.json"])
def test_a_committed_manifest_that_is_gone_is_missed(tmp_path: Path, gone: str) -> None:
    run = committed(tmp_path)
    (run / gone).unlink()
    assert ("missing", gone) in graves(run)


def test_a_committed_manifest_is_missed_also_where_its_driver_did_not_end(tmp_path: Path) -> None:
    ledger, run = an_open_round(tmp_path, closed=False)
    ledger.round(2).commit({})
    (run / "rounds/0002/manifest.json").unlink()
    assert ("missing", "rounds/0002/manifest.json") in graves(run)
    ledger.close()


def test_a_round_that_is_gone_altogether_is_missed(tmp_path: Path) -> None:
    run = committed(tmp_path)
    shutil.rmtree(run / "rounds/0001")
    assert ("missing", "rounds/0001/manifest.json") in graves(run)


def test_rounds_behind_a_symbolic_link_are_read_like_others(tmp_path: Path) -> None:
    run = committed(tmp_path)
    (run / "rounds").rename(tmp_path / "elsewhere")
    (run / "rounds").symlink_to(tmp_path / "elsewhere")
    assert graves(run) == []
    broken = only(run / "rounds/0002", "trials/*.jsonl")
    flip(broken, 0.5)
    assert graves(run) == [("damaged", str(broken.relative_to(run)))]
    (tmp_path / "elsewhere/loop").symlink_to(tmp_path / "elsewhere")
    assert len(graves(run)) == 1


@pytest.mark.parametrize("kind", ["trials", "events"])
def test_a_segment_that_was_copied_over_another_is_named(tmp_path: Path, kind: str) -> None:
    ledger, run = an_open_round(tmp_path, closed=False)
    for n in range(60):
        ledger.events(Warned(f"{n} {'x' * 50}"))
    ledger.close()
    folder = run / ("events" if kind == "events" else "rounds/0002/trials")
    first, second = sorted(folder.iterdir())[:2]
    other = run / "rounds/0001/trials" / second.name if kind == "trials" else first
    second.write_bytes(other.read_bytes())
    found = verify(Ledger(str(run), read_only=True))
    assert [(p.what, p.path) for p in found] == [("damaged", str(second.relative_to(run)))]
    assert found[0].grave is (kind == "trials")


def test_a_part_that_was_copied_over_another_is_named(tmp_path: Path) -> None:
    _, run = an_open_round(tmp_path, closed=True)
    (run / "rounds/0002/tasks.json").write_bytes((run / "rounds/0001/tasks.json").read_bytes())
    assert graves(run) == [("damaged", "rounds/0002/tasks.json")]
    (run / "rounds/0002/tasks.json").write_bytes((run / "rounds/0002/rewards.json").read_bytes())
    assert graves(run) == [("damaged", "rounds/0002/tasks.json")]


@pytest.mark.parametrize("closed", [True, False])
@pytest.mark.parametrize("gone", ["tasks.json", "rewards.json", "trials/e000001-00000003.jsonl"])
def test_what_the_latest_driver_wrote_in_an_open_round_is_missed(tmp_path: Path, closed: bool, gone: str) -> None:
    ledger, run = an_open_round(tmp_path, closed)
    (run / "rounds/0002" / gone).unlink()
    assert graves(run) == [("missing", f"rounds/0002/{gone}")]
    ledger.close()


def test_what_went_up_in_parts_is_whole_with_its_claim_beside_it(tmp_path: Path) -> None:
    ledger, run = an_open_round(tmp_path, closed=True)
    for name in ("tasks.json", "trials/e000001-00000001.jsonl"):
        ledger.store.create(f"rounds/0002/{name}.claim", b"a digest")
    assert verify(Ledger(str(run), read_only=True)) == []
    ledger.store.create("rounds/0002/gate.json.claim", b"a digest")
    found = verify(Ledger(str(run), read_only=True))
    assert [(p.what, p.path, p.grave) for p in found] == [("missing", "rounds/0002/gate.json.claim", False)]
    (run / "rounds/0002/tasks.json").unlink()
    assert graves(run) == [("missing", "rounds/0002/tasks.json")], "a claim stands for nothing"


def test_what_an_earlier_driver_wrote_in_an_open_round_is_missed(tmp_path: Path) -> None:
    _, run = an_open_round(tmp_path, closed=True)
    begin(str(run)).close()
    (run / "rounds/0002/tasks.json").unlink()
    (run / "rounds/0002/trials/e000001-00000001.jsonl").unlink()
    assert [path for _, path in graves(run)] == ["rounds/0002/trials/e000001-00000001.jsonl", "rounds/0002/tasks.json"]


@pytest.mark.parametrize("closed", [True, False])
def test_what_says_what_counts_is_missed_when_it_is_gone(tmp_path: Path, closed: bool) -> None:
    ledger, run = an_open_round(tmp_path, closed)
    (run / "epochs/000001.seen.json").unlink()
    assert ("missing", "epochs/000001.seen.json") in graves(run)
    ledger.close()


def test_a_take_over_that_is_gone_is_missed(tmp_path: Path) -> None:
    run = committed(tmp_path)
    begin(str(run)).close()
    (run / "epochs/000001.json").unlink()
    assert ("missing", "epochs/000001.json") in graves(run)


def test_what_says_what_counts_is_damaged_and_the_rest_is_read(tmp_path: Path) -> None:
    run = committed(tmp_path)
    begin(str(run)).close()
    flip(run / "epochs/000002.seen.json", 0.5)
    assert graves(run) == [("damaged", "epochs/000002.seen.json")]
    reader = Ledger(str(run), read_only=True)
    assert reader.latest() == 2 and len(reader.round(2).records("trials")) == 20
    begin(str(run)).close()  # and the run can be gone on with


def test_a_manifest_that_counts_other_records_than_there_are_is_named(tmp_path: Path) -> None:
    run = committed(tmp_path)
    path = run / "rounds/0002/manifest.json"
    value, epoch = codec.unpack_part(path.read_bytes(), "rounds/0002/manifest.json", "")
    value["records"]["trials"]["count"] += 1
    path.write_bytes(codec.pack_part("rounds/0002/manifest.json", epoch, value))
    assert graves(run) == [("damaged", "rounds/0002/manifest.json")]


# any bit


@pytest.mark.parametrize("pattern", ["rounds/0002/trials/*1.jsonl", "rounds/0002/tasks.json", "run.json"])
def test_whichever_bit_flips_the_damage_is_named_and_stops_nobody(tmp_path: Path, pattern: str) -> None:
    """Header and path are under the digest: no flipped bit is a KeyError, or a demand for a newer seal_ray."""
    _, run = an_open_round(tmp_path, closed=True)
    victim = only(run, pattern)
    path, whole = str(victim.relative_to(run)), victim.read_bytes()
    for place in range(min(len(whole), 300)):
        for bit in range(8):
            data = bytearray(whole)
            data[place] ^= 1 << bit
            try:
                if path.endswith(".jsonl"):
                    lines = codec.unpack_segment(bytes(data), path, path)[1]
                    assert lines == codec.unpack_segment(whole, path, path)[1]
                else:
                    value, _ = codec.unpack_part(bytes(data), path, path)
                    assert value == codec.unpack_part(whole, path, path)[0]
            except codec.Damaged:
                continue
            # the same content in other words: 1e5 and 1E5
            assert whole[place : place + 1].isalpha()
    victim.write_bytes(bytes([whole[0] ^ 1]) + whole[1:])
    assert ("damaged", path) in graves(run)


def test_objects_of_schema_1_are_read_and_their_damage_is_named(tmp_path: Path) -> None:
    """As seal_ray 0.1.0 wrote them before there was a path in them."""
    body = codec.text(trial("c1")).encode() + b"\n"
    header = {"schema": 1, "kind": "trials", "epoch": 1, "number": 1, "records": 1, "digest": codec.sha256(body)}
    old = codec.text(header).encode() + b"\n" + body
    path = "rounds/0001/trials/e000001-00000001.jsonl"
    assert codec.unpack_segment(old, path, path) == (1, [body[:-1]])
    for elsewhere in ("rounds/0001/edits/e000001-00000001.jsonl", "rounds/0001/trials/e000001-00000002.jsonl"):
        with pytest.raises(codec.Damaged):
            codec.unpack_segment(old, elsewhere, elsewhere)
    value = {"decision": "accept"}
    seal = codec.sha256(f"gate.json\n1\n{codec.text(value)}".encode())
    part = codec.text({"schema": 1, "name": "gate.json", "epoch": 1, "digest": seal, "value": value}).encode()
    assert codec.unpack_part(part, "rounds/0001/gate.json", "") == (value, 1)
    assert codec.unpack_part(part, "rounds/0001/gate.e000001.json", "") == (value, 1)
    with pytest.raises(codec.Damaged):
        codec.unpack_part(part, "rounds/0001/tasks.json", "")
    for whole, read, where in ((old, codec.unpack_segment, path), (part, codec.unpack_part, "rounds/0001/gate.json")):
        for place in range(len(whole)):
            try:
                read(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :], where, where)
            except codec.Damaged:
                continue


@pytest.mark.parametrize("parts", [None, 3, [1], [[]], [{}], [{"path": 3, "size": 1, "sha256": "x"}], {"a": 1}])
@pytest.mark.parametrize("name", ["manifest.json", "version.files.json"])
def test_a_list_of_parts_that_is_none_is_damage_whoever_signed_it(tmp_path: Path, name: str, parts: Any) -> None:
    run = committed(tmp_path)
    path = f"rounds/0002/{name}"
    value = {"parts": parts, "records": {}} if name == "manifest.json" else {"folder": "x", "files": parts}
    (run / path).write_bytes(codec.pack_part(path, 1, value))
    reader = Ledger(str(run), read_only=True)
    assert path in [p.path for p in verify(reader) if p.grave]
    gc(reader, dry_run=True)
