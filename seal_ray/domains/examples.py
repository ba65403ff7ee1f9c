"""What domains whose edits are problems with solutions do alike: reading an edit, and making examples of it."""

import re
from collections.abc import Iterable, Sequence

from seal_ray.domains.base import Rejected, Tokenizer
from seal_ray.errors import DataError
from seal_ray.records import Example, Failure, Prompt
from seal_ray.text import storable, without_thoughts
from seal_ray.tokens import render, text_ids

MAX_EDIT = 1 << 18  # characters of an edit that are read


def read_edit(text: str, prompts: Iterable[str]) -> str | Failure:
    """The edit without its thoughts, unless it is empty or only repeats one of the prompts."""
    text = without_thoughts(storable(text[:MAX_EDIT]), unfinished=True).strip()
    if not re.search(r"\w", text):
        return Failure("no_text", "the edit is empty")
    flat = " ".join(text.split())
    if any(flat in " ".join(prompt.split()) for prompt in prompts):
        return Failure("copies_prompt", f"the edit only repeats what was asked: {text[:60]!r}")
    return text


def plain_example(text: str, tokenizer: Tokenizer, longest: int) -> Example:
    """A text of which every token carries loss, and its end."""
    ids = (*render(tokenizer, Prompt(text)), _end(tokenizer))
    return _fitting(Example(ids, (True,) * len(ids)), longest)


def answered_example(asked: Sequence[int], said: str, tokenizer: Tokenizer, longest: int) -> Example:
    """A prompt's tokens, which carry no loss, and what is to be said to it, which does."""
    ids = (*text_ids(tokenizer, said), _end(tokenizer))
    return _fitting(Example((*asked, *ids), (False,) * len(asked) + (True,) * len(ids)), longest)


def _end(tokenizer: Tokenizer) -> int:
    if tokenizer.eos_token_id is None:
        raise DataError("the tokenizer has no end-of-text token", hint="use a model whose tokenizer has one")
    return tokenizer.eos_token_id


def _fitting(example: Example, longest: int) -> Example:
    if len(example.ids) > longest:
        limit = f"inner.max_length {longest}"
        raise Rejected(Failure("too_long", f"a text of {len(example.ids)} tokens is over {limit}"))
    return example
