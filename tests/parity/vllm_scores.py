"""Prints the log-probabilities that vLLM gives to a probe's tokens: MODEL, LORA folder or nothing, PROBE as JSON."""

import json
import os
import sys
from pathlib import Path

os.environ |= {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1"}


def main(model: str, lora: str, probe: list[list[int]]) -> list[float]:
    from vllm import LLM, SamplingParams
    from vllm.lora.request import LoRARequest

    rank = json.loads(Path(lora, "adapter_config.json").read_text())["r"] if lora else 8
    engine = LLM(
        model=model,
        dtype="float32",
        enforce_eager=True,
        distributed_executor_backend="uni",
        enable_lora=bool(lora),
        max_lora_rank=rank,
        max_model_len=256,
    )
    outputs = engine.generate(
        [{"prompt_token_ids": text} for text in probe],
        SamplingParams(max_tokens=1, temperature=0, prompt_logprobs=0),
        lora_request=LoRARequest("version", 1, lora) if lora else None,
        use_tqdm=False,
    )
    found = []
    for text, output in zip(probe, outputs, strict=True):
        assert output.prompt_logprobs is not None
        for token, place in zip(text[1:], output.prompt_logprobs[1:], strict=True):
            assert place is not None
            found.append(place[token].logprob)
    return found


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], sys.argv[2], json.loads(sys.argv[3]))))
