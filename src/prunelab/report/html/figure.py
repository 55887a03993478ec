"""A figure of the page: its heading, its size and its Vega-Lite specification."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

HEIGHT = 320  # pixels reserved for a figure that does not give its height
COMPOSED = {"concat", "hconcat", "vconcat", "facet", "repeat", "row", "column"}  # of several views, with own widths


@dataclass(frozen=True)
class Figure:
    """`spec` has no title, which is text on the page and wraps, and no background, which is the page's.

    A single view of a fixed width fills its container.
    """

    name: str
    title: str
    subtitle: str
    composed: bool
    height: float
    spec: dict[str, Any]


def figure(name: str, spec: Mapping[str, Any]) -> Figure:
    title, subtitle = _titles(spec.get("title") or "")
    composed = bool(COMPOSED & (spec.keys() | spec.get("encoding", {}).keys()))
    height = spec.get("height")
    bare = {key: value for key, value in spec.items() if key not in ("title", "background")}
    if not composed and isinstance(spec.get("width"), int | float):
        bare["width"] = "container"
    return Figure(name, title or name, subtitle, composed, height if isinstance(height, int | float) else HEIGHT, bare)


def _titles(title: str | Mapping[str, Any]) -> tuple[str, str]:
    parts = (title.get("text", ""), title.get("subtitle", "")) if isinstance(title, Mapping) else (title, "")
    heading, subtitle = (part if isinstance(part, str) else "; ".join(part) for part in parts)
    return heading, subtitle
