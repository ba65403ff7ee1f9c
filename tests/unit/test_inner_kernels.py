"""The kernels for a GPU compute what the plain forms do: here in Triton's interpreter, since no GPU is to be had.

`jobs/gpu_check.py` says the same of a GPU.
"""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch

from seal_ray.inner.kernels import canary
from seal_ray.inner.kernels.operator import KERNELS, OPERATORS

HERE = Path(__file__).parent
pytestmark = pytest.mark.timeout(900)  # half a minute where a core is free
APART = Path(sys.prefix) / "apart/triton"  # where `make` puts it: nobody else is to find it


ON_GPU = sorted(name for name, operator in OPERATORS.items() if operator.on_gpu)


def with_triton(program: str, **more: str) -> dict[str, Any]:
    if not (APART / "triton").exists() and find_spec("triton") is None:
        pytest.skip(f"no Triton in {APART}; `make apart` puts it there")
    done = subprocess.run(
        [sys.executable, str(HERE / program)],
        env={**os.environ, "TRITON_FOLDER": str(APART), **more}, capture_output=True, text=True, timeout=880,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def interpreted() -> dict[str, Any]:
    return with_triton("interpreted_kernels.py")


def test_every_kernel_compiles_for_an_h100(tmp_path: Path):
    made = with_triton("compiled_kernels.py", TRITON_CACHE_DIR=str(tmp_path))
    assert sorted(made["compiled"]) == made["kernels"] and len(made["kernels"]) == 11
    assert min(size for own in made["compiled"].values() for size in own.values()) > 1000, "bytes of machine code"


def test_every_kernel_computes_what_its_plain_form_does(interpreted):
    forms = interpreted["forms"]
    assert forms["kernels"] == forms["sampled"] == ON_GPU, "each operation has a kernel, and samples"
    assert forms["wrong"] == {str(dtype): {} for dtype in canary.CLOSE}


def test_the_canary_tells_every_kernel_that_is_a_little_off(interpreted):
    assert interpreted["broken"]["wrong"] == ON_GPU


def test_a_group_without_rows_gets_zeros_and_nothing_is_written_beside_gradients(interpreted):
    assert interpreted["empty"] == [7, 7, 7, 2, 0, 3, 2, 0, 3, 7, 7, 7]


def test_a_bank_by_kernels_comes_to_the_losses_of_plain_forms(interpreted):
    bank = interpreted["bank"]
    assert bank["calls"] == ON_GPU
    for own, plain in zip(bank["own"], bank["plain"], strict=True):
        assert own == pytest.approx(plain, abs=1e-5)


def doubled(form: Any) -> Any:
    def wrong(*args: Any) -> Any:
        out = form(*args)
        return out.mul_(2) if isinstance(out, torch.Tensor) else out

    return wrong


@pytest.mark.parametrize("fault", ["missing", "wrong", "switched off"])
def test_plain_forms_stand_in_for_kernels_that_are_missing_wrong_or_not_wanted(fault, monkeypatch, caplog):
    def kernels() -> Any:
        if fault == "missing":
            raise ImportError("No module named 'triton'")
        return {name: doubled(operator.plain) for name, operator in OPERATORS.items()}

    samples = canary.samples
    monkeypatch.setattr(canary, "triton_kernels", kernels)
    monkeypatch.setattr(canary, "samples", lambda _, dtype: samples(torch.device("cpu"), dtype))
    if fault == "switched off":
        monkeypatch.setenv(canary.CHOICE, "plain")
    canary.use_kernels.cache_clear()
    try:
        assert not canary.use_kernels(torch.device("cuda", 0), torch.float32)
        assert not set(KERNELS["cuda"]) & {"rms_norm", "swiglu_", "gradient_norms"}
    finally:
        canary.use_kernels.cache_clear()
        KERNELS["cuda"].clear()
    assert ("instead" in caplog.text, "are off" in caplog.text) == (fault == "missing", fault == "wrong")
