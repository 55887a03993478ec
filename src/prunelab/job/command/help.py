"""What `--help` prints: a line for every option and value, taken from the YAML files and the comments in them."""

import re
import textwrap
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from shutil import get_terminal_size

from prunelab.job.command.mistakes import unknown_option

HEAD = """Trains and prunes image classifiers; -m runs every combination of values.

  python -m train model=resnet20 prune=usp rate=0.8
  python -m train -m prune=usp,sp rate=0,0.2,0.4,0.6,0.8 seed=0,1,2
  python -m train -m experiment=demo

What can be set in an option: python -m train prune=rigl --help"""
FOOT = """--cfg job prints the composed configuration, --info defaults its files,
--hydra-help Hydra's own options; --traceback shows where an error arose."""
LINE = r"^( *)(\w+):(?: +([^#\n]*[^#\s]))?(?: +# (.*))?$"  # of YAML: key, value and comment
FIRST = ("prune", "retrain", "model", "data", "optim", "optim/schedule", "trainer", "callbacks", "logger", "experiment")


def is_asked(words: Sequence[str]) -> bool:
    return "--help" in words or "-h" in words


def help_text(conf: Path, words: Sequence[str]) -> str:
    """Of the options that `words` choose, else of the whole command. `conf` is the folder of YAML files.

    Raises ValueError for an option that its group does not have.
    """
    folders = [conf, *_of_the_user(words)]
    for word in words:
        _refuse_unknown(folders, *word.lstrip("+").partition("=")[::2])
    files = [file for word in words if (file := _file(folders, *word.lstrip("+").partition("=")[::2]))]
    return "\n\n".join(_option(folders, file) for file in files) or _command(folders)


def _of_the_user(words: Sequence[str]) -> list[Path]:
    joined = [word.partition("=")[2] for word in words if word.startswith("--config-dir=")]
    apart = [after for word, after in pairwise(words) if word in ("--config-dir", "-cd")]
    return [Path(folder) for folder in joined + apart]


def _file(folders: Sequence[Path], group: str, option: str) -> Path | None:
    if not re.fullmatch(r"[\w/]+", group) or not re.fullmatch(r"[\w/]+", option):
        return None
    return next((file for folder in folders if (file := folder / group / f"{option}.yaml").is_file()), None)


def _refuse_unknown(folders: Sequence[Path], group: str, option: str) -> None:
    options = {file.stem for folder in folders for file in (folder / group).glob("*.yaml")} if group else set()
    if options and not group.startswith("hydra/") and re.fullmatch(r"\w+", option) and option not in {*options, "null"}:
        raise ValueError(unknown_option(f"{group}/{option}", options))


def _command(folders: Sequence[Path]) -> str:
    found = {path.parent.relative_to(folder).as_posix() for folder in folders for path in folder.rglob("*.yaml")}
    groups = sorted(found - {".", *FIRST})
    values = _rows(_values(folders[0] / "train.yaml"))
    return "\n\n".join([HEAD, "Values", values, *(_group(folders, group) for group in (*FIRST, *groups)), FOOT])


def _group(folders: Sequence[Path], group: str) -> str:
    files = {file.stem: file for folder in folders for file in sorted((folder / group).glob("*.yaml"))}
    return f"{group}=\n{_rows((name, title(file)) for name, file in sorted(files.items()))}"


def title(file: Path) -> str:
    """The first comment of a file, without the line that says to which package it belongs."""
    comments = [line for line in file.read_text().splitlines() if line.startswith("#") and "@package" not in line]
    return comments[0].lstrip("# ") if comments else ""


def _option(folders: Sequence[Path], file: Path) -> str:
    """What an option and its parts take, each with its default."""
    folder = next(folder for folder in folders if folder in file.parents)
    group = file.parent.relative_to(folder).as_posix()
    parts = [(f"{group}={file.stem}", file)]
    for name, option in re.findall(r"^  - (?:override )?/?([\w/]+): (\w+)$", file.read_text(), re.MULTILINE):
        for inner in (f"{group}/{name}", name):
            if part := _file(folders, inner, option):
                parts.append((f"{inner}={option}", part))
    pages = []
    for choice, part in parts:
        pages.append("\n".join(filter(None, [choice, textwrap.indent(title(part), "  "), _rows(_values(part))])))
    return "\n\n".join(pages)


def _values(file: Path) -> list[tuple[str, str]]:
    """`path.to.value=default` and the comment of each value in a file, but for those that it takes from others."""
    text = re.sub(r"\n#", " #", file.read_text())  # a comment may go on in the next line
    top, path, found = _top(file), list[tuple[int, str]](), []
    for indent, key, value, comment in re.findall(LINE, text, re.MULTILINE):
        path = [(depth, name) for depth, name in path if depth < len(indent)] + [(len(indent), key)]
        full = ".".join([*top, *(name for _, name in path)])
        taken = "${" in value
        if value and not key.startswith("_") and not full.startswith("hydra.") and (comment or not taken):
            found.append((full if taken else f"{full}={value}", comment.replace(" # ", " ")))
    return found


def _top(file: Path) -> list[str]:
    """Where the values of a file are put."""
    if package := re.search(r"@package (\S+)", file.read_text()):
        return [] if package[1] == "_global_" else [package[1]]
    conf = next((folder for folder in file.parents if (folder / "train.yaml").exists()), file.parents[1])
    return list(file.parent.relative_to(conf).parts)


def _rows(rows: Iterable[tuple[str, str]]) -> str:
    """Two columns, the second wrapped at the width of the terminal."""
    pairs = list(rows)
    column = min(max((len(name) for name, _ in pairs), default=0) + 4, 32)
    width = max(60, get_terminal_size().columns)
    lines = []
    for name, text in pairs:
        wrapped = textwrap.wrap(text, width - column - 1) or [""]
        first = f"  {name}".ljust(column) if len(name) + 4 <= column else f"  {name}\n{' ' * column}"
        lines.append((first + f"\n{' ' * column}".join(wrapped)).rstrip())
    return "\n".join(lines)
