"""A model's folder becomes a frozen model in memory, a tokenizer, and a prompt's token ids."""

from pathlib import Path
from typing import Any

from seal_ray.errors import ConfigError, DataError
from seal_ray.models.files import check, header_of
from seal_ray.records import ADAPTER
from seal_ray.text import THINK

SWITCH = "enable_thinking"  # what chat templates call it


def pick_dtype(name: str, device: str) -> str:
    """float32 or bfloat16; "auto" is bfloat16 where the device computes in it."""
    if name != "auto":
        return name
    if device.startswith("cuda"):
        import torch

        return "bfloat16" if torch.cuda.get_device_capability(torch.device(device))[0] >= 8 else "float32"
    return "bfloat16" if _cpu_flags() & {"avx512_bf16", "amx_bf16"} else "float32"


def _cpu_flags() -> set[str]:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("flags"):
                return set(line.split(":", 1)[1].split())
    except OSError:
        pass  # not Linux: the slower type is the safe one
    return set()


def load(
    folder: str | Path,
    *,
    dtype: str = "auto",
    device: str = "cpu",
    adapter: str | None = None,
    quantization: str = "none",
    trust_remote_code: bool = False,
) -> Any:
    """The model of a folder, frozen, in evaluation mode; with an adapter a PeftModel whose every module matched."""
    import torch
    from transformers import AutoModelForCausalLM

    check(folder, str(folder), trust_remote_code=trust_remote_code)
    kind = getattr(torch, pick_dtype(dtype, device))
    extra: dict[str, Any] = {}
    if quantization != "none":
        extra = {"quantization_config": _bitsandbytes(quantization, kind), "device_map": {"": device}}
    try:
        model = AutoModelForCausalLM.from_pretrained(
            str(folder),
            dtype=kind,
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=trust_remote_code,
            attn_implementation="sdpa",
            **extra,
        )
    except (ValueError, KeyError, TypeError, AttributeError, OSError, ImportError) as error:
        raise DataError(
            f"{folder}: transformers can't load this model: {type(error).__name__}: {str(error)[:500]}",
            hint="fetch the model again, or name one that this version of transformers knows",
        ) from error
    if not extra:
        model.to(torch.device(device))  # type: ignore[arg-type]
    if adapter is not None:
        model = _with_adapter(model, adapter)
    model.requires_grad_(False)
    return model.eval()


def change_adapter(model: Any, adapter: str | None) -> Any:
    """A model that `load` gave, with another adapter or none: its base stays in memory."""
    from peft import PeftModel

    base: Any = model.unload() if isinstance(model, PeftModel) else model
    changed = _with_adapter(base, adapter) if adapter is not None else base
    changed.requires_grad_(False)
    return changed.eval()


def _with_adapter(model: Any, adapter: str) -> Any:
    from peft import PeftModel

    weights = Path(adapter) / ADAPTER
    if not weights.exists():
        raise DataError(f"{adapter}: no {ADAPTER}", hint="name a folder with an adapter in safetensors")
    held = {n for n in header_of(weights) if n != "__metadata__"}
    model = PeftModel.from_pretrained(model, adapter, is_trainable=False, autocast_adapter_dtype=False)
    for name, weight in model.named_parameters():
        if "lora_" in name:  # a frozen adapter computes in the base's type: kept in float32 it doubles a step's time
            weight.data = weight.data.to(model.dtype)
    there = {n.replace(".default", "") for n in model.state_dict() if "lora_" in n}
    if held != there:
        strange = sorted(held ^ there)
        raise DataError(
            f"{adapter}: {len(strange)} of its tensors do not match the model, the first is {strange[0]}",
            hint="use the adapter with the base model that it was trained on",
        )
    return model


def _bitsandbytes(quantization: str, kind: Any) -> Any:
    from importlib.util import find_spec

    if find_spec("bitsandbytes") is None:
        raise ConfigError(
            f"model.quantization: {quantization} needs bitsandbytes, which is not installed",
            hint="it comes with the gpu extra; else install it on every node, or set model.quantization: none",
        )
    from transformers import BitsAndBytesConfig

    if quantization == "8bit":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_compute_dtype=kind,
        bnb_4bit_use_double_quant=True,
    )


def tokenizer(folder: str | Path, *, trust_remote_code: bool = False, thinking: str = "auto") -> Any:
    """The model's tokenizer, with a token for padding. `thinking`: yes or no sets the chat template's own switch."""
    from transformers import AutoTokenizer

    try:
        made = AutoTokenizer.from_pretrained(str(folder), local_files_only=True, trust_remote_code=trust_remote_code)
    except Exception as error:  # the tokenizers library raises nothing narrower for a damaged file
        raise DataError(
            f"{folder}: its tokenizer can't be read: {type(error).__name__}: {str(error)[:500]}",
            hint="fetch the model again",
        ) from error
    if made.eos_token_id is None:
        raise DataError(f"{folder}: its tokenizer has no end-of-text token", hint="set eos_token in its configuration")
    if made.pad_token_id is None:
        made.pad_token = made.eos_token
    if thinking != "auto":
        template = made.chat_template
        if not isinstance(template, str) or SWITCH not in template:
            raise ConfigError(
                f"model.thinking: {thinking}, but the chat template of {folder} has no switch for it",
                hint="leave model.thinking at auto",
            )
        # in the template itself, so that whoever renders a prompt renders it alike
        made.chat_template = f"{{%- set {SWITCH} = {'true' if thinking == 'yes' else 'false'} -%}}{template}"
    return made


def thinks(tokenizer: Any) -> bool:
    """Whether a chat model's answers may begin with a thought."""
    template = tokenizer.chat_template if isinstance(tokenizer.chat_template, str) else ""
    return (SWITCH in template or THINK in template) and not template.startswith(f"{{%- set {SWITCH} = false")
