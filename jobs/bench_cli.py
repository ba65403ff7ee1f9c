"""How soon the command line answers, beside bare Python that imports what a configuration can't do without.

python jobs/bench_cli.py          each command and the bare import in turn, medians and ratios
"""

import argparse
import statistics
import subprocess
import sys
import time

BARE = [sys.executable, "-c", "import pydantic, yaml"]
COMMANDS = {
    "--help": (["--help"], 1.5),  # the most times the bare import that we want
    "validate": (["validate", "builtin:quickstart"], 3.0),
}


def seconds(words: list[str]) -> float:
    began = time.perf_counter()
    subprocess.run(words, check=True, capture_output=True)
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description="the command line's first answer, as a ratio to a bare import")
    parser.add_argument("--turns", type=int, default=9)
    turns = parser.parse_args().turns
    command = [sys.executable, "-c", "from seal_ray.cli import main; main()"]
    arms = {"bare": BARE, **{name: [*command, *words] for name, (words, _) in COMMANDS.items()}}
    taken: dict[str, list[float]] = {name: [] for name in arms}
    for _ in range(turns + 1):
        for name, words in arms.items():
            taken[name].append(seconds(words))
    medians = {name: statistics.median(times[1:]) for name, times in taken.items()}  # the first turn warms the disk
    print(f"bare import  {medians['bare']:.3f} s")
    for name, (_, most) in COMMANDS.items():
        print(f"{name:<12} {medians[name]:.3f} s, {medians[name] / medians['bare']:.2f} times (wanted: at most {most})")


if __name__ == "__main__":
    main()
