"""The text of a PDF, page by page, through pypdf (the extra `documents`)."""

import io
import logging
import re

from seal_ray.domains.documents.unreadable import Unreadable
from seal_ray.errors import ConfigError

PAGES = 2000  # of one document, at most
HYPHEN = re.compile(r"(?<=[a-z])-\n(?=[a-z])")
NUMBER = re.compile(r"\s*\d{1,4}\s*")


def pdf_sections(data: bytes) -> tuple[str, list[str]]:
    """The title that the document gives itself, and the text of all its pages as one."""
    try:
        import pypdf  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise ConfigError(
            "domain.data: reading PDF needs the package pypdf", hint="install it: pip install 'seal-ray[documents]'"
        ) from None
    logging.getLogger("pypdf").setLevel(logging.ERROR)
    try:
        book = pypdf.PdfReader(io.BytesIO(data), strict=False)
        if book.is_encrypted and not book.decrypt(""):
            raise Unreadable("encrypted", "the PDF is encrypted; save it without a password")
        if len(book.pages) > PAGES:
            raise Unreadable("large", f"the PDF has {len(book.pages)} pages, more than {PAGES}; split it")
        pages = [_flowing(page.extract_text() or "") for page in book.pages]
        title = str((book.metadata or {}).get("/Title") or "").strip()
    except Unreadable:
        raise
    except Exception as error:  # pypdf raises whatever a broken file leads it into
        raise Unreadable("damaged", f"the PDF can't be read: {type(error).__name__}: {str(error)[:200]}") from error
    if not any(page.strip() for page in pages):
        raise Unreadable("no_text", "the PDF holds pictures of text and no text; recognise it first (OCR)")
    return title, ["\n".join(p for p in pages if p)]


def _flowing(page: str) -> str:
    """Words that a line's end cut in two are whole again, and a line that is only the page's number goes."""
    lines = [line for line in page.replace("\r", "\n").split("\n") if not NUMBER.fullmatch(line)]
    return HYPHEN.sub("", "\n".join(lines))
