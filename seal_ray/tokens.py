"""Texts and prompts as a model's token ids. Knows tokenizers by what they do, and no model."""

import re
from typing import Any

from seal_ray.errors import ConfigError
from seal_ray.records import Prompt


def text_ids(tokenizer: Any, text: str) -> list[int]:
    """The token ids of a text alone. What names a special token in it stays text: data never turns into control."""
    return list(tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"])


def render(tokenizer: Any, prompt: Prompt) -> list[int]:
    """The token ids of a prompt: a turn of the model's chat template, or bare text begun as the tokenizer begins it.

    Special tokens are those that the template and the tokenizer put there, never those that a text names.
    """
    if not prompt.chat:
        text = "\n\n".join(part for part in (prompt.system, prompt.text) if part) + prompt.prefix
        ids = list(tokenizer(text, split_special_tokens=True)["input_ids"])
        if len(ids) > 1 and ids[-1] == tokenizer.eos_token_id:
            ids.pop()  # some tokenizers end every text; a prompt goes on
        return ids
    if any(name in text for text in (prompt.system, prompt.text, prompt.prefix) for name in _special_names(tokenizer)):
        return _rendered_apart(tokenizer, prompt)
    # the template has already written whatever the text begins with
    text = _templated(tokenizer, prompt.system, prompt.text) + prompt.prefix
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def _templated(tokenizer: Any, system: str, text: str) -> str:
    """The turns in the words of the chat template, up to where the model's own begins."""
    from jinja2 import TemplateError

    def rendered(*turns: tuple[str, str]) -> str:
        conversation = [{"role": role, "content": content} for role, content in turns]
        return tokenizer.apply_chat_template(conversation, add_generation_prompt=True, tokenize=False)

    try:
        if not system:
            return rendered(("user", text))
        try:
            return rendered(("system", system), ("user", text))
        except TemplateError:
            # some know no system role and say so by an error: then the user says it
            return rendered(("user", f"{system}\n\n{text}"))
    except ValueError as error:
        raise ConfigError(
            f"model.chat: this model has no chat template ({error})", hint="set model.chat: no, or use auto"
        ) from None


def _rendered_apart(tokenizer: Any, prompt: Prompt) -> list[int]:
    """The template's own text with its special tokens, and between it the turns as text alone."""
    texts = {mark: text for mark, text in (("S0Y5T3M", prompt.system), ("U0S3R7X", prompt.text)) if text}
    frame = _templated(tokenizer, "S0Y5T3M" if prompt.system else "", "U0S3R7X")
    ids: list[int] = []
    for part in re.split("(S0Y5T3M|U0S3R7X)", frame):
        if part in texts:
            ids += text_ids(tokenizer, texts[part])
        elif part:
            ids += tokenizer(part, add_special_tokens=False)["input_ids"]
    return ids + text_ids(tokenizer, prompt.prefix)


def _special_names(tokenizer: Any) -> list[str]:
    """The texts that a tokenizer would turn into special tokens."""
    added = getattr(tokenizer, "added_tokens_decoder", {})
    return [*tokenizer.all_special_tokens, *(token.content for token in added.values() if token.special)]
