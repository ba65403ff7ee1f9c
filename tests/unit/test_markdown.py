"""What in Markdown is a heading, a rule, a fence or front matter, and what is text."""

import pytest

from seal_ray.domains.documents.sections import Document, read_sections

Told = list[tuple[tuple[str, ...], str]]


def read(text: str) -> Document:
    return read_sections("a.md", text.encode())


def told(text: str) -> Told:
    return [(s.headings, s.text.strip()) for s in read(text).sections]


@pytest.mark.parametrize(
    ("text", "title", "sections"),
    [
        ("# Learning C#\n\nOne.", "Learning C#", [(("Learning C#",), "One.")]),
        ("# C# ##  \n\nOne.", "C#", [(("C#",), "One.")]),
        ("# Deep\t#\n\nOne.", "Deep", [(("Deep",), "One.")]),
        ("One.\n\n- last item\n---\nTwo.", "a", [((), "One.\n\n- last item\n---\nTwo.")]),
        ("12. last item\n---\nTwo.", "a", [((), "12. last item\n---\nTwo.")]),
        ("> a quote\n---\nTwo.", "a", [((), "> a quote\n---\nTwo.")]),
        ("    code\n---\nTwo.", "a", [((), "code\n---\nTwo.")]),
        ("-last\n---\nTwo.", "-last", [(("-last",), "Two.")]),
        ("```code``` is here.\n\n# A\n\nOne.", "A", [((), "```code``` is here."), (("A",), "One.")]),
        ("```python\n# A\n```\n\n# B\n\nOne.", "B", [((), "```python\n# A\n```"), (("B",), "One.")]),
    ],
)
def test_a_heading_is_what_common_mark_says(text: str, title: str, sections: Told) -> None:
    assert (read(text).title, told(text)) == (title, sections)


@pytest.mark.parametrize(
    ("text", "title", "told_first"),
    [
        ("---\ntitle: Odo\n---\nOne.", "Odo", "One."),
        ("---\n\n# set by hand\ntitle: Odo\n---\nOne.", "Odo", "One."),
        ("---\n'date': 1850\n---\nOne.", "a", "One."),
        ("---\n---\nOne.", "a", "One."),
        ("---\ntags:\n- x\n---\nOne.", "a", "One."),
        ("---\nThe clock had eleven dials.\n---\nOne.", "a", "---\nThe clock had eleven dials.\n---\nOne."),
        ("---\nThe clock: it had dials.\n---\nOne.", "a", "---\nThe clock: it had dials.\n---\nOne."),
        ("---\nhttp://a.b\n---\nOne.", "a", "---\nhttp://a.b\n---\nOne."),
    ],
)
def test_front_matter_begins_like_yaml(text: str, title: str, told_first: str) -> None:
    assert (read(text).title, told(text)[0][1]) == (title, told_first)


@pytest.mark.parametrize(
    ("text", "sections"),
    [
        ("# Town\n\n## Founded 1207\n\n## Burned 1652", [(("Town",), "Founded 1207"), (("Town",), "Burned 1652")]),
        ("# Town\n\n## Life\n\n### Born\n\n1850\n\n## Died", [(("Town", "Life", "Born"), "1850"), (("Town",), "Died")]),
        ("# Town\n\n# Other\n\nOne.", [(("Other",), "One.")]),
    ],
)
def test_a_heading_with_nothing_below_it_is_text(text: str, sections: Told) -> None:
    assert told(text) == sections


@pytest.mark.parametrize("kind", ["utf-16-le", "utf-32-le", "utf-16-be", "utf-32-be"])
def test_the_longer_mark_is_looked_at_first(kind: str) -> None:
    assert read_sections("a.txt", "\ufeffGrüße".encode(kind)).sections[0].text == "Grüße"
