"""Runs an image's recipe without Docker, as root: every RUN line in a chroot, every COPY by hand.

    python docker/rehearse.py docker/Dockerfile.cpu BASE TARGET [--arg TORCH_INDEX=…] [--bind /mirror]

BASE is a folder that holds the base image's files. Without the image itself, Debian's own packages come close:
`debootstrap --variant=minbase --include=python3.11,python3.11-venv,libpython3.11-dev,ca-certificates bookworm BASE` and
a link from BASE/usr/local/bin/python to /usr/bin/python3.11. The last stage is in TARGET/final.
"""

import argparse
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]


def instructions(text: str) -> Iterator[tuple[str, str]]:
    """Word and rest of every instruction; a line that ends in a backslash goes on in the next."""
    for line in re.sub(r"\\\n", " ", re.sub(r"^#.*\n", "", text, flags=re.MULTILINE)).splitlines():
        if line.strip():
            word, _, rest = line.strip().partition(" ")
            yield word, rest.strip()


class Build:
    def __init__(self, base: Path, target: Path, arguments: dict[str, str], binds: list[str]) -> None:
        self.base, self.target, self.arguments, self.binds = base, target, arguments, binds
        self.stages: dict[str, Path] = {}
        self.environment = {"PATH": "/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root"}
        self.root = base

    def do(self, word: str, rest: str) -> None:
        if word == "FROM":
            source, _, name = rest.partition(" AS ")
            self.root = self.target / (name or "final")
            copy(self.stages.get(source, self.base), self.root)
            self.stages[name] = self.root
            if source not in self.stages:
                self.environment = {k: v for k, v in self.environment.items() if k in ("HOME",)} | {
                    "PATH": "/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"
                }
        elif word == "RUN":
            self.run(rest)
        elif word == "ENV":
            for name, value in re.findall(r"(\w+)=(\S+)", rest):
                self.environment[name] = re.sub(r"\$(\w+)", lambda m: self.environment.get(m[1], ""), value)
        elif word == "COPY":
            self.copy_in(rest.split())

    def copy_in(self, words: list[str]) -> None:
        options = dict(w[2:].split("=") for w in words if w.startswith("--"))
        *sources, to = [w for w in words if not w.startswith("--")]
        top = self.stages[options["from"]] if "from" in options else ROOT
        for source in sources:
            origin, goal = top / source.lstrip("/"), self.root / to.lstrip("/")
            if origin.is_file() and to.endswith("/"):
                goal = goal / origin.name
            goal.parent.mkdir(parents=True, exist_ok=True)
            copy(origin, goal)
            if "chown" in options:
                subprocess.run(["chown", "-R", options["chown"], str(goal)], check=True)

    def run(self, line: str) -> None:
        mounts = [("/proc", "proc"), ("/dev", "dev"), *((b, b.lstrip("/")) for b in self.binds)]
        (self.root / "etc/resolv.conf").write_text(Path("/etc/resolv.conf").read_text())
        try:
            for source, at in mounts:
                (self.root / at).mkdir(parents=True, exist_ok=True)
                subprocess.run(["mount", "--rbind", "--make-rslave", source, str(self.root / at)], check=True)
            words = ["chroot", str(self.root), "/bin/sh", "-ec", line]
            subprocess.run(words, env=self.environment | self.arguments, check=True)
        finally:
            for _, at in mounts:
                subprocess.run(["umount", "-l", str(self.root / at)], check=False)


def copy(source: Path, to: Path) -> None:
    """As COPY does: what a folder holds goes into the other one."""
    if source.is_dir():
        to.mkdir(parents=True, exist_ok=True)
        subprocess.run(["cp", "-a", "--reflink=auto", f"{source}/.", str(to)], check=True)
    else:
        shutil.copy2(source, to)


def main() -> None:
    parser = argparse.ArgumentParser(description="Run an image's recipe in a chroot.")
    parser.add_argument("recipe", type=Path)
    parser.add_argument("base", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--arg", action="append", default=[], help="NAME=VALUE, as Docker's --build-arg")
    parser.add_argument("--bind", action="append", default=[], help="a folder of this machine that RUN lines may read")
    options = parser.parse_args()
    build = Build(options.base, options.target, dict(a.split("=", 1) for a in options.arg), options.bind)
    for word, rest in instructions(options.recipe.read_text()):
        started = time.monotonic()
        build.do(word, rest)
        if word in ("FROM", "RUN", "COPY"):
            print(f"{time.monotonic() - started:6.1f} s  {word} {rest[:100]}", flush=True)


if __name__ == "__main__":
    main()
