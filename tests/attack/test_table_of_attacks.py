"""The tables of README.md beside this file: they name every attack, with the numbers that the tests go by."""

import re
from pathlib import Path

from amounts import AMOUNTS

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
TEXT = (HERE / "README.md").read_text(encoding="utf-8")


def place(named: str) -> Path:
    return ROOT / named if "/" in named else HERE / named


def test_the_table_shows_the_numbers_that_the_tests_go_by() -> None:
    rows = re.findall(r"^\| ([^|]+) \| [^|]+ \| ([^|]+) \| ([^|]+) \| (`test[^|]+) \|", TEXT, re.MULTILINE)
    told = {
        name: (str(a.quick) if a.quick else "–", f"{a.times} × {a.long}" if a.long else "–")
        for name, a in AMOUNTS.items()
    }
    assert {name: (short, long) for name, short, long, _ in rows} == told
    for name, _, _, where in rows:
        for named in re.findall("`([^`]+)`", where):
            code = place(named).read_text(encoding="utf-8")
            assert "AMOUNTS" in code and f'"{name}"' in code, f"{named} does not go by the amount of {name}"


def test_every_file_of_attacks_is_named_and_every_test_that_is_named_is_there() -> None:
    own = {file.name for file in HERE.glob("test_*.py")} - {Path(__file__).name}
    assert own == {name for name in re.findall(r"`(test_\w+\.py)", TEXT) if name != Path(__file__).name}
    tests = re.findall(r"`([\w/]+\.py)::(test_\w+)`", TEXT)
    assert len(tests) > 60
    for named, test in tests:
        assert f"\ndef {test}(" in place(named).read_text(encoding="utf-8"), f"{named}::{test}"
    for named in re.findall(r"`(tests/[\w/]+\.py)`", TEXT):
        assert place(named).exists(), named
