"""What else can prunelab do, besides training? `python -m prunelab report outputs/demo`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from prunelab.report import summary
from prunelab.report.results import NothingToReport


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0, 1 if some figure failed, 2 if there was nothing to work on."""
    args = _parser().parse_args(argv)
    status: int = args.command(args)
    return status


def report(args: argparse.Namespace) -> int:
    try:
        done = summary.write(args.folder)
    except (NothingToReport, OSError) as error:
        print(f"prunelab report: {error}", file=sys.stderr)
        return 2
    Console().print(done, "")
    for path in done.paths:
        print(path)  # rich would break a long one
    for failure in done.failures:
        print(f"prunelab report: not drawn: {failure}", file=sys.stderr)
    return 1 if done.failures else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="prunelab", description="Work on the results of finished sweeps.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    reporting = commands.add_parser("report", help="write a sweep's table and figures, and print the table")
    reporting.add_argument("folder", type=Path, metavar="DIR", help="a sweep's folder, such as outputs/demo")
    reporting.set_defaults(command=report)
    return parser


if __name__ == "__main__":
    sys.exit(main())
