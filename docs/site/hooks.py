"""Makes the site of the pages as they are: README.md is its front page, and the page API comes from the docstrings."""

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

from prunelab import HOMES  # it imports no torch

ROOT = Path(__file__).parents[2]
OUTSIDE = {"index.md": "README.md", "CONTRIBUTING.md": "CONTRIBUTING.md", "CHANGELOG.md": "CHANGELOG.md"}
KINDS = {"callbacks": "Callbacks", "criteria": "Criteria"}  # by the folder that a class lies in


def on_files(files: Files, config: Any) -> Files:
    """Adds the pages that do not lie in docs/."""
    pages = {name: re.sub(r'(\]\(|src=")docs/', r"\1", (ROOT / source).read_text()) for name, source in OUTSIDE.items()}
    for name, text in (pages | {"api.md": api()}).items():
        files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Links out of docs/ lead to pages of the site, and those to other files become their text."""
    up = r"\.\./" * (page.file.src_path.count("/") + 1)
    markdown = re.sub(rf"\]\({up}(\w+\.md)", r"](\1", markdown)
    markdown = re.sub(rf"\[([^\]]+)\]\({up}[^)]*\)", r"\1", markdown)
    # In a numbered list Python-Markdown wants four spaces where GitHub takes three, and an empty line after a block.
    numbered = re.compile(r"^\d+\. .*\n(?:(?: {3}.*)?\n)*", re.MULTILINE)
    return numbered.sub(lambda item: "\n" + re.sub(r"^ {3}", " " * 4, item[0], flags=re.MULTILINE), markdown)


def api() -> str:
    """The public names by kind, each with its docstring."""
    sections: dict[str, list[str]] = {}
    for name, home in sorted(HOMES.items()):
        kind = "Functions" if name.islower() else KINDS.get(home.split(".")[1], "Other parts, and the pruner")
        sections.setdefault(kind, []).append(f"::: {home}.{name}")
    return "# API\n\n" + "\n\n".join(f"## {kind}\n\n" + "\n\n".join(sections[kind]) for kind in sorted(sections))
