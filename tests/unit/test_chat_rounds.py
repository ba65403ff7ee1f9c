"""A whole round with a chat model that thinks before it answers and knows no system role: real bank, real update."""

import json
from pathlib import Path

import pytest
from one_process_rounds import one_process_round

from seal_ray import models
from seal_ray.models.builtin import make_tiny

TEMPLATE = (
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for m in messages %}{{ '<start>' + m['role'] + '\n' + m['content'] + '<end>\n' }}{% endfor %}"
    "{{ '<start>assistant\n' }}{% if enable_thinking is defined and enable_thinking is false %}"
    "{{ '<think>\n\n</think>\n\n' }}{% endif %}"
)
NO_THOUGHT = "<think>\n\n</think>\n\n"


@pytest.fixture
def thinker(tmp_path: Path) -> Path:
    folder = tmp_path / "thinker"
    folder.mkdir()
    make_tiny(folder)
    file = folder / "tokenizer_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"chat_template": TEMPLATE}))
    return folder


@pytest.mark.parametrize("thinking", ["yes", "no"])
def test_a_model_that_thinks_goes_round(
    thinking: str, thinker: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = one_process_round(
        tmp_path / "run",
        monkeypatch,
        run={"tasks_per_round": 1},
        model={"name": str(thinker), "thinking": thinking},
        domain={"name": "knowledge", "data": "builtin:quickstart", "max_texts": 2, "max_questions": 4},
        answering={"max_tokens": 32, "samples": 8, "temperature": 1.0},
    )
    tokenizer = models.tokenizer(thinker)
    asked = {tokenizer.decode(e.prompt_ids) for e in found.edits}
    assert all("<start>user\n" in text and "<start>system" not in text for text in asked)
    assert {text.endswith(NO_THOUGHT) for text in asked} == {thinking == "no"}
    answers = [a.text for t in found.trials for a in t.answers]
    assert len(answers) >= 64 and not [t.failure for t in found.trials if t.failure]
    # an answer ends with its line, unless it may begin with a thought
    assert any("\n" in text for text in answers) == (thinking == "yes")
    assert found.update and found.update["version"]["number"] == 1 and found.update["edits"]
