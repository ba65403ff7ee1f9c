"""How soon the command line answers, beside bare Python that imports what a configuration can't do without.

python jobs/bench_cli.py          each command and the bare import in turn: processor time, least, median and ratios

Processor time (user and system) and not the clock's, so that other work on the machine counts little; and with modules
that are compiled already, as an installation leaves them.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile

BARE = [sys.executable, "-c", "import pydantic, yaml"]
COMMANDS = {
    "--help": (["--help"], 1.5),  # the most times the bare import that we want
    "validate": (["validate", "builtin:quickstart"], 3.0),
}


def seconds(words: list[str], environment: dict[str, str]) -> float:
    process = subprocess.Popen(words, env=environment, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    assert not status, f"{words} ended with {status}"
    return used.ru_utime + used.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description="the command line's first answer, as a ratio to a bare import")
    parser.add_argument("--turns", type=int, default=9)
    turns = parser.parse_args().turns
    command = [sys.executable, "-c", "from seal_ray.cli import main; main()"]
    arms = {"bare import": BARE, **{name: [*command, *words] for name, (words, _) in COMMANDS.items()}}
    taken: dict[str, list[float]] = {name: [] for name in arms}
    with tempfile.TemporaryDirectory() as compiled:
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
        for turn in range(turns + 1):
            for name, words in arms.items():
                used = seconds(words, {**environment, "PYTHONPYCACHEPREFIX": compiled})
                taken[name] += [used] if turn else []  # the first turn compiles
    least = {name: min(times) for name, times in taken.items()}
    median = {name: statistics.median(times) for name, times in taken.items()}
    for name in arms:
        wanted = f" (wanted: at most {COMMANDS[name][1]})" if name in COMMANDS else ""
        times = f"{least[name] / least['bare import']:.2f} and {median[name] / median['bare import']:.2f} times"
        print(f"{name:<12} {least[name]:.3f} s at least, {median[name]:.3f} s in the middle: {times}{wanted}")


if __name__ == "__main__":
    main()
