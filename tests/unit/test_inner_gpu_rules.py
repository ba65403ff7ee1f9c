"""What can be known about a GPU without one: which settings it refuses, and whose fault its errors are."""

import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from seal_ray.errors import ConfigError, InfraError
from seal_ray.fleet.cluster import ENVIRONMENT
from seal_ray.fleet.wave_messages import OutOfMemory
from seal_ray.fleet.worker import classified
from seal_ray.inner.memory import BLOCK_PADDING, TOKENS_LIMIT, BankSetup, slots_for, training_bytes
from seal_ray.inner.stack import Stack
from seal_ray.inner.staging import staged
from seal_ray.sampling.adapters import LORA_RANKS
from seal_ray.sampling.engine import EngineSettings, check_dtype
from seal_ray.shapes import KNOWN_SHAPES


def test_adapters_on_a_gpu_take_16_bits_or_say_so():
    for asked, why in (("float32", "it is float32"), ("auto", "too old")):
        with pytest.raises(ConfigError, match=f"model.dtype.*{why}"):
            check_dtype(EngineSettings(device="gpu", dtype=asked, lora_rank=8), "float32")
    check_dtype(EngineSettings(device="gpu", dtype="float32", lora_rank=0), "float32")
    check_dtype(EngineSettings(device="gpu", lora_rank=8), "bfloat16")
    check_dtype(EngineSettings(device="cpu", dtype="float32", lora_rank=8), "float32")


def test_ranks_are_those_that_vllm_takes():
    vllm = find_spec("vllm")
    assert vllm is not None and vllm.origin is not None
    source = (Path(vllm.origin).parent / "config/lora.py").read_text()
    literal = re.search(r"MaxLoRARanks = Literal\[([\d, ]+)\]", source)
    assert literal is not None and tuple(map(int, literal.group(1).split(","))) == tuple(LORA_RANKS)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), OutOfMemory),
        (torch.AcceleratorError("CUDA error: out of memory"), OutOfMemory),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), OutOfMemory),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), OutOfMemory),
        (MemoryError(), OutOfMemory),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:126] DefaultCPUAllocator: can't allocate memory"), OutOfMemory),
        (torch.AcceleratorError("CUDA error: an illegal memory access was encountered"), InfraError),
        (RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"), InfraError),
        (RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasGemmEx(...)`"), InfraError),
    ],
)
def test_what_a_device_says_is_never_a_candidates_fault(error, kind):
    assert type(classified(error, "lease 3 on worker-1")) is kind


def test_what_an_engine_leaves_behind_on_a_gpu_is_where_it_is_looked_for():
    vllm = find_spec("vllm")
    assert vllm is not None and vllm.origin is not None
    platform = (Path(vllm.origin).parent / "platforms/interface.py").read_text()
    assert re.search(r"^    _global_graph_pool: .* = None$", platform, re.MULTILINE), "engine._forget_graphs sets it"


def test_every_process_of_a_run_has_growing_segments_and_no_cudnn_attention():
    assert ENVIRONMENT["PYTORCH_ALLOC_CONF"] == "expandable_segments:True"
    assert ENVIRONMENT["TORCH_CUDNN_SDPA_DEPRIORITIZED"] == "1"


def test_cudnn_attention_is_off_inside_a_bank_and_as_it_was_afterwards():
    from transformers import LlamaConfig, LlamaForCausalLM

    from seal_ray.inner.frozen import Frozen

    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 1}
    frozen = Frozen(LlamaForCausalLM(LlamaConfig(vocab_size=9, **sizes)))  # type: ignore[arg-type]
    assert torch.backends.cuda.cudnn_sdp_enabled()
    with frozen.attached([]):
        assert not torch.backends.cuda.cudnn_sdp_enabled()
    assert torch.backends.cuda.cudnn_sdp_enabled()


def test_what_a_forward_needs_travels_together_and_arrives_unchanged():
    rows, none, shares = staged(torch.device("cpu"), [[3, 1, 2**40], []], [[0.25, 1 / 3]])
    assert rows.tolist() == [3, 1, 2**40] and none.tolist() == [] and rows.dtype == torch.int64
    assert shares.dtype == torch.float32 and shares.tolist() == pytest.approx([0.25, 1 / 3])


@pytest.mark.parametrize(("shape", "base", "least"), [("qwen2.5-7b", 15.2e9, 24), ("llama-3.1-70b", 36e9, 2)])
def test_slots_of_a_gpu(shape, base, least):
    """Published texts, rank 32, all layers: beside a base of 7B in 16 bits, and beside one of 70B in 4 bits."""
    setup = BankSetup(step_tokens=46)
    slots = slots_for(int(80e9 - base), KNOWN_SHAPES[shape], setup, longest=400, candidates=96)
    rows = max(400, min(2 * 46 * slots, TOKENS_LIMIT) / BLOCK_PADDING)
    planned = training_bytes(KNOWN_SHAPES[shape], setup, adapters=slots, rows=rows)
    assert slots >= least and planned <= 0.85 * (80e9 - base)


class NewBytes(TorchDispatchMode):
    """Counts what is new on torch's device without memory, where only sizes are known."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if isinstance(out, torch.Tensor) and out.is_meta and not func.is_view and not func._schema.is_mutable:
            self.bytes += out.nbytes
        return out


def test_adapters_that_answer_take_their_room_on_a_device_once():
    stack = Stack.of({"q_proj": torch.nn.Linear(24, 16), "v_proj": torch.nn.Linear(24, 8)}, ["q_proj", "v_proj"], 4)
    rows, scale = [torch.ones(stack.size, dtype=torch.bfloat16)] * 5, torch.ones(5, device="meta")
    with NewBytes() as new:
        stack.finished(rows, scale)
    assert new.bytes == 5 * rows[0].nbytes


def test_the_benchmark_and_a_driver_that_plans_load_no_more_than_they_need():
    code = (
        "import sys, seal_ray.fleet.worker\n"
        "heavy = {'torch', 'transformers', 'peft', 'vllm'} & set(sys.modules)\n"
        "sys.exit(f'loaded: {sorted(heavy)}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
