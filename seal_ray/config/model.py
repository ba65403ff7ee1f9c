"""The model of a run."""

from typing import Any, Literal

from pydantic import Field, field_validator

from seal_ray.config.section import HttpUrl, Section


class ModelSection(Section):
    name: str = Field(
        default="builtin:smollm2-135m",
        min_length=1,
        description="a folder, a hub id, s3://bucket/folder, builtin:smollm2-135m or builtin:tiny",
    )
    revision: str = Field(default="main", description="revision of a hub id")
    mirror: HttpUrl = Field(default="", description="URL of a hub mirror; empty is the hub's own")
    dtype: Literal["auto", "float32", "bfloat16"] = Field(
        default="auto", description="auto: bfloat16 where the device has it"
    )
    chat: Literal["auto", "yes", "no"] = Field(
        default="auto",
        description="use the chat template; auto: if the model has one, and base models may have one too",
    )
    thinking: Literal["auto", "yes", "no"] = Field(
        default="auto", description="whether a chat model thinks before it answers; auto: as its template does"
    )
    max_length: int = Field(
        default=2048, ge=16, le=1_048_576, description="tokens of prompt and text together, at most"
    )
    trust_remote_code: bool = Field(default=False, description="run code that comes with the model's files")
    quantization: Literal["none", "8bit", "4bit"] = Field(
        default="none", description="of the frozen base in the inner loop; needs bitsandbytes"
    )
    cache: str = Field(
        default="", description="folder for models on each node; empty: $SEAL_RAY_CACHE there, else ~/.cache/seal-ray"
    )
    cache_gb: float = Field(default=200, gt=0, description="limit of that folder; the least recently used go first")

    @field_validator("chat", "thinking", mode="before")
    @classmethod
    def _yes_or_no(cls, value: Any) -> Any:
        """YAML reads a bare yes or no as true or false."""
        return {True: "yes", False: "no"}[value] if isinstance(value, bool) else value
