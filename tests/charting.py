"""Helpers that read charts, for tests of figures."""

import io
import json
import re
from pathlib import Path
from typing import Any

from PIL import Image

from prunelab.report.figures.style import pictures
from prunelab.report.groups import Group, group
from prunelab.report.results import load


def only(sweep: Path) -> Group:
    [members] = group(load(sweep)[0])
    return members


def svg(spec: dict[str, Any]) -> str:
    return pictures(spec)["svg"].decode()


def sketch(spec: dict[str, Any]) -> dict[str, bytes]:
    """In place of the pictures of a figure, which take most of the time of a report: a line as long as its spec."""
    file = io.BytesIO()
    Image.new("1", (len(json.dumps(spec)), 1)).save(file, "png")
    return {"svg": b"<svg/>", "png": file.getvalue()}


def strokes(text: str) -> list[str]:
    """The colour of each drawn line, in order."""
    marks = re.findall(r'<g class="mark-line role-mark.*?</g>', text, flags=re.DOTALL)
    return re.findall(r'stroke="(#\w+)"', " ".join(marks))


def axis(spec: dict[str, Any]) -> list[float]:
    return next(layer["encoding"]["y"]["scale"]["domain"] for layer in spec["layer"])


def marks(spec: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    """The layers of that mark."""
    return [layer for layer in spec["layer"] if layer["mark"]["type"] == kind]


def values(spec: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows of a chart with one table of data."""
    [rows] = spec["datasets"].values()
    return list(rows)
