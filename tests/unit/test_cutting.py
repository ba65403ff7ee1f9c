"""How sections become passages: what stands between the parts of one stays, and a tiny section keeps its heading."""

import pytest

from seal_ray.domains.documents.cutting import cut, pieces, tokens
from seal_ray.domains.documents.sections import Document, DocumentSection, read_sections

KEEPER = "Ada Karrow kept the tide clock of Selmouth for nine years."


@pytest.mark.parametrize(
    "line",
    [
        "| dial {} | shows the tide of harbour {} |",
        "- dial {} shows the tide of harbour {}",
        "    dial[{}] = tide(harbour={})",
    ],
)
def test_lines_of_a_long_paragraph_stay_lines(line: str) -> None:
    text = "\n".join(line.format(n, n * 7) for n in range(40))
    made = list(pieces(text, 50))
    assert len(made) > 5 and "\n".join(made) == text
    assert max(map(tokens, made)) <= 50


@pytest.mark.parametrize(
    "text",
    [
        "潮汐钟有十一个表盘。它由奥达利斯建造！" * 20,
        "It drove eleven dials.  It ran on the tide.\nAn eel stopped it. " * 20,
        "One.\n\n\nTwo.\n \nThree.",
        "x" * 5000,
    ],
)
def test_a_piece_is_a_slice_of_its_text(text: str) -> None:
    made = list(pieces(text, 30))
    assert all(piece in text and piece == piece.strip() for piece in made)
    assert "".join("".join(made).split()) == "".join(text.split())
    assert max(map(tokens, made)) <= 30


def test_what_is_blank_has_no_pieces_and_what_is_indented_stays_so() -> None:
    assert list(pieces(" \n\n \n", 30)) == []
    assert list(pieces("\n \n  a\n    b \n\n", 30)) == ["  a\n    b"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (f"# Ada Karrow\n\n{KEEPER}\n\n## Born\n\n1850", [("Ada Karrow", f"{KEEPER}\n\nBorn: 1850")]),
        (f"# Ada\n\n{KEEPER}\n\n## Life\n\n### Born\n\n1850", [("Ada", f"{KEEPER}\n\nLife / Born: 1850")]),
        (f"# Ada\n\n## Born\n\n1850\n\n# Ada\n\n{KEEPER}", [("Ada", f"Born: 1850\n\n{KEEPER}")]),
        (f"# Ada\n\nHi.\n\n## Work\n\n{KEEPER}", [("Ada: Work", f"Hi.\n\n{KEEPER}")]),
        (f"# Ada\n\n{KEEPER}\n\n# Bo\n\n1850", [("Ada", KEEPER), ("Ada: Bo", "1850")]),
    ],
)
def test_a_tiny_section_that_goes_with_another_says_its_heading(text: str, told: list[tuple[str, str]]) -> None:
    assert [(p.title, p.text) for p in cut(read_sections("a.md", text.encode()), 300)] == told


def test_the_heading_that_is_said_counts_in_what_fits() -> None:
    sections = (DocumentSection(("T",), "x" * 60), DocumentSection(("T", "A long heading of a section"), "1850"))
    made = cut(Document("a", "T", sections), 20)
    assert [p.text for p in made] == ["x" * 60, "1850"]
