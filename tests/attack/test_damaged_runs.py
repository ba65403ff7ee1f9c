"""A run whose files are damaged: every command that reads one says what is wrong, or reads the rest.

`test_forged_runs.py` is the same with digests that belong to what stands there.
"""

import json
import random
import shutil
import sys
from pathlib import Path

import pytest
from amounts import AMOUNTS
from forging import places
from seeds import drawing

from seal_ray import cli
from seal_ray.loops.history import Run
from seal_ray.storage import codec

ROOT = Path(__file__).parents[2]
RECORDED = ROOT / "tests/recorded/v0.1.0/run"
READERS = [["status"], ["status", "--json"], ["verify"], ["lineage"], ["report"], ["inspect"], ["gc"]]
BITS = [
    b"", b"\x00", b"\xff", b"[", b"]", b"{", b"}", b'"', b",", b"null", b"NaN", b"1e999", b"-1",
    b"9" * 5000, b"\\ud800", b"true",
    b"\n", b"[]", b"{}", b'"x"', b"[" * 3000, b"\x1f\x8b",
]  # fmt: skip
VALUES = [None, True, -1, 10**400, 1.5, "", "x", "\ud800", [], [None], {}, {"a": 1}, "../../etc/passwd", "rounds"]


def run(words: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> tuple[int, str]:
    monkeypatch.setattr(sys, "argv", ["seal-ray", *words])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    told = capsys.readouterr()
    return int(ended.value.code or 0), told.out + told.err


def altered(draw: random.Random, data: bytes) -> bytes:
    """A document with one of its values replaced, or bytes that are no document any more."""
    try:
        value = json.loads(data)
    except ValueError:
        value = None
    if value is None or draw.random() < 0.4:
        out = bytearray(data)
        for _ in range(draw.randrange(1, 4)):
            at = draw.randrange(len(out) + 1)
            out[at : at + draw.randrange(4)] = draw.choice(BITS)
        return bytes(out[: draw.randrange(len(out) + 1)] if draw.random() < 0.2 else out)
    inner = [p for p in places(value) if p]
    if not inner:
        return json.dumps(draw.choice(VALUES)).encode()
    path = draw.choice(inner)
    holder = value
    for step in path[:-1]:
        holder = holder[step]
    if draw.random() < 0.3:
        del holder[path[-1]]
    else:
        holder[path[-1]] = draw.choice(VALUES)
    return json.dumps(value).encode()


def damage(draw: random.Random, folder: Path) -> None:
    files = sorted(f for f in folder.rglob("*") if f.is_file())
    for _ in range(draw.choice([1, 1, 2, 3])):
        file = draw.choice(
            [f for f in files if draw.random() < 0.5 or f.name in {"run.json", "manifest.json"}] or files
        )
        match draw.randrange(8):
            case 0:
                file.unlink(missing_ok=True)
            case 1:
                if file.exists():
                    shutil.copy(file, draw.choice(files).parent / draw.choice([f.name for f in files]))
            case _:
                if file.exists():
                    file.write_bytes(altered(draw, file.read_bytes()))


def attack(
    seed: str, times: int, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> int:
    monkeypatch.chdir(ROOT)
    draw, sound = drawing(seed), 0
    names = [t.id for t in Run(str(RECORDED)).round(1).tasks]
    for number in range(times):
        folder = tmp_path / "run"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(RECORDED, folder)
        damage(draw, folder)
        for command in READERS:
            more = {"inspect": ["--task", draw.choice(names)], "report": ["--to", str(tmp_path / "report.html")]}
            code, told = run([command[0], str(folder), *command[1:], *more.get(command[0], [])], capsys, monkeypatch)
            assert "not foreseen" not in told, f"{seed} {number} {command}: {told[-2000:]}"
            assert code in {0, 2, 3}
            sound += code == 0
    return sound


def test_commands_read_a_damaged_run_or_say_what_is_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert attack("run", AMOUNTS["damaged run"].quick, tmp_path, capsys, monkeypatch) > 5


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(AMOUNTS["damaged run"].times))
def test_commands_read_many_damaged_runs(
    seed: int, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    attack(f"run {seed}", AMOUNTS["damaged run"].long, tmp_path, capsys, monkeypatch)


def test_a_map_of_another_hand_is_named_by_the_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, path = tmp_path / "run", "rounds/0001/map.json"
    shutil.copytree(RECORDED, folder)
    for manifest in folder.glob("rounds/*/manifest.json"):
        manifest.unlink()  # so that nothing but its own digest says what the map was
    row = {"task": "a", "document": "a", "title": "a", "questions": 1, "doubt": "half", "weight": 1}
    (folder / path).write_bytes(codec.pack_part(path, 1, {"version": 0, "questions": [row], "passages": [row, row]}))
    code, told = run(["report", str(folder), "--to", str(tmp_path / "report.html")], capsys, monkeypatch)
    assert code == 3 and "no seal_ray has written" in told
