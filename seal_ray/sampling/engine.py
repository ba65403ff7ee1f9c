"""vLLM behind a small face: token ids and seeds go in, samples with their log-probabilities come out.

The only room that knows vLLM, which is imported when an engine starts. The engine runs inside the calling process (only
tensor parallelism starts others), so that nothing outlives its owner. Give it a process of its own: on CPU, vLLM binds
memory and sets seeds for the whole process.
"""

import itertools
import json
import math
import os
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from seal_ray import models
from seal_ray.errors import ConfigError, DataError, InfraError
from seal_ray.records import ADAPTER, Json
from seal_ray.redaction import logger
from seal_ray.sampling.adapters import (
    LARGEST_RANK,
    changes_nothing,
    check_fit,
    linear_layers,
    probe_ids,
    served_rank,
    target_modules,
)
from seal_ray.sampling.engine_metrics import tell_ray
from seal_ray.text import first_line

log = logger(__name__)

# An id names an adapter inside vLLM for as long as the process lives, and an id that came back would be answered with
# the old weights: so ids are counted for the process and not for an engine.
_adapter_ids = itertools.count(1)


@dataclass(frozen=True)
class EngineSettings:
    device: Literal["cpu", "gpu"] = "cpu"
    dtype: str = "auto"
    max_length: int = 2048  # tokens of prompt and answer together
    lora_rank: int = 0  # the largest rank that will be asked for; 0 is an engine without adapters
    adapters: int = 1  # adapters in one batch
    tensor_parallel: int = 1
    across_nodes: bool = False
    gpu_memory: float = 0.85
    # what of the configuration says the largest rank and the share of memory, for a hint
    rank_from: str = "policy.rank"
    memory_from: str = "sampling.gpu_memory"
    kv_cache_gb: float = 1.0  # on CPU
    batch: int = 64  # sequences that are decoded together
    brief: bool = False  # a few tokens are asked of it: no CUDA graphs are made for them
    trust_remote_code: bool = False
    metrics: bool = False  # vLLM's own figures are told through Ray, which has to run here


@dataclass(frozen=True)
class GenerateRequest:
    prompt_ids: tuple[int, ...]
    seed: int
    temperature: float = 1.0
    top_p: float = 1.0
    max_tokens: int = 64
    schema: Mapping[str, Json] | None = None  # JSON schema that the text will follow
    stop: tuple[str, ...] = ()
    stop_ids: tuple[int, ...] = ()  # end a text too, besides the model's own


@dataclass(frozen=True)
class GeneratedText:
    ids: tuple[int, ...]
    logprobs: tuple[float, ...]  # of each id, under the distribution that it was sampled from
    text: str  # without special tokens and without what stopped it
    finish: str  # stop, length; nan where the model put out no numbers; error or abort where vLLM gave up


@dataclass
class _Adapter:
    request: Any  # vLLM's LoRARequest
    stamp: tuple[int, ...]  # of the file that was read
    checked: bool = False


def check_dtype(settings: EngineSettings, dtype: str) -> None:
    """vLLM's kernels for adapters on a GPU take 16 bits only, and say so deep inside of a start."""
    if settings.device != "cpu" and settings.lora_rank and dtype == "float32":
        asked = "its GPU is too old for bfloat16" if settings.dtype == "auto" else f"it is {settings.dtype}"
        raise ConfigError(
            f"model.dtype: vLLM's adapters on a GPU are computed in 16 bits, not in float32 ({asked})",
            hint="set model.dtype: bfloat16, use a GPU of the Ampere generation or later, or placement.device: cpu",
        )


@dataclass
class Engine:
    """One vLLM engine with a base model and the adapters that requests name by folder."""

    model_dir: str
    settings: EngineSettings = field(default_factory=EngineSettings)

    def __post_init__(self) -> None:
        asked = self.settings.lora_rank
        if asked > LARGEST_RANK:
            raise ConfigError(
                f"{self.settings.rank_from}: vLLM serves adapters up to rank {LARGEST_RANK}, not {asked}",
                hint="lower the rank",
            )
        self._vllm = _import_vllm(self.settings.device)
        self.dtype = models.pick_dtype(self.settings.dtype, "cpu" if self.settings.device == "cpu" else "cuda")
        check_dtype(self.settings, self.dtype)
        self._linears = linear_layers(self.model_dir)
        self._adapters: dict[str, _Adapter] = {}
        self._base_probe: list[float] | None = None
        self._llm: Any = self._start()
        if self.settings.metrics:
            tell_ray(self._llm)
        self.max_length = int(self._llm.llm_engine.model_config.max_model_len)

    def _start(self) -> Any:
        s = self.settings
        cpu = s.device == "cpu"
        context = models.shape(self.model_dir).context or s.max_length
        try:
            return self._vllm.LLM(
                model=self.model_dir,
                dtype=self.dtype,
                max_model_len=min(s.max_length, context),
                max_num_seqs=s.batch,
                seed=0,
                enable_lora=s.lora_rank > 0,
                max_lora_rank=served_rank(s.lora_rank),
                max_loras=s.adapters,
                lora_target_modules=target_modules(self._linears),
                # the distribution that was sampled from, which is what a policy gradient and an auditor need
                logprobs_mode="processed_logprobs",
                # JSON without blanks: between its parts a small model writes line ends for as long as it has room
                structured_outputs_config={"backend": "xgrammar", "disable_any_whitespace": True},
                generation_config="vllm",  # only our own sampling settings count, not those beside the model
                # a prefix that is cached from an earlier batch changes the arithmetic of this one: the same batch would
                # not give the same text
                enable_prefix_caching=False,
                enforce_eager=cpu or s.brief,
                tensor_parallel_size=s.tensor_parallel,
                distributed_executor_backend=self._executor(),
                trust_remote_code=s.trust_remote_code,
                disable_log_stats=not s.metrics,
                **(self._on_cpu(min(s.max_length, context)) if cpu else {"gpu_memory_utilization": s.gpu_memory}),
            )
        except Exception as error:  # vLLM raises whatever its parts raise; the cause stays attached
            memory = "sampling.kv_cache_gb" if cpu else s.memory_from
            raise InfraError(
                f"vLLM could not start with {self.model_dir}: {type(error).__name__}: {first_line(error, 300)}",
                hint=f"if it names memory, change {memory} or lower model.max_length",
            ) from error

    def _on_cpu(self, longest: int) -> dict[str, Any]:
        return {
            "kv_cache_memory_bytes": int(self.settings.kv_cache_gb * 2**30),
            # a prompt that is taken in pieces makes vLLM turn its random generators back, which those of a CPU cannot
            "enable_chunked_prefill": False,
            "max_num_batched_tokens": max(longest, 4096),
        }

    def _executor(self) -> str:
        if self.settings.across_nodes:
            return "ray"
        return "uni" if self.settings.tensor_parallel == 1 else "mp"

    def generate(
        self, requests: Sequence[GenerateRequest], adapter: str | Sequence[str | None] | None = None
    ) -> list[GeneratedText]:
        """A sample for each request, in order, all in one batch; `adapter` is a folder, for all or one for each."""
        if not requests:
            return []
        # prompts that leave no room for an answer would be refused by vLLM together with their whole batch
        for request in requests:
            if not self.fits(request.prompt_ids):
                raise DataError(
                    f"a prompt of {len(request.prompt_ids)} tokens does not fit into {self.max_length}",
                    hint="raise model.max_length or shorten the text",
                )
        loras, params = self._loras(adapter, len(requests)), [self._params(r) for r in requests]
        outputs = self._run([r.prompt_ids for r in requests], params, loras)
        return [_sample(output.outputs[0]) for output in outputs]

    def score(
        self, texts: Sequence[Sequence[int]], adapter: str | Sequence[str | None] | None = None
    ) -> list[list[float]]:
        """The log-probability of every token but the first of each text, under the model with that adapter."""
        return self._score(texts, self._loras(adapter, len(texts)))

    def fits(self, prompt_ids: Sequence[int]) -> bool:
        return 0 < len(prompt_ids) < self.max_length

    def load(self, adapter: str) -> None:
        """Read an adapter and check it now, and not in the middle of a batch."""
        self._llm.llm_engine.add_lora(self._lora(adapter))

    def forget(self, adapter: str) -> None:
        """Let go of an adapter that will not be asked for again."""
        held = self._adapters.pop(adapter, None)
        if held is not None:
            self._llm.llm_engine.remove_lora(held.request.lora_int_id)

    def close(self) -> None:
        """Free the engine's memory, so that another may start in this process."""
        llm, self._llm = self._llm, None
        if llm is None:
            return
        import gc

        from vllm.distributed.parallel_state import cleanup_dist_env_and_memory

        llm.llm_engine.engine_core.shutdown()
        del llm
        if self.settings.device != "cpu":
            _forget_graphs()
        gc.collect()  # vLLM's finalizers let go of the model, so before its memory is given back
        cleanup_dist_env_and_memory()

    def _run(self, prompts: Sequence[Sequence[int]], params: list[Any], loras: list[Any]) -> list[Any]:
        if self._llm is None:
            raise InfraError("this engine is closed", hint="start another")
        self._check_whole()
        tokens = [{"prompt_token_ids": list(ids)} for ids in prompts]
        try:
            with self._eager():
                outputs = self._llm.generate(tokens, params, lora_request=loras, use_tqdm=False)
        except Exception as error:
            self._check_whole(error)
            raise
        if len(outputs) != len(prompts):
            raise InfraError(f"vLLM gave {len(outputs)} answers to {len(prompts)} prompts", hint="start another engine")
        return outputs

    def _check_whole(self, error: Exception | None = None) -> None:
        """Refuse to go on where a step failed: vLLM would answer what is left of its batch along with the next one."""
        if self._llm.llm_engine.has_unfinished_requests():
            why = f": {type(error).__name__}: {first_line(error, 300)}" if error else ""
            raise InfraError(f"a batch of this engine broke off{why}", hint="start another engine") from error

    def _eager(self) -> AbstractContextManager[Any]:
        """On CPU, leave out torch.compile: it would take some 10 s to compile the ranks of log-probabilities."""
        if self.settings.device != "cpu":
            return nullcontext()
        import torch

        return torch.compiler.set_stance("force_eager")

    def _params(self, request: GenerateRequest) -> Any:
        structured = None
        if request.schema is not None:
            from vllm.sampling_params import StructuredOutputsParams

            structured = StructuredOutputsParams(json=json.dumps(request.schema))
        return self._vllm.SamplingParams(
            temperature=request.temperature,
            top_p=request.top_p,
            seed=request.seed,
            max_tokens=request.max_tokens,
            stop=list(request.stop) or None,
            stop_token_ids=list(request.stop_ids) or None,
            logprobs=0,
            structured_outputs=structured,
        )

    # adapters

    def _loras(self, adapter: str | Sequence[str | None] | None, count: int) -> list[Any]:
        each = [adapter] * count if adapter is None or isinstance(adapter, str) else list(adapter)
        assert len(each) == count, "one adapter for each text"
        return [self._lora(folder) for folder in each]

    def _lora(self, folder: str | None) -> Any:
        if folder is None:
            return None
        weights = Path(folder) / ADAPTER
        if not weights.is_file():
            raise DataError(f"{folder}: no {ADAPTER}", hint="name a folder with an adapter in safetensors")
        stat = weights.stat()
        stamp = (stat.st_ino, stat.st_size, stat.st_mtime_ns)
        held = self._adapters.get(folder)
        if held is None or held.stamp != stamp:
            self.forget(folder)
            check_fit(folder, self.settings.lora_rank, self._linears)
            from vllm.lora.request import LoRARequest

            number = next(_adapter_ids)
            held = _Adapter(LoRARequest(f"adapter-{number}", number, folder), stamp)
            self._adapters[folder] = held
        if not held.checked:
            self._check_effect(folder, held.request)
            held.checked = True
        return held.request

    def _check_effect(self, folder: str, request: Any) -> None:
        """The canary: an adapter that is not zero must change the log-probabilities of a probe."""
        if changes_nothing(folder):
            return
        probe = [probe_ids(self.model_dir, min(32, self.max_length - 1))]
        if self._base_probe is None:
            self._base_probe = self._score(probe, [None])[0]
        if self._score(probe, [request])[0] == self._base_probe:
            raise InfraError(
                f"{folder}: vLLM took this adapter but the model answers as without it",
                hint="check that the adapter's layers are ones that vLLM gives adapters to",
            )

    def _score(self, texts: Sequence[Sequence[int]], loras: list[Any]) -> list[list[float]]:
        params = self._vllm.SamplingParams(temperature=0.0, max_tokens=1, prompt_logprobs=0)
        outputs = self._run(texts, [params] * len(texts), loras)
        return [
            [
                float(position[token].logprob)
                for token, position in zip(ids[1:], output.prompt_logprobs[1:], strict=True)
            ]
            for ids, output in zip(texts, outputs, strict=True)
        ]


def _import_vllm(device: str) -> Any:
    # what has to be said before vLLM is imported: no engine process that could outlive us, no network, little log
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    try:
        import vllm
        from vllm.platforms import current_platform
    except ImportError as error:
        raise InfraError(
            f"vLLM can't be imported: {type(error).__name__}: {first_line(error, 300)}",
            hint="install seal-ray with its cpu or gpu extra on every node that samples",
        ) from error
    if device == "cpu":
        use_own_products()
    if device == "gpu" and not current_platform.is_cuda_alike():
        raise InfraError(
            "placement.device: gpu, but the vLLM on this node sees no GPU",
            hint="install the gpu extra on GPU nodes, or set placement.device: cpu",
        )
    return vllm


def _forget_graphs() -> None:
    """What an engine compiled and captured would outlive it, and the next one of this process could capture nothing."""
    import torch
    from vllm.platforms import current_platform

    torch._dynamo.reset()
    type(current_platform)._global_graph_pool = None


def use_own_products() -> None:
    """On CPU: products of adapters that leave requests without an adapter alone."""
    from vllm.lora.punica_wrapper import punica_cpu

    from seal_ray.sampling.cpu_lora import PRODUCTS

    for name, product in PRODUCTS.items():
        if not hasattr(punica_cpu, name):
            raise InfraError(
                f"this vLLM has no {name} to replace on CPU", hint="install the version of vLLM that seal-ray pins"
            )
        setattr(punica_cpu, name, product)


# For every process that an engine may run in, before it starts.
ENVIRONMENT = {
    # How often a thread of OpenMP looks again before it sleeps, in a process that shares its cores. Very often is
    # libgomp's default: two processes on two cores then spin against each other, and both take more than three times as
    # long. Never (OMP_WAIT_POLICY=PASSIVE) makes a bank that is alone half as fast. This is near the better of the two
    # in either case.
    "GOMP_SPINCOUNT": "1000",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_USE_FLASHINFER_SAMPLER": "0",  # it would be compiled by nvcc, and can't draw with seeds
    "TOKENIZERS_PARALLELISM": "false",
}


def _sample(output: Any) -> GeneratedText:
    ids = tuple(output.token_ids)
    logprobs = tuple(float(at[token].logprob) for token, at in zip(ids, output.logprobs, strict=True))
    finish = str(output.finish_reason) if all(map(math.isfinite, logprobs)) else "nan"
    return GeneratedText(ids, logprobs, output.text, finish)
