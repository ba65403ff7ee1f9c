"""What the ledger goes by before all else has its form or is damage, whoever signed it; no number costs by its size."""

from pathlib import Path
from typing import Any

import pytest
from ledger_samples import begin, committed, segment, trial

from seal_ray.errors import LedgerError
from seal_ray.storage import codec
from seal_ray.storage.garbage import gc
from seal_ray.storage.ledger import Ledger
from seal_ray.storage.seen import Seen
from seal_ray.storage.store import Store
from seal_ray.storage.verification import verify

SEEN = {"epoch": 1, "committed": 2, "files": [], "segments": {}}
HOLDER = {"owner": "me", "nonce": "1", "lease": 60.0, "process": {}}


def signed(run: Path, path: str, value: Any) -> None:
    """The value at that path, as whole as a digest can make it."""
    (run / path).parent.mkdir(exist_ok=True)
    (run / path).write_bytes(codec.pack_part(path, 1, value))


def graves(run: Path) -> list[str]:
    return [p.path for p in verify(Ledger(str(run), read_only=True)) if p.grave]


LIES: list[tuple[str, Any]] = [
    *(("epochs/000001.seen.json", value) for value in (
        None, [], {}, SEEN | {"epoch": "1"}, SEEN | {"committed": 10**400}, SEEN | {"committed": True},
        SEEN | {"files": "all"}, SEEN | {"files": [3]}, SEEN | {"segments": []}, SEEN | {"segments": {"events": [1]}},
        SEEN | {"segments": {"events": {"one": []}}}, SEEN | {"segments": {"events": {"1": [[1]]}}},
        SEEN | {"segments": {"events": {"1": [[2, 1]]}}}, SEEN | {"segments": {"events": {"1": [[1, 3], [2, 5]]}}},
        SEEN | {"segments": {"events": {"1": [[1, 10**30]]}}}, SEEN | {"segments": {"events": {"1": 3}}},
    )),
    *(("epochs/000001.json", value) for value in (
        "me", {}, HOLDER | {"lease": "long"}, HOLDER | {"lease": 1e300}, HOLDER | {"lease": True},
        HOLDER | {"owner": None}, HOLDER | {"process": []}, HOLDER | {"process": {"pid": "../../etc", "born": ""}},
    )),
    *(("epochs/000001.end.json", value) for value in (3, {"written": 3}, {"written": {}}, {"note": [1]})),
    *(("epochs/000001.beat.json", value) for value in ([], {"written": SEEN | {"files": None}})),
    *(("tombstones/000001.json", value) for value in (
        {}, {"task": 3, "replaced": []}, {"task": "t", "replaced": [{}]}, {"task": "t", "replaced": [], "ids": [[]]},
    )),
]  # fmt: skip


@pytest.mark.parametrize(("path", "value"), LIES)
def test_what_is_relied_on_has_its_form_whoever_signed_it(path: str, value: Any, tmp_path: Path) -> None:
    run = committed(tmp_path)
    signed(run, path, value)
    assert path in graves(run)
    reader = Ledger(str(run), read_only=True)
    gc(reader, dry_run=True)
    assert reader.holder() is None and reader.latest() == 2 and len(reader.round(2).records("trials")) == 20
    again = begin(str(run))  # and the run can be gone on with
    again.round(3).put("tasks.json", {"tasks": []})
    again.close()


@pytest.mark.parametrize("value", [None, [], {"config": []}, {"config": {}, "software": 3}])
def test_a_first_page_of_another_form_is_damage(value: Any, tmp_path: Path) -> None:
    run = committed(tmp_path)
    signed(run, "run.json", value)
    assert graves(run) == ["run.json"]
    with pytest.raises(codec.Damaged, match="what the run was begun with"):
        Ledger(str(run)).run()


# names and lists that hold any number


@pytest.mark.parametrize(
    "records", [[], "many", {"trials": "many"}, {"trials": {"count": "2", "digest": ""}}, {"x": {}}]
)
def test_a_manifest_that_counts_in_no_form_is_damage(records: Any, tmp_path: Path) -> None:
    run = committed(tmp_path)
    path = "rounds/0002/manifest.json"
    value, _ = codec.unpack_part((run / path).read_bytes(), path, path)
    signed(run, path, value | {"records": records})
    assert path in graves(run)


def test_a_large_number_in_a_name_is_one_finding(tmp_path: Path) -> None:
    run = committed(tmp_path)
    signed(run, "rounds/98765432/tasks.json", {"tasks": []})
    signed(run, "epochs/987654.json", HOLDER)
    problems = verify(Ledger(str(run), read_only=True))
    assert len(problems) < 10
    (gap,) = [p for p in problems if p.path == "rounds/0003/manifest.json"]
    assert "rounds/0003/manifest.json and the 98765428 after it are gone" in gap.message
    gc(Ledger(str(run), read_only=True), dry_run=True)


@pytest.mark.parametrize("kind", ["seen", "end"])
def test_a_long_list_of_what_must_be_there_is_one_finding(kind: str, tmp_path: Path) -> None:
    run = committed(tmp_path)
    lie = SEEN | {"segments": {"rounds/0003/trials": {"1": [[1, 99_999_999]]}}}
    signed(run, f"epochs/000001.{kind}.json", lie if kind == "seen" else {"written": lie})
    problems = [p for p in verify(Ledger(str(run), read_only=True)) if p.grave]
    assert [p.path for p in problems] == ["rounds/0003/trials/e000001-00000001.jsonl"]
    assert "e000001-00000001.jsonl and the 99999998 after it is gone" in problems[0].message
    begin(str(run)).close()
    part = Ledger(str(run), read_only=True).round(3)
    assert part.records("trials") == {} and len(part.damage) <= 1


def test_a_segment_with_a_large_number_is_one_finding(tmp_path: Path) -> None:
    ledger = begin(str(tmp_path))
    ledger.round(1).append("trials", trial("c1"))
    ledger.round(1).flush()
    segment(ledger.store, "rounds/0001/trials/e000001-99999999.jsonl", trial("c2"))
    problems = verify(Ledger(str(tmp_path), read_only=True))
    assert [(p.path, p.grave) for p in problems] == [("rounds/0001/trials/e000001-00000002.jsonl", False)]
    ledger.close()


def test_holes_among_segments_are_counted_exactly(tmp_path: Path) -> None:
    """As a set would count them, whatever the runs of numbers are."""
    folder = "rounds/0001/trials"
    seen = Seen(2, frozenset(), {folder: {1: ((2, 4), (6, 6), (9, 30))}})
    there = [f"{folder}/e000001-{n:08d}.jsonl" for n in (1, 3, 4, 5, 6, 9, 10, 20, 30, 31)]
    must = {2, 3, 4, 6, *range(9, 31)}
    (runs,) = seen.missing(folder, there).values()
    assert {n for a, b in runs for n in range(a, b + 1)} == must - {1, 3, 4, 5, 6, 9, 10, 20, 30, 31}


@pytest.mark.parametrize("name", ["00001", "٠٠٠١", "1", "+001", "0001 "])
def test_a_round_has_one_name(name: str, tmp_path: Path) -> None:
    run = committed(tmp_path)
    (run / "rounds" / name).mkdir()
    (run / "rounds" / name / "tasks.json").write_bytes(b"{}")
    assert Ledger(str(run)).rounds() == [1, 2]
    assert graves(run) == []


@pytest.mark.parametrize("line", [b"", b"{", b"[" * 3000, b"1,2", b"\xff", b"9" * 5000])
def test_a_line_that_is_no_value_is_damage_whoever_signed_it(line: bytes, tmp_path: Path) -> None:
    ledger = begin(str(tmp_path))
    ledger.round(1).put("tasks.json", {"tasks": []})
    for path in ("rounds/0001/trials/e000001-00000001.jsonl", "events/e000001-00000001.jsonl"):
        ledger.store.create(path, codec.pack_segment(path, [line]))
    ledger.close()
    reader = Ledger(str(tmp_path), read_only=True)
    assert reader.round(1).records("trials") == {} and len(reader.round(1).damage) == 1
    list(reader.read_events())
    problems = verify(reader)
    assert [p.path for p in problems if p.grave] == ["rounds/0001/trials/e000001-00000001.jsonl"]
    begin(str(tmp_path)).close()


def test_numbers_that_no_float_holds_are_no_record(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    begin(str(tmp_path)).close()
    good, path = codec.text(trial("c1")).encode(), "rounds/0001/trials/e000001-00000001.jsonl"
    for bad in (b"NaN", b"1e999", b"1" + b"0" * 400):
        store.write(path, codec.pack_segment(path, [good.replace(b"1.5", bad)]))
        with pytest.raises(LedgerError, match=r"losses.*another version of seal_ray"):
            Ledger(str(tmp_path), read_only=True).round(1).records("trials")
        assert graves(tmp_path) == [path]
