"""A model's files that lie: each is refused with its name before a weight is read, and nothing else happens."""

import json
import random
import shutil
from pathlib import Path
from typing import Any

import pytest
from amounts import AMOUNTS
from seeds import drawing

from seal_ray import models
from seal_ray.errors import SealError
from seal_ray.models.builtin import make_tiny
from seal_ray.models.files import header_of


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    make_tiny(folder)
    return folder


def copied(tiny: Path, to: Path) -> Path:
    shutil.copytree(tiny, to, dirs_exist_ok=True)
    return to


def rewritten(file: Path, header: Any, tail: bytes | None = None) -> None:
    """The file with another header before the same bytes."""
    data = file.read_bytes()
    length = int.from_bytes(data[:8], "little")
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    file.write_bytes(len(text).to_bytes(8, "little") + text + (data[8 + length :] if tail is None else tail))


def header(tiny: Path) -> dict[str, Any]:
    return dict(header_of(tiny / "model.safetensors"))


LIES: dict[str, Any] = {
    "negative": {"data_offsets": [-8, 0]},
    "backwards": {"data_offsets": [8, 0]},
    "far away": {"data_offsets": [0, 10**18]},
    "of floats": {"data_offsets": [0.0, 256.0]},
    "of words": {"data_offsets": ["0", "256"]},
    "one": {"data_offsets": [0]},
    "three": {"data_offsets": [0, 1, 2]},
    "none": {"data_offsets": None},
    "larger than its shape": {"shape": [1]},
    "smaller than its shape": {"shape": [10**9, 10**9]},
    "negative sides": {"shape": [-64, -1]},
    "no shape": {"shape": None},
    "sides of booleans": {"shape": [True, 64]},
    "other type": {"dtype": "F64"},
    "type that is a list": {"dtype": ["F32"]},
}


@pytest.mark.parametrize("lie", sorted(LIES))
def test_a_header_that_lies_about_a_tensor_is_refused(lie: str, tiny: Path, tmp_path: Path) -> None:
    folder = copied(tiny, tmp_path)
    told = header(tiny)
    told["model.norm.weight"] = told["model.norm.weight"] | LIES[lie]
    rewritten(folder / "model.safetensors", told)
    with pytest.raises(SealError, match=r"model\.safetensors"):
        models.check(folder, "model.name")


@pytest.mark.parametrize(
    "text",
    [b"[]", b"null", b"{", b"[" * 100_000, b'{"a": 1}', b'{"a": {}}', b'{"a": [1]}', b"\xff\xfe", b"9" * 5000, b""],
)
def test_a_header_that_is_none_is_refused(text: bytes, tiny: Path, tmp_path: Path) -> None:
    folder = copied(tiny, tmp_path)
    rewritten(folder / "model.safetensors", text)
    with pytest.raises(SealError, match=r"model\.safetensors"):
        models.check(folder, "model.name")


def test_tensors_that_share_bytes_are_refused(tiny: Path, tmp_path: Path) -> None:
    folder = copied(tiny, tmp_path)
    told = header(tiny)
    told["twin"] = told["model.norm.weight"]
    rewritten(folder / "model.safetensors", told)
    with pytest.raises(SealError, match="overlap"):
        models.check(folder, "model.name")


INDEXES: dict[str, Any] = {
    "of nothing": {},
    "a list": [],
    "a list of files": {"weight_map": ["model.safetensors"]},
    "of numbers": {"weight_map": {"model.norm.weight": 3}},
    "of lists": {"weight_map": {"model.norm.weight": ["model.safetensors"]}},
    "of a file elsewhere": {"weight_map": {"model.norm.weight": "../other/model.safetensors"}},
    "of an absolute file": {"weight_map": {"model.norm.weight": "/etc/passwd"}},
    "of a file that is not there": {"weight_map": {"model.norm.weight": "model-00002-of-00002.safetensors"}},
    "of a pickle": {"weight_map": {"model.norm.weight": "model.bin"}},
    "of a tensor that is not there": {"weight_map": {"no.such.weight": "model.safetensors"}},
}


@pytest.mark.parametrize("name", sorted(INDEXES))
def test_an_index_that_lies_is_refused(name: str, tiny: Path, tmp_path: Path) -> None:
    folder = copied(tiny, tmp_path)
    (folder / "model.safetensors.index.json").write_text(json.dumps(INDEXES[name]))
    with pytest.raises(SealError):
        models.check(folder, "model.name")


def test_an_index_that_is_right_is_taken(tiny: Path, tmp_path: Path) -> None:
    folder = copied(tiny, tmp_path)
    names = dict.fromkeys(set(header(tiny)) - {"__metadata__"}, "model.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))
    models.check(folder, "model.name")


def damaged(draw: random.Random, file: Path) -> None:
    data = bytearray(file.read_bytes())
    for _ in range(draw.randrange(1, 4)):
        at = draw.randrange(min(len(data), draw.choice([8, 400, 5000, len(data)])) or 1)
        data[at : at + draw.randrange(4)] = draw.choice(
            [
                b"",
                b"\xff",
                b"-",
                b"[",
                b"{",
                b'"',
                b"null",
                b"1e999",
                b"9" * 30,
                b"true",
                b"[]",
                bytes([draw.randrange(256)]),
            ]
        )
    file.write_bytes(bytes(data[: draw.randrange(len(data) + 1)] if draw.random() < 0.1 else data))


def attack(seed: str, times: int, tiny: Path, folder: Path) -> None:
    """Damage a file, then do what a run does with a model before any weight is in memory."""
    draw = drawing(seed)
    names = ["model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json"]
    for number in range(times):
        copied(tiny, folder)
        name = draw.choice(names)
        damaged(draw, folder / name)
        try:
            models.check(folder, "model.name")
            models.shape(folder)
            models.has_chat_template(folder)
            models.digest_of(folder)
            if name.startswith("tokenizer"):
                models.tokenizer(folder)
        except SealError as error:
            assert error.exit_code == 2
        except Exception as error:
            raise AssertionError(f"{seed} {number} {name}: {type(error).__name__}: {error}") from error


def test_damaged_model_files_are_refused_or_taken(tiny: Path, tmp_path: Path) -> None:
    attack("model", AMOUNTS["model files"].quick, tiny, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(AMOUNTS["model files"].times))
def test_many_damaged_model_files_are_refused_or_taken(seed: int, tiny: Path, tmp_path: Path) -> None:
    attack(f"model {seed}", AMOUNTS["model files"].long, tiny, tmp_path)
