"""`make test`, `make test-all`: pytest processes side by side, one for what starts clusters and one for the rest.

    python tests/side_by_side.py -m "not slow"     what each pytest is given
    python tests/side_by_side.py -m slow

What starts Ray and vLLM waits for them a good part of the time, in which the other one computes; and of the quick tests
no two clusters come up at once. The long ones are in four processes: whole rounds, fleets and updates, what waits for
Slurm and for stores that fail, and the rest, which computes by itself and takes what the others leave. Progress is
shown as it comes; what failed, and why, when all are done. The exit status is that of the first of them that did not
succeed.
"""

import os
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

CLUSTERS = (
    "tests/chaos",  # before all clusters: a lock that a thread of Ray holds stays locked in what is forked
    "tests/end_to_end/test_round.py",
    "tests/end_to_end/test_gate_rounds.py",
    "tests/end_to_end/test_default_reward.py",
    "tests/end_to_end/test_older_run.py",
    "tests/end_to_end/test_computed_domains.py",
    "tests/parity/test_engine_answers.py",
    "tests/ray",  # tests/slurm, which mostly waits for Slurm, is in the other half: so both take alike long
    "tests/s3",  # starts none, and the first process has time for it
)
LONG = {
    "rounds": (
        "tests/end_to_end",
        "tests/parity",
        "tests/unit/test_own_domain.py",
        "tests/unit/test_update_collectives.py",
    ),
    "fleets": (
        "tests/ray",
        "tests/chaos/test_fleet_demand.py",
        "tests/chaos/test_fleet_faults.py",
        "tests/chaos/test_fleet_nodes.py",
        "tests/chaos/test_fleet_orphans.py",
        "tests/chaos/test_fleet_rounds.py",
    ),
    "waits": (
        "tests/chaos/test_study_kills.py",  # waits for nothing, but the rest has enough without it
        "tests/slurm",
        "tests/s3",
        "tests/chaos/test_ledger_drivers.py",
        "tests/chaos/test_ledger_faults.py",
        "tests/chaos/test_ledger_kills.py",
    ),
}
LEFT_OVER = ("nice", "-n", "10")  # nothing of the rest has to answer in time, as clusters do
LONG_ENVIRONMENT = {"RAY_worker_niceness": "0"}  # Ray's own 15 is a thirtieth of a core that the others want


@dataclass
class Part:
    """One of the processes: its progress goes to the screen, and what it reports at its end is kept."""

    name: str
    words: Sequence[str]
    env: Mapping[str, str]
    prefix: Sequence[str] = ()
    status: int = 1
    report: list[str] = field(default_factory=list)

    def run(self) -> None:
        env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1", **self.env}  # a core for each
        command = [*self.prefix, sys.executable, "-m", "pytest", *self.words]
        with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
            assert process.stdout
            for line in process.stdout:
                if self.report or (line.startswith("==") and "test session starts" not in line):
                    self.report.append(line)
                else:
                    print(f"{self.name:8} | {line}", end="", flush=True)
        self.status = process.returncode
        last = self.report[-1].strip("= \n") if self.report else "without a report"
        print(f"{self.name:8} | ends with {self.status}: {last}", flush=True)


def parts(words: Sequence[str]) -> list[Part]:
    """Every test is in one of them."""
    slow = "slow" in words
    named, env = (LONG, LONG_ENVIRONMENT) if slow else ({"clusters": CLUSTERS}, {})
    there = {name: [place for place in places if os.path.exists(place)] for name, places in named.items()}
    rest = [f"--ignore={place}" for places in there.values() for place in places]
    some = [Part(name, [*words, *places], env) for name, places in there.items() if places]
    return [*some, Part("the rest", [*words, *rest, "tests"], env, LEFT_OVER if slow else ())]


def run(all_parts: Sequence[Part]) -> int:
    threads = [threading.Thread(target=part.run) for part in all_parts]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        try:
            for thread in threads:
                thread.join()
        except KeyboardInterrupt:
            continue  # the terminal has interrupted the pytests as well, and they end by themselves
    for part in all_parts:
        print(f"\n{part.name}:\n" + "".join(part.report), end="", flush=True)
    return next((part.status for part in all_parts if part.status), 0)


if __name__ == "__main__":
    sys.exit(run(parts(sys.argv[1:])))
