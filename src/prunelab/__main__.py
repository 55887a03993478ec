"""What else can prunelab do, besides training? `python -m prunelab report outputs/demo`, `ls`, `export`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from prunelab.export import FORMATS, ExportError
from prunelab.measure.terminal_table import UNBOUNDED
from prunelab.report import listing
from prunelab.report.publish import publish
from prunelab.report.results import NothingToReport

COMPACT, VALUES = "compact", ("float32", "float16", "int8")  # torch, which compact/ imports, takes seconds


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0, 1 if some figure or TensorBoard's file failed, 2 if there was nothing to work on."""
    args = _parser().parse_args(argv)
    try:
        status: int = args.command(args)
    except args.mistakes as error:
        if args.traceback:
            raise
        print(f"prunelab {args.called}: {error}", file=sys.stderr)
        return 2
    return status


def report(args: argparse.Namespace) -> int:
    return 0 if publish(args.folder) else 1


def ls(args: argparse.Namespace) -> int:
    found = listing.below(args.folder)
    console = Console()
    if not console.is_terminal:  # but a pipe: a line for each job, however long
        console = Console(width=UNBOUNDED)
    console.print(found)
    return 0


def export(args: argparse.Namespace) -> int:
    from prunelab.store import model as trained  # torch takes seconds, and other commands need none

    if args.values and args.to != COMPACT:
        raise ValueError(f"--values {args.values}: only compact files round weights; add --to compact, or drop it")
    if args.to == COMPACT:
        args.values = args.values or VALUES[0]
        path = args.output or args.run / f"model-{args.values}.safetensors"
        print(f"{path}: {trained.save_compact(args.run, path, args.values)}")
        return 0
    path = args.output or args.run / f"model.{args.to}"
    FORMATS[args.to](*trained.with_example(args.run), path)
    print(path)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="prunelab", description="Work on what jobs left.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", dest="called")
    reporting = commands.add_parser("report", help="write a sweep's table and figures, and print the table")
    reporting.add_argument("folder", type=Path, metavar="DIR", help="a sweep's folder, such as outputs/demo")
    reporting.set_defaults(command=report, mistakes=(NothingToReport, OSError))
    listed = commands.add_parser("ls", help="list the jobs below a folder: their states, accuracies, sparsities")
    listed.add_argument("folder", type=Path, metavar="DIR", nargs="?", default=Path("outputs"), help="outputs")
    listed.set_defaults(command=ls, mistakes=(NothingToReport, OSError))
    exporting = commands.add_parser("export", help="write the net of a finished job as a file for other programs")
    exporting.add_argument("run", type=Path, metavar="RUN", help="a job's folder, such as outputs/demo/prune=...")
    exporting.add_argument(
        "--to", choices=[*FORMATS, COMPACT], required=True, help="onnx, a program of torch.export, or our own"
    )
    exporting.add_argument("--values", choices=VALUES, help="of the weights of a compact file")
    exporting.add_argument(
        "--output", type=Path, metavar="FILE", help="instead of RUN/model.onnx, .pt2, -int8.safetensors"
    )
    exporting.set_defaults(command=export, mistakes=(ExportError, ValueError, OSError))
    for command in (reporting, listed, exporting):
        command.add_argument("--traceback", action="store_true", help="show where an error comes from")
    return parser


if __name__ == "__main__":
    sys.exit(main())
