"""Runs an image's recipe without Docker, as root: every RUN line in a chroot, every COPY by hand.

    python docker/rehearse.py docker/Dockerfile.cpu BASE TARGET [--arg TORCH_INDEX=…] [--bind /mirror] [--keep build]
    python docker/rehearse.py … --run docker/submit_in_image.sh

The second form starts a script in the finished image as its user, with its environment, in namespaces of its own and
without a network. With `--keep STAGE` a stage that is there from before is taken as it is.

BASE is a folder that holds the base image's files. Without the image itself, Debian's own packages come close:
`debootstrap --variant=minbase --include=python3.11-venv,python3-distutils,libpython3.11-dev,ca-certificates bookworm
BASE` and a link from BASE/usr/local/bin/python to /usr/bin/python3.11. The last stage is in TARGET/final.
"""

import argparse
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Collection, Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]


def instructions(text: str) -> Iterator[tuple[str, str]]:
    """Word and rest of every instruction; a line that ends in a backslash goes on in the next."""
    for line in re.sub(r"\\\n", " ", re.sub(r"^#.*\n", "", text, flags=re.MULTILINE)).splitlines():
        if line.strip():
            word, _, rest = line.strip().partition(" ")
            yield word, rest.strip()


PATH = {"PATH": "/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"}
# a container's view: processes and a network of its own, devices, and a name that resolves
START = """
ip link set lo up; hostname rehearsal; echo 127.0.0.1 localhost rehearsal >$0/etc/hosts
mount -t proc proc $0/proc; mount --rbind -o ro /sys $0/sys; mount --rbind /dev $0/dev
mount -t tmpfs -o size=4g tmpfs $0/dev/shm
exec chroot --userspec=$1:$1 $0 sh -ec 'cd "$0" && exec bash "$1"' $2 $3
"""


class Build:
    def __init__(
        self, base: Path, target: Path, arguments: dict[str, str], binds: list[str], keep: Collection[str] = ()
    ) -> None:
        self.base, self.target, self.arguments, self.binds, self.keep = base, target, arguments, binds, keep
        self.stages: dict[str, Path] = {}
        self.environment = {**PATH, "HOME": "/root"}
        self.root, self.user, self.folder, self.kept = base, "0", "/", False

    def do(self, word: str, rest: str) -> None:
        if word == "FROM":
            source, _, name = rest.partition(" AS ")
            self.root, self.user, self.folder = self.target / (name or "final"), "0", "/"
            self.kept = name in self.keep and self.root.is_dir()
            if not self.kept:
                remove(self.root)
                copy(self.stages.get(source, self.base), self.root)
            self.stages[name] = self.root
            if source not in self.stages:
                self.environment = {**PATH, "HOME": "/root"}
        elif word == "USER":
            self.user = rest
        elif word == "WORKDIR":
            self.folder = rest
        elif word == "ENV":
            for name, value in re.findall(r"(\w+)=(\S+)", rest):
                self.environment[name] = re.sub(r"\$(\w+)", lambda m: self.environment.get(m[1], ""), value)
        elif word == "RUN" and not self.kept:
            self.run(rest)
        elif word == "COPY" and not self.kept:
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
        for bind in self.binds:
            if any((self.root / bind.lstrip("/")).glob("*")):
                sys.exit(f"--bind {bind}: it hides what the image has there; name a folder below it")
        mounts = [("/proc", "proc"), ("/dev", "dev"), *((b, b.lstrip("/")) for b in self.binds)]
        (self.root / "etc/resolv.conf").write_text(Path("/etc/resolv.conf").read_text())
        try:
            for source, at in mounts:
                (self.root / at).mkdir(parents=True, exist_ok=True)
                subprocess.run(["mount", "--rbind", "--make-rslave", source, str(self.root / at)], check=True)
                if source in self.binds:  # else a line that writes there writes on this machine
                    subprocess.run(["mount", "-o", "remount,bind,ro", str(self.root / at)], check=True)
            words = ["chroot", str(self.root), "/bin/sh", "-ec", line]
            subprocess.run(words, env=self.environment | self.arguments, check=True)
        finally:
            for _, at in mounts:
                subprocess.run(["umount", "-l", str(self.root / at)], check=False)

    def start(self, script: Path) -> int:
        """Run a script in the image, as its user would; what it exits with."""
        shutil.copy(script, self.root / "tmp/script")
        words = ["unshare", "--net", "--pid", "--fork", "--kill-child", "--mount", "--uts", "sh", "-ec", START]
        home = {"HOME": f"/{Path(self.folder).relative_to('/').parent}"}  # as useradd made it
        given = [str(self.root), self.user, self.folder, "/tmp/script"]
        return subprocess.run([*words, *given], env=self.environment | home, check=False).returncode


def remove(folder: Path) -> None:
    """Nothing of an earlier build stays; but what is mounted there is this machine's own."""
    if f" {folder.resolve()}/" in Path("/proc/mounts").read_text():
        sys.exit(f"{folder}: something is still mounted there; umount it first")
    if folder.is_dir():
        shutil.rmtree(folder)


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
    parser.add_argument("--keep", action="append", default=[], help="a stage that is not made anew where it is there")
    parser.add_argument("--run", type=Path, help="a script that is run in the finished image")
    options = parser.parse_args()
    arguments = dict(a.split("=", 1) for a in options.arg)
    build = Build(options.base, options.target, arguments, options.bind, options.keep)
    for word, rest in instructions(options.recipe.read_text()):
        started = time.monotonic()
        build.do(word, rest)
        if word in ("FROM", "RUN", "COPY"):
            print(f"{time.monotonic() - started:6.1f} s  {word} {rest[:100]}", flush=True)
    if options.run:
        sys.exit(build.start(options.run))


if __name__ == "__main__":
    main()
