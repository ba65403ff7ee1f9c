"""What a step would launch on a GPU, counted on one that computes nothing: the 7B shape, 32 adapters of rank 32."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from seal_ray.inner.memory import BankSetup, block_bytes
from seal_ray.shapes import KNOWN_SHAPES

HERE = Path(__file__).parent
LAYER, REST = 63, 75  # launches of a layer, and of all that a step does once
SHAPE = KNOWN_SHAPES["qwen2.5-7b"]
TORCH = Path(torch.__file__).parent


@pytest.fixture(scope="module")
def shim(tmp_path_factory: Any) -> Path:
    library: Path = tmp_path_factory.mktemp("fake_cuda") / "fake_cuda.so"
    lib = TORCH / "lib"
    command = ["g++", "-std=c++20", "-O0", "-fPIC", "-shared", str(HERE / "fake_cuda.cpp"), "-o", str(library)]
    command += [f"-I{TORCH / 'include'}", f"-L{lib}", "-lc10", "-ltorch_cpu", f"-Wl,-rpath,{lib}"]
    subprocess.run(command, check=True, timeout=600)
    return library


def step(shim: Path, kind: str, layers: int) -> dict[str, Any]:
    command = [sys.executable, str(HERE / "fake_cuda_step.py"), str(shim), kind, str(layers)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


@pytest.mark.slow
def test_a_step_launches_little_copies_twice_and_waits_for_nothing(shim: Path) -> None:
    one, three = step(shim, "ragged", 1), step(shim, "ragged", 3)
    assert one["waits"] == three["waits"] == 0
    assert one["copies"] == three["copies"] == 2, "which slots, and the forward's numbers"
    a_layer = (three["launches"] - one["launches"]) / 2
    assert a_layer <= LAYER, f"{a_layer} launches a layer: {three['ops']}"
    assert one["launches"] - a_layer <= REST
    # what a profiler would count: torch has a kernel of its own before a grouped product, and norms are two
    grouped = one["ops"]["aten._grouped_mm.default"], three["ops"]["aten._grouped_mm.default"]
    before_products = grouped[0] + 27 * (grouped[1] - grouped[0]) / 2
    assert one["launches"] + 27 * a_layer + before_products + 1 <= 2500
    a_layer = (three["new_bytes"] - one["new_bytes"]) / 2
    assert a_layer == pytest.approx(block_bytes(SHAPE, BankSetup()) * three["rows"], rel=0.01), (
        "what is kept for a backward"
    )
