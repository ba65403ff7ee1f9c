"""The text of a web page: what a person would read, under its headings."""

from html.parser import HTMLParser

SILENT = frozenset({"script", "style", "template", "noscript", "svg", "math", "nav", "footer", "iframe"})
_OWN_LINES = """
address article aside blockquote br dd div dl dt fieldset figcaption figure form header hr li main ol p pre section
table tr ul
"""
LINES = frozenset(_OWN_LINES.split())
CELLS = frozenset({"td", "th"})
HEADINGS = {f"h{n}": n for n in range(1, 7)}
VOID = frozenset(["area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"])
Sections = list[tuple[tuple[str, ...], str]]


def html_sections(text: str) -> tuple[str, Sections]:
    """The page's title, and each text with the headings above it."""
    page = _Page()
    page.feed(text)
    page.close()
    page.end_section()
    return " ".join(page.title.split()), page.sections


class _Page(HTMLParser):
    """Gathers text; linear in the page's length, however deep its elements are nested."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.title = ""
        self.sections: Sections = []
        self._above: list[tuple[int, str]] = []
        self._text: list[str] = []
        self._silent: list[str] = []  # elements whose text is not read, the outermost first
        self._heading: list[str] | None = None
        self._in_title = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "title" and not self.title:
            self._in_title = True
        hidden = any(name == "hidden" or (name == "aria-hidden" and value == "true") for name, value in attrs)
        invisible = any(name == "style" and value and _is_invisible(value) for name, value in attrs)
        if (tag in SILENT or hidden or invisible or self._silent) and tag not in VOID:
            if not self._silent or tag == self._silent[0]:
                self._silent.append(tag)
        elif tag in HEADINGS:
            self.end_section()
            self._heading = []
        elif tag in LINES:
            self._text.append("\n")
        elif tag in CELLS:
            self._text.append(" ")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in VOID:
            self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        if tag == "title":
            self._in_title = False
        if self._silent:
            if tag == self._silent[-1]:
                self._silent.pop()
        elif tag in HEADINGS and self._heading is not None:
            words = " ".join("".join(self._heading).split())
            level = HEADINGS[tag]
            self._above = [(n, w) for n, w in self._above if n < level] + ([(level, words)] if words else [])
            self.title = self.title or words
            self._heading = None
        elif tag in LINES:
            self._text.append("\n")

    def handle_data(self, data: str) -> None:
        if self._in_title:
            self.title += data
        elif not self._silent:
            (self._text if self._heading is None else self._heading).append(data)

    def end_section(self) -> None:
        lines = [" ".join(line.split()) for line in "".join(self._text).split("\n")]
        text = "\n".join(line for line in lines if line)
        if text:
            self.sections.append((tuple(words for _, words in self._above), text))
        self._text.clear()


def _is_invisible(style: str) -> bool:
    plain = style.replace(" ", "").lower()
    return any(s in plain for s in ("display:none", "visibility:hidden", "font-size:0", "opacity:0;"))
