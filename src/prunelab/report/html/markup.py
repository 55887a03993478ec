"""How are tables, lists and figures written in HTML? Whatever comes from files is escaped here."""

import json
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any
from urllib.parse import quote

HEIGHT = 320  # pixels kept free for a figure that does not say how high it is
SEVERAL = {"concat", "hconcat", "vconcat", "facet", "repeat", "row", "column"}  # views, of widths of their own


def text(words: str) -> str:
    return escape(words)


def paragraph(words: str, kind: str = "") -> str:
    return f'<p class="{kind}">{escape(words)}</p>' if kind else f"<p>{escape(words)}</p>"


def notes(sentences: Iterable[str]) -> str:
    joined = " ".join(sentences)
    return paragraph(joined, "note") if joined else ""


def cautions(sentences: Iterable[str]) -> str:
    return "".join(paragraph(sentence, "caution") for sentence in sentences)


def link(to: str, words: str) -> str:
    return f'<a href="{escape(to)}">{escape(words)}</a>'


def listed(items: Iterable[str]) -> str:
    """Of items that are HTML."""
    inside = "".join(f"<li>{item}</li>" for item in items)
    return f"<ul>{inside}</ul>" if inside else ""


def section(key: str, title: str, inside: str) -> str:
    return f'<section aria-labelledby="{key}"><h2 id="{key}">{escape(title)}</h2>{inside}</section>'


def table(head: Sequence[str], rows: Iterable[Sequence[str]], words: Sequence[str]) -> str:
    """All columns are numbers except `words`. It scrolls sideways in a box of its own."""
    kinds = ["" if name in words else ' class="number"' for name in head]
    heads = "".join(f'<th scope="col"{kind}>{escape(name)}</th>' for kind, name in zip(kinds, head, strict=True))
    lines = "".join(f"<tr>{_cells(row, kinds)}</tr>" for row in rows)
    inside = f"<table><thead><tr>{heads}</tr></thead><tbody>{lines}</tbody></table>"
    return f'<div class="wide" tabindex="0" role="region" aria-label="Table">{inside}</div>'


def _cells(row: Sequence[str], kinds: Sequence[str]) -> str:
    return "".join(f"<td{kind}>{escape(cell)}</td>" for kind, cell in zip(kinds, row, strict=True))


def figure(name: str, spec: Mapping[str, Any]) -> str:
    """Room for it, what draws it, and its files. The title wraps here, which it would not in a picture."""
    title, subtitle = _titles(spec)
    height = spec.get("height")
    room = height if isinstance(height, int | float) else HEIGHT
    files = " ".join(link(f"figures/{quote(name)}.{form}", form.upper()) for form in ("png", "svg"))
    kind = "several" if _several(spec) else "one"
    said = escape(". ".join(filter(None, (title or name, subtitle))))
    return (
        f'<figure data-name="{escape(name)}" class="{kind}">'
        f"<figcaption><h3>{escape(title or name)}</h3>{notes([subtitle])}</figcaption>"
        f'<div class="plot" role="img" aria-label="{said}" style="min-height:{room:g}px"></div>'
        f'<p class="files">{files}</p><script type="application/json">{data(_fitting(spec))}</script></figure>'
    )


def _titles(spec: Mapping[str, Any]) -> tuple[str, str]:
    title = spec.get("title") or ""
    parts = (title.get("text", ""), title.get("subtitle", "")) if isinstance(title, Mapping) else (title, "")
    heading, subtitle = (part if isinstance(part, str) else "; ".join(part) for part in parts)
    return heading, subtitle


def _fitting(spec: Mapping[str, Any]) -> dict[str, Any]:
    """As wide as its place, where it is one view of a fixed width."""
    bare = {key: value for key, value in spec.items() if key != "title"}
    fits = not _several(spec) and isinstance(spec.get("width"), int | float)
    return bare | ({"width": "container"} if fits else {})


def _several(spec: Mapping[str, Any]) -> bool:
    return bool(SEVERAL & (spec.keys() | spec.get("encoding", {}).keys()))


def data(value: object) -> str:
    """JSON that can stand inside a script: no "<" can end it or begin a comment."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).replace("<", "\\u003c")
