"""Writes the report of a study and its TensorBoard entries, and prints the tables."""

import sys
from pathlib import Path

from rich.console import Console

from prunelab.core.text.printable import printable
from prunelab.report import summary
from prunelab.report.results import NothingToReport


def publish(study: Path) -> tuple[bool, Path | None]:
    """Whether all of it could be written, and the page, if that was; each failure is printed in one line.

    Raises NothingToReport if no job of the study has a valid result, and OSError if its folder is not writable.
    """
    report = summary.write(study)
    Console().print(report, "")
    pictures = [path for path in report.paths if path.suffix in (".png", ".svg")]
    for path in report.paths:
        if path not in pictures:
            print(printable(path))  # not by rich, which would wrap it
    if pictures:
        print(f"{printable(pictures[0].parent)}: {len({path.stem for path in pictures})} figures, as PNG and SVG")
    for failure in report.failures:
        print(f"prunelab report: not drawn: {printable(failure)}", file=sys.stderr)
    page = next((path for path in report.paths if path.suffix == ".html"), None)
    from prunelab.tensorboard import study as tensorboard_study  # takes half a second

    try:
        tensorboard_study.write(study, [r for group, _ in report.tables for r in group.results], report.paths)
    except Exception as error:  # another program's file format must not lose the report
        print(f"prunelab report: not in TensorBoard: {printable(error)}", file=sys.stderr)
        return False, page
    return not report.failures, page


def publish_if_any(study: Path) -> Path | None:
    """The page, at the end of a sweep; if there is nothing to report, or no way to write it, prints one line."""
    try:
        return publish(study)[1]
    except (NothingToReport, OSError) as error:
        print(f"prunelab report: {printable(error)}", file=sys.stderr)
        return None
