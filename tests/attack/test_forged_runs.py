"""A run that somebody has written in who can sign it: every command says what no seal_ray has written, or reads on."""

import shutil
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from amounts import AMOUNTS
from forging import forge, signed_part, vouch
from recorded_run import record
from seeds import drawing

from seal_ray import cli
from seal_ray.records import Json

ROOT = Path(__file__).parents[2]
RECORDED = ROOT / "tests/recorded/v0.1.0/run"
Call = Callable[..., tuple[int, str]]
TASKS = ("tavik-island-2f8de48bca", "harbour-1-0")


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A run of the first schema, and one of today's."""
    own = tmp_path_factory.mktemp("runs") / "own"
    record(str(own), rounds=2, tasks=2, edits=2, repeats=1, losses=3, commit=False)
    return [RECORDED, own]


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Call:
    """A command as a person gives it: its code, and what it says."""
    monkeypatch.chdir(ROOT)

    def called(*words: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["seal-ray", *words])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        told = capsys.readouterr()
        return int(ended.value.code or 0), told.out + told.err

    return called


def commands(run: Path, aside: Path, task: str) -> list[list[str]]:
    """Everything that reads a run, then what writes in it."""
    uri = str(run)
    return [
        ["status", uri], ["status", uri, "--json"], ["verify", uri], ["lineage", uri], ["gc", uri],
        ["inspect", uri, "--task", task], ["inspect", uri, "--task", task, "--json"],
        ["report", uri, "--to", str(aside / "report.html")],
        ["compare", uri, uri, "--to", str(aside / "compare.html")],
        ["rollback", uri, "--to", "0"], ["approve", uri], ["regrade", uri],
        ["delete", uri, "--task", task], ["verify", uri],
    ]  # fmt: skip


def attack(seed: str, times: int, bases: list[Path], tmp_path: Path, call: Call) -> Counter[int]:
    draw, codes = drawing(seed), Counter[int]()
    wrong: list[str] = []
    for number in range(times):
        base, run = draw.choice(bases), tmp_path / "run"
        shutil.rmtree(run, ignore_errors=True)
        shutil.copytree(base, run)
        path = forge(draw, run)
        task = TASKS[bases.index(base)]
        for words in commands(run, tmp_path, task):
            code, told = call(*words)
            codes[code] += 1
            if "not foreseen" in told or code not in {0, 2, 3}:
                wrong.append(f"{seed} {number} {path}: {words[0]}: {code} {told[-600:]}")
    assert not wrong, "\n".join([f"{len(wrong)} of {sum(codes.values())}", *wrong[:12]])
    return codes


def test_commands_read_a_forged_run_or_say_what_is_wrong(bases: list[Path], tmp_path: Path, call: Call) -> None:
    codes = attack("forged", AMOUNTS["forged run"].quick, bases, tmp_path, call)
    assert codes[0] > 50 and codes[3] > 5


@pytest.mark.parametrize("mean", [10**400, "half", None, [0.5], {}])
def test_rewards_of_another_hand_are_told_as_such(mean: Json, tmp_path: Path, call: Call) -> None:
    run = tmp_path / "run"
    shutil.copytree(RECORDED, run)
    rewards = run / "rounds/0001/rewards.json"

    def change(value: Json) -> Json:
        value["arms"]["edit"]["accuracy"]["mean"] = mean
        return value

    rewards.write_bytes(signed_part(rewards.read_bytes(), change))
    vouch(run)
    code, told = call("regrade", str(run))
    assert code == 3 and "no seal_ray has written" in told, told


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(AMOUNTS["forged run"].times))
def test_commands_read_many_forged_runs(seed: int, bases: list[Path], tmp_path: Path, call: Call) -> None:
    attack(f"forged {seed}", AMOUNTS["forged run"].long, bases, tmp_path, call)
