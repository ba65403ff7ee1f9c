"""Reads one PDF from standard input and writes its text to standard output as JSON, within limits.

A PDF of ten kilobytes can unfold into hours of work and gigabytes of memory, and no library can know beforehand. So it
is read where both have an end. This file is run as a program and imports nothing of this package.
"""

import io
import json
import logging
import resource
import signal
import sys
from collections.abc import Mapping

PAGES = 2000  # of one document, at most
CHARACTERS = 50_000_000


def read(data: bytes) -> Mapping[str, object]:
    """`title` and `pages`, or `kind` and `reason` where there is no text to be had."""
    import pypdf  # pyright: ignore[reportMissingImports]

    logging.getLogger("pypdf").setLevel(logging.CRITICAL)
    try:
        book = pypdf.PdfReader(io.BytesIO(data), strict=False)
        if book.is_encrypted and not book.decrypt(""):
            return _no_text("encrypted", "the PDF is encrypted; save it without a password")
        if len(book.pages) > PAGES:
            return _no_text("large", f"the PDF has {len(book.pages)} pages, more than {PAGES}; split it")
        pages, characters = list[str](), 0
        for page in book.pages:
            pages.append(page.extract_text() or "")
            characters += len(pages[-1])
            if characters > CHARACTERS:
                return _no_text("large", f"the PDF has more than {CHARACTERS} characters; split it")
        title = str((book.metadata or {}).get("/Title") or "").strip()
    except MemoryError:
        return _no_text("large", "the PDF unfolds into more memory than is given; save it as text")
    except Exception as error:  # pypdf raises whatever a broken file leads it into
        return _no_text("damaged", f"the PDF can't be read: {type(error).__name__}: {str(error)[:200]}")
    return {"title": title, "pages": pages}


def _no_text(kind: str, reason: str) -> Mapping[str, object]:
    return {"kind": kind, "reason": reason}


def limit(seconds: int, memory: int) -> None:
    """Too much memory is an error that can be told; too much computing ends the process."""
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 5))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGXCPU, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGXCPU})
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # ^C in a terminal goes to all; it is for whoever asked for the text


if __name__ == "__main__":
    limit(int(sys.argv[1]), int(sys.argv[2]))
    json.dump(read(sys.stdin.buffer.read()), sys.stdout)
