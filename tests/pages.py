"""The pages of the documentation, their code and their headings."""

import re
import shlex
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
INDENTED = re.compile(r"(?:^ {4}.*\n)+", re.MULTILINE)
INLINE = re.compile(r"`([^`]+)`")
PLACEHOLDER = re.compile(r"\b(DIR|PATH|FILE|RUN|N|K|mine)\b|<[\w/]+>|\.\.\.|=(x|option)$")


def snippets(page: Path, language: str = "python") -> list[str]:
    """The fenced blocks of a language, without the indentation of a list that they stand in."""
    blocks = [block for block in FENCE.findall(page.read_text()) if block[1] == language]
    return [re.sub(f"^{indent}", "", code, flags=re.MULTILINE) for indent, _, code in blocks]


def files(page: Path) -> dict[str, str]:
    """The fenced blocks of a page that stand after the name of a file, at the start of a paragraph, by that name."""
    named = re.findall(r"^`([\w/]+\.\w+)`: (?:.+\n)+\n```\w+\n([\s\S]*?)^```$", page.read_text(), re.MULTILINE)
    return dict(named)


def code(page: Path) -> list[str]:
    """Every line of shell code, continued lines joined, and every piece of code inside a sentence."""
    prose = FENCE.sub("", page.read_text())
    blocks = "".join(INDENTED.findall(prose)).replace("\\\n", " ")
    inline = [" ".join(text.split()) for text in INLINE.findall(INDENTED.sub("", prose))]
    return [*(line.strip() for line in blocks.splitlines()), *inline]


def commands(page: Path, start: str) -> list[list[str]]:
    """The words after `start` of each command that begins with it, without those that have placeholders."""
    lines = [line.removeprefix(start) for line in code(page) if line.startswith(f"{start} ")]
    return [words for words in (shlex.split(line, comments=True) for line in lines) if not has_placeholder(words)]


def has_placeholder(words: list[str]) -> bool:
    return any(PLACEHOLDER.search(word) for word in words)


def anchors(page: Path) -> set[str]:
    """Those that GitHub makes of the headings."""
    headings = re.findall(r"^#+ (.*)$", FENCE.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
