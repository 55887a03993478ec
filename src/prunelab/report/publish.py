"""Writes the report of a study and its entries in TensorBoard, and prints the tables."""

import sys
from pathlib import Path

from rich.console import Console

from prunelab.report import summary
from prunelab.report.results import NothingToReport


def publish(study: Path) -> bool:
    """Whether all could be written; what could not is told in a line each.

    Raises NothingToReport where no job of the study has a usable result, and OSError where its folder is not writable.
    """
    done = summary.write(study)
    Console().print(done, "")
    pictures = [path for path in done.paths if path.suffix in (".png", ".svg")]
    for path in done.paths:
        if path not in pictures:
            print(path)  # rich would break a long one
    if pictures:
        print(f"{pictures[0].parent}: {len({path.stem for path in pictures})} figures, as PNG and SVG")
    for failure in done.failures:
        print(f"prunelab report: not drawn: {failure}", file=sys.stderr)
    from prunelab.tensorboard import study as gallery  # TensorBoard takes half a second, and may be what fails

    try:
        gallery.write(study, [result for of, _ in done.tables for result in of.results], done.paths)
    except Exception as error:  # whatever goes wrong in another program's files
        print(f"prunelab report: not in TensorBoard: {error}", file=sys.stderr)
        return False
    return not done.failures


def publish_if_any(study: Path) -> None:
    """At the end of a sweep: where there is nothing to report, or nowhere to write it, says so in a line."""
    try:
        publish(study)
    except (NothingToReport, OSError) as error:
        print(f"prunelab report: {error}", file=sys.stderr)
