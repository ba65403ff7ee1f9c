"""Prints the log-probabilities that vLLM gives to a probe's tokens: MODEL, LORA folder or nothing, PROBE as JSON."""

import json
import os
import sys
from pathlib import Path

os.environ |= {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1"}

VOCABULARY = 512


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
        max_logprobs=VOCABULARY,
    )
    # asked prefix by prefix: log-probabilities of a prompt are beyond vLLM's LoRA on CPU
    outputs = engine.generate(
        [{"prompt_token_ids": text[:end]} for text in probe for end in range(1, len(text))],
        SamplingParams(max_tokens=1, temperature=0, logprobs=VOCABULARY),
        lora_request=LoRARequest("version", 1, lora) if lora else None,
        use_tqdm=False,
    )
    wanted = [token for text in probe for token in text[1:]]
    found = []
    for token, output in zip(wanted, outputs, strict=True):
        places = output.outputs[0].logprobs
        assert places is not None
        found.append(places[0][token].logprob)
    return found


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], sys.argv[2], json.loads(sys.argv[3]))))
