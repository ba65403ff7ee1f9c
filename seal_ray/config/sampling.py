"""How edits are written."""

from pydantic import Field

from seal_ray.config.section import Section


class SamplingSection(Section):
    edits: int = Field(default=5, ge=1, le=1000, description="edits per task")
    temperature: float = Field(default=1.0, ge=0, le=5, description="of the policy's sampling")
    top_p: float = Field(default=0.95, gt=0, le=1, description="of the policy's sampling")
    max_tokens: int = Field(default=1024, ge=1, description="tokens of an edit, at most")
    chunk: int = Field(default=8, ge=1, description="tasks sampled in one call; the same chunks give the same edits")
    drop_near_copies: float = Field(
        default=0,
        ge=0,
        le=1,
        description="an edit this similar to an earlier one of its task is not tried; 0 keeps all",
    )
    gpu_memory: float = Field(default=0.85, gt=0, lt=1, description="share of a GPU's memory that vLLM takes")
    kv_cache_gb: float = Field(default=1, gt=0, description="of vLLM's KV cache, on a CPU")
