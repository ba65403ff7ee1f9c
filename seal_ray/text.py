"""Text that a model, a judge or a file brought along: read in one pass, and made fit to be kept."""

THINK, THOUGHT = "<think>", "</think>"


def without_thoughts(text: str, *, unfinished: bool = False) -> str:
    """The text without what stands between `<think>` and `</think>`; `unfinished`: also without a last one left open.

    A search for each tag goes on where the last one ended, so the time is linear in the text's length.
    """
    kept: list[str] = []
    at = 0
    while (start := text.find(THINK, at)) >= 0:
        end = text.find(THOUGHT, start + len(THINK))
        if end < 0:
            return "".join([*kept, text[at:start] if unfinished else text[at:]])
        kept.append(text[at:start])
        at = end + len(THOUGHT)
    return "".join([*kept, text[at:]])


def storable(text: str) -> str:
    """The text as UTF-8 can hold it: halves of surrogate pairs, which JSON may smuggle in, become question marks."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def lone_surrogate(text: str) -> bool:
    """Whether the text holds half a surrogate pair, which no file and no tokenizer takes."""
    if text.isascii():
        return False
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False
