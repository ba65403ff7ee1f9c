"""A model's name becomes files: builtins, folders, the hub and its mirrors, and what is refused."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from hub_mirror import COMMIT, serve

from seal_ray import cache_folder, models
from seal_ray.config import ModelSection
from seal_ray.errors import ConfigError, DataError, InfraError, SealError
from seal_ray.models import digests, loading, names
from seal_ray.models.builtin import make_smollm2
from seal_ray.records import Prompt


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(cache_folder.ROOT, str(tmp_path / "cache"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    return tmp_path / "cache"


def test_importing_models_loads_neither_torch_nor_transformers() -> None:
    code = (
        "import sys; from seal_ray import models; from seal_ray.config import ModelSection\n"
        "models.shape(models.fetch(ModelSection(name='builtin:tiny')))\n"
        "sys.exit(bool({'torch', 'transformers', 'vllm', 'ray'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


def test_the_tiny_model_is_the_same_bytes_wherever_it_is_made(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib; from seal_ray.models.builtin import make_tiny; from seal_ray import models\n"
        "make_tiny(pathlib.Path(sys.argv[1])); print(models.digest_of(sys.argv[1]))"
    )
    found = set()
    for seed in ("1", "2"):
        folder = tmp_path / seed
        folder.mkdir()
        env = {**os.environ, "PYTHONHASHSEED": seed}
        done = subprocess.run(
            [sys.executable, "-c", code, str(folder)], env=env, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stderr
        found.add(done.stdout)
    assert len(found) == 1


def test_a_builtin_is_made_once_and_then_taken_from_the_cache(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = models.fetch(ModelSection(name="builtin:tiny"))
    assert Path(folder).parent == own_cache / "models"
    monkeypatch.setitem(names.BUILTINS, "builtin:tiny", lambda folder: pytest.fail("made again"))
    assert models.fetch(ModelSection(name="builtin:tiny")) == folder


def test_a_folder_is_used_where_it_is(tiny: Path) -> None:
    assert models.fetch(ModelSection(name=str(tiny))) == str(tiny)
    assert models.fetch(ModelSection(name=f"file://{tiny}")) == str(tiny)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("builtin:huge", "builtin:tiny"),
        ("/no/such/folder", "/no/such/folder"),
        ("./missing", "missing"),
        ("not a hub id", "not a hub id"),
    ],
)
def test_a_model_that_does_not_exist_is_named_with_what_to_do(name: str, says: str) -> None:
    with pytest.raises((ConfigError, DataError), match=r"model\.name") as caught:
        models.fetch(ModelSection(name=name))
    assert says in str(caught.value) and caught.value.hint and caught.value.exit_code == 2


def test_pickled_weights_are_refused(tiny: Path) -> None:
    (tiny / "model.safetensors").rename(tiny / "pytorch_model.bin")
    with pytest.raises(DataError, match=r"pickled \(pytorch_model.bin\).*safetensors"):
        models.fetch(ModelSection(name=str(tiny)))


def test_a_file_that_was_cut_short_is_refused(tiny: Path) -> None:
    weights = tiny / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(DataError, match="fetch it again"):
        models.fetch(ModelSection(name=str(tiny)))


def test_a_file_that_is_no_safetensors_is_refused(tiny: Path) -> None:
    for content in (
        b"",
        b"\x80\x04\x95",
        b"\xff" * 64,
        (4).to_bytes(8, "little") + b"[1, ",
        b"\x02" + b"\0" * 7 + b"[]",
    ):
        (tiny / "model.safetensors").write_bytes(content)
        with pytest.raises(DataError, match="not a safetensors file"):
            models.fetch(ModelSection(name=str(tiny)))


def test_a_missing_shard_is_named(tiny: Path) -> None:
    index = {"weight_map": {"a": "model.safetensors", "b": "model-00002-of-00002.safetensors"}}
    (tiny / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(DataError, match="model-00002-of-00002"):
        models.fetch(ModelSection(name=str(tiny)))


def test_an_adapter_is_not_a_model(tiny: Path) -> None:
    (tiny / "config.json").rename(tiny / "adapter_config.json")
    with pytest.raises(DataError, match="adapter, not a model"):
        models.fetch(ModelSection(name=str(tiny)))


def test_a_model_without_a_tokenizer_is_refused(tiny: Path) -> None:
    (tiny / "tokenizer.json").unlink()
    with pytest.raises(DataError, match="no tokenizer"):
        models.fetch(ModelSection(name=str(tiny)))


def test_code_that_comes_with_a_model_runs_only_where_it_is_asked_for(tiny: Path) -> None:
    config = json.loads((tiny / "config.json").read_text())
    (tiny / "config.json").write_text(json.dumps({**config, "auto_map": {"AutoModel": "evil.Model"}}))
    with pytest.raises(ConfigError, match="trust_remote_code"):
        models.fetch(ModelSection(name=str(tiny)))
    assert models.fetch(ModelSection(name=str(tiny), trust_remote_code=True)) == str(tiny)


# The hub


def test_a_model_fetched_without_its_code_is_fetched_with_it_once_it_may_run(tiny: Path, own_cache: Path) -> None:
    config = json.loads((tiny / "config.json").read_text())
    (tiny / "config.json").write_text(json.dumps({**config, "auto_map": {"AutoModel": "own.Model"}}))
    (tiny / "own.py").write_text("class Model: ...")
    with serve(tiny, "some/model") as (url, _):
        section = ModelSection(name="some/model", mirror=url)
        trusted = section.model_copy(update={"trust_remote_code": True})
        for look in (models.fetch, models.describe):
            with pytest.raises(ConfigError, match="trust_remote_code: true"):
                look(section)
            told = look(trusted)
            folder = told if isinstance(told, str) else told.folder
            assert (Path(folder) / "own.py").is_file(), "the hint was followed, and the code is not there"


def test_a_mirror_serves_a_model_without_the_hub(tiny: Path, own_cache: Path) -> None:
    (tiny / "pytorch_model.bin").write_bytes(b"never fetched")
    with serve(tiny, "some/model") as (url, asked):
        folder = models.fetch(ModelSection(name="some/model", mirror=url))
    assert not any("pytorch_model.bin" in path for path in asked)
    assert Path(folder).parent == own_cache / "models"
    (tiny / "pytorch_model.bin").unlink()
    assert models.digest_of(folder) == models.digest_of(tiny)
    assert not [p for p in Path(folder).iterdir() if p.is_dir()]


def test_without_a_network_the_copy_on_the_node_is_used(tiny: Path) -> None:
    with serve(tiny, "some/model") as (url, _):
        section = ModelSection(name="some/model", mirror=url)
        folder = models.fetch(section)
    assert models.fetch(section) == folder
    assert models.fetch(ModelSection(name="some/model", mirror=url, revision=COMMIT)) == folder


def test_where_the_hub_is_switched_off_it_is_not_even_asked(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serve(tiny, "some/model") as (url, asked):
        section = ModelSection(name="some/model", mirror=url)
        folder = models.fetch(section)
        asked.clear()
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)  # read from the environment at import
        assert models.fetch(section) == folder and not asked
        with pytest.raises(InfraError, match="OfflineModeIsEnabled"):
            models.fetch(ModelSection(name="some/model", mirror=url, revision="other"))
        assert not asked


def test_without_a_network_and_without_a_copy_the_error_says_what_to_do() -> None:
    with pytest.raises(InfraError, match=r"can't be reached.*model\.mirror"):
        models.fetch(ModelSection(name="some/model", mirror="http://127.0.0.1:9"))


def test_a_gated_model_takes_the_token_from_the_environment(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serve(tiny, "some/gated", token="hf_secret") as (url, _):
        section = ModelSection(name="some/gated", mirror=url)
        for wrong in (None, "hf_wrong"):
            if wrong:
                monkeypatch.setenv("HF_TOKEN", wrong)
            with pytest.raises(ConfigError, match="HF_TOKEN") as caught:
                models.fetch(section)
            assert "hf_wrong" not in str(caught.value)
        monkeypatch.setenv("HF_TOKEN", "hf_secret")
        assert models.digest_of(models.fetch(section)) == models.digest_of(tiny)


def test_a_name_or_revision_that_the_hub_does_not_know_is_a_mistake_in_the_configuration(tiny: Path) -> None:
    with serve(tiny, "some/model") as (url, _):
        with pytest.raises(ConfigError, match=r"model\.name: some/other"):
            models.fetch(ModelSection(name="some/other", mirror=url))
        with pytest.raises(ConfigError, match=r"model\.revision.*v9"):
            models.fetch(ModelSection(name="some/model", mirror=url, revision="v9"))


def test_a_hub_model_with_pickled_weights_alone_is_not_even_fetched(tiny: Path) -> None:
    (tiny / "model.safetensors").rename(tiny / "pytorch_model.bin")
    with serve(tiny, "some/model") as (url, asked):
        with pytest.raises(DataError, match="pickled"):
            models.fetch(ModelSection(name="some/model", mirror=url))
        assert not any("resolve" in path for path in asked)


# Digest and sizes


def test_a_digest_names_the_content_and_is_remembered(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = models.digest_of(tiny)
    copy = tmp_path / "elsewhere"
    shutil.copytree(tiny, copy)
    (copy / "README.md").write_text("not part of the model")
    assert models.digest_of(copy) == first
    with monkeypatch.context() as patch:
        patch.setattr(digests, "file_digest", lambda path: pytest.fail("read again"))
        assert models.digest_of(tiny) == first
    weights = tiny / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    assert models.digest_of(tiny) != first


def test_the_folder_of_models_is_no_larger_than_configured(own_cache: Path) -> None:
    with pytest.raises(ConfigError, match=r"model\.cache_gb: 1e-06 GB do not hold"):
        models.fetch(ModelSection(name="builtin:tiny", cache_gb=1e-6))
    assert list((own_cache / "models").iterdir()) == []


def test_notes_on_folders_that_are_gone_go_and_no_lock_stays(tiny: Path, tmp_path: Path, own_cache: Path) -> None:
    copy = tmp_path / "elsewhere"
    shutil.copytree(tiny, copy)
    models.digest_of(tiny)
    models.digest_of(copy)
    notes = own_cache / "digests"
    assert sorted(json.loads(note.read_text())["folder"] for note in notes.iterdir()) == sorted(map(str, (tiny, copy)))
    shutil.rmtree(tiny)
    for left in ("killed.lock", "killed.part"):  # by whoever was killed while it read
        (notes / left).touch()
    (copy / "more.json").write_text("{}")
    models.digest_of(copy)
    assert [json.loads(note.read_text())["folder"] for note in notes.iterdir()] == [str(copy)]


def test_smollm2_is_not_made_with_another_end_of_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As transformers 5.17 reads its file."""
    import transformers

    config = transformers.LlamaConfig(
        vocab_size=8, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1
    )
    whole = transformers.LlamaForCausalLM(config)
    for kind, read in (("AutoConfig", config), ("AutoModelForCausalLM", whole)):
        monkeypatch.setattr(getattr(transformers, kind), "from_pretrained", lambda *_, read=read, **__: read)
    tokenizer = SimpleNamespace(eos_token="<|im_start|>")
    monkeypatch.setattr(transformers.AutoTokenizer, "from_pretrained", lambda *_, **__: tokenizer)
    with pytest.raises(ConfigError, match=r"ends its texts with <\|im_start\|>, not <\|im_end\|>"):
        make_smollm2(tmp_path)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [  # as the models' own cards count them
        ("Qwen/Qwen2.5-7B-Instruct", 7_615_616_512),
        ("qwen2.5-3b", 3_085_938_688),
        ("meta-llama/Llama-3.2-1B", 1_235_814_400),
        ("meta-llama/Llama-3.1-70B", 70_553_706_496),
        ("builtin:smollm2-135m", 134_515_008),
    ],
)
def test_sizes_of_well_known_models_need_no_files(name: str, parameters: int) -> None:
    assert models.shape(name).parameters == parameters


def test_sizes_of_a_folder_are_those_of_its_tensors(tiny: Path) -> None:
    header = models.header_of(tiny / "model.safetensors")
    counted = 0
    for name, tensor in header.items():
        if name != "__metadata__":
            size = 1
            for side in tensor["shape"]:
                size *= side
            counted += size
    assert models.shape(tiny).parameters == counted
    assert models.shape("builtin:tiny") == models.shape(tiny)


def test_a_name_whose_sizes_are_unknown_is_an_error_and_not_a_guess() -> None:
    with pytest.raises(SealError, match="some/model"):
        models.shape("some/model")


def test_the_dtype_follows_what_the_processor_can_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "_cpu_flags", lambda: {"avx2", "amx_bf16"})
    assert models.pick_dtype("auto", "cpu") == "bfloat16"
    assert models.pick_dtype("float32", "cpu") == "float32"
    for flags in ({"avx2"}, {"avx2", "avx512f", "avx512bw"}, set()):  # none multiplies in bfloat16 by itself
        monkeypatch.setattr(loading, "_cpu_flags", lambda flags=flags: flags)
        assert models.pick_dtype("auto", "cpu") == "float32"


# Prompts


def test_a_chat_prompt_goes_through_the_template_and_ends_with_its_prefix(tiny: Path) -> None:
    tokenizer = models.tokenizer(tiny)
    ids = models.render(tokenizer, Prompt("What is it?", system="Be brief.", chat=True, prefix="It is"))
    assert tokenizer.decode(ids) == (
        "<start>system\nBe brief.<end>\n<start>user\nWhat is it?<end>\n<start>assistant\nIt is"
    )
    assert models.has_chat_template(tiny)


def test_a_bare_prompt_begins_as_the_tokenizer_begins_a_text_and_is_not_ended(tiny: Path) -> None:
    tokenizer = models.tokenizer(tiny)
    ids = models.render(tokenizer, Prompt("Question: what?", prefix="\nAnswer:"))
    assert ids[0] == tokenizer.bos_token_id and ids.count(tokenizer.bos_token_id) == 1
    assert tokenizer.decode(ids[1:]) == "Question: what?\nAnswer:"
    assert tokenizer.eos_token_id not in ids


def test_a_chat_prompt_for_a_model_without_a_template_is_refused(tiny: Path) -> None:
    config = json.loads((tiny / "tokenizer_config.json").read_text())
    del config["chat_template"]
    (tiny / "tokenizer_config.json").write_text(json.dumps(config))
    assert not models.has_chat_template(tiny)
    with pytest.raises(ConfigError, match=r"model\.chat"):
        models.render(models.tokenizer(tiny), Prompt("hello", chat=True))


THINKING = (
    "{% for m in messages %}{{ '<start>' + m['role'] + '\n' + m['content'] + '<end>\n' }}{% endfor %}"
    "{{ '<start>assistant\n' }}{% if enable_thinking is defined and enable_thinking is false %}"
    "{{ '<think>\n\n</think>\n\n' }}{% endif %}"
)
NO_SYSTEM = (
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{{ '<start>user\n' + messages[0]['content'] + '<end>\n<start>assistant\n' }}"
)


def with_template(folder: Path, template: str) -> Path:
    config = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps(config | {"chat_template": template}))
    return folder


def test_a_model_that_thinks_is_told_not_to_by_its_own_template(tiny: Path) -> None:
    folder, prompt = with_template(tiny, THINKING), Prompt("hello", chat=True)
    said = {}
    for thinking in ("auto", "yes", "no"):
        tokenizer = models.tokenizer(folder, thinking=thinking)
        said[thinking] = tokenizer.decode(models.render(tokenizer, prompt))
        assert models.thinks(tokenizer) is (thinking != "no")
    assert said["auto"] == said["yes"] == "<start>user\nhello<end>\n<start>assistant\n"
    assert said["no"] == said["auto"] + "<think>\n\n</think>\n\n"


def test_thinking_is_refused_where_the_template_has_no_switch_for_it(tiny: Path) -> None:
    assert not models.thinks(models.tokenizer(tiny))
    with pytest.raises(ConfigError, match=r"model\.thinking: no, but"):
        models.tokenizer(tiny, thinking="no")


def test_a_template_that_knows_no_system_role_gets_its_words_from_the_user(tiny: Path) -> None:
    tokenizer = models.tokenizer(with_template(tiny, NO_SYSTEM))
    ids = models.render(tokenizer, Prompt("What is it?", system="Be brief.", chat=True))
    assert tokenizer.decode(ids) == "<start>user\nBe brief.\n\nWhat is it?<end>\n<start>assistant\n"


def test_the_end_of_text_is_the_end_of_a_turn(tiny: Path) -> None:
    tokenizer = models.tokenizer(tiny)
    turn = tokenizer.apply_chat_template([{"role": "assistant", "content": "Yes."}], tokenize=False)
    assert turn.rstrip().endswith(tokenizer.eos_token)
