# pyright: reportMissingImports=false
"""Compiles the bank's Triton kernels for an H100, which needs none: everything up to the machine's own code.

python compiled_kernels.py
"""

import json
import os
import sys
from typing import Any

sys.path.append(os.environ["TRITON_FOLDER"])

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.runtime.jit import JITFunction

from seal_ray.inner.kernels import canary, triton_adam, triton_block, triton_grouped

TYPES = {
    torch.float32: "*fp32",
    torch.bfloat16: "*bf16",
    torch.int64: "*i64",
    torch.int32: "*i32",
    torch.int8: "*i8",
    torch.uint8: "*u8",
}
HOPPER = GPUTarget("cuda", 90, 32)

compiled: dict[str, dict[str, int]] = {}  # by kernel and what it is made for, bytes of machine code


def compile_only(self: Any, *args: Any, grid: Any, warmup: bool, num_warps: int = 4, **named: Any) -> None:
    """In place of a launch."""
    given = dict(zip(self.arg_names, args, strict=False)) | named
    fixed = {p.name: given[p.name] for p in self.params if p.is_constexpr}
    signature = {name: "constexpr" if name in fixed else kind(given[name]) for name in self.arg_names}
    own, key = compiled.setdefault(self.fn.__name__, {}), str(fixed)
    if key not in own:
        source = ASTSource(fn=self, signature=signature, constexprs=fixed)
        made = triton.compile(source, target=HOPPER, options={"num_warps": num_warps})
        own[key] = len(made.asm["cubin"])


def kind(value: Any) -> str:
    return TYPES[value.dtype] if isinstance(value, torch.Tensor) else "i32" if isinstance(value, int) else "fp32"


if __name__ == "__main__":
    JITFunction.run = compile_only
    kernels = canary.triton_kernels()
    for name, arguments in canary.samples(torch.device("cpu"), torch.bfloat16):
        if name in kernels:
            kernels[name](*arguments)
    files = (triton_block, triton_adam, triton_grouped)
    names = sorted({name for file in files for name in vars(file) if name.endswith("_kernel")})
    print(json.dumps({"kernels": names, "compiled": compiled}))
