"""Commands: `python -m prunelab report`, `ls`, `compare`, `export` and `studies` for jobs, `prune` for any network."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from prunelab.core.text.printable import in_lines, print_any_sign, printable
from prunelab.export import FORMATS, ExportError
from prunelab.measure.terminal_table import output
from prunelab.report import compare as comparing
from prunelab.report import listing
from prunelab.report.publish import publish
from prunelab.report.results import NothingToReport

COMPACT, VALUES = "compact", ("float32", "float16", "int8")  # here, as compact/ imports torch, which takes seconds
SAFETENSORS, BUDGETS = "safetensors", ("units", "params", "macs", "bops", "latency")
SETTINGS = (
    "rate",
    "budget",
    "criterion",
    "granularity",
    "allocation",
    "skip",
    "round_to",
    "seed",
)  # of `prunelab.prune`


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0; 1 if a figure or the TensorBoard file failed; 2 for an error that ends the command."""
    print_any_sign()
    args = _parser().parse_args(argv)
    try:
        status: int = args.command(args)
    except args.mistakes as error:
        if args.traceback:
            raise
        print(in_lines(f"prunelab {args.called}: {printable(error)}", sys.stderr), file=sys.stderr)
        return 2
    return status


def report(args: argparse.Namespace) -> int:
    return 0 if publish(args.folder)[0] else 1


def ls(args: argparse.Namespace) -> int:
    output().print(listing.list_jobs(args.folder))
    return 0


def compare(args: argparse.Namespace) -> int:
    Console().print(comparing.compare(args.a, args.b))
    return 0


def studies(args: argparse.Namespace) -> int:
    from prunelab.sweep.studies import Overview  # imports Hydra

    Console().print(Overview(args.folder))
    return 0


def export(args: argparse.Namespace) -> int:
    from prunelab.store import model  # imports torch, which takes seconds

    if args.values and args.to != COMPACT:
        raise ValueError(
            f"--values {args.values}: only compact files round weights; add --to compact, or drop --values"
        )
    _check_output(args.output, SAFETENSORS if args.to == COMPACT else args.to, args.run)
    if args.to == COMPACT:
        args.values = args.values or VALUES[0]
        path = args.output or args.run / f"model-{args.values}.safetensors"
        print(f"{path}: {model.save_compact(args.run, path, args.values)}")
        return 0
    path = args.output or args.run / f"model.{args.to}"
    FORMATS[args.to](*model.with_example(args.run), path)
    print(path)
    return 0


def prune(args: argparse.Namespace) -> int:
    from prunelab.oneshot import command  # imports torch, which takes seconds

    settings = {name: getattr(args, name) for name in SETTINGS}
    _check_output(args.output, args.to, Path(args.net))
    report, path = command.run(args.net, args.example, args.to, args.output, settings)
    print(f"{report}\n\n{path}")
    return 0


def _check_output(path: Path | None, kind: str, source: Path) -> None:
    """Raises ValueError for a file of another kind, the source, and files of a job that it has a record of."""
    if path is None:
        return
    whole = path.resolve()  # of a name alone, or behind a link
    if path.suffix.lower() != f".{kind}":
        raise ValueError(f"--output {path}: expected a name that ends in .{kind}")
    if path.exists() and source.exists() and path.samefile(source):
        raise ValueError(f"--output {path}: this is the source itself; choose another name")
    if whole.name.lower() == "model.safetensors" and (whole.parent / "job.json").exists():
        raise ValueError(f"--output {path}: this is the network that a job has tested; choose another name")
    if whole.parent.name.lower() == "masks" and (whole.parent.parent / "job.json").exists():
        raise ValueError(f"--output {path}: this folder has the masks of a job; choose another one")


def _sizes(text: str) -> tuple[int, ...]:
    sizes = text.split(",")
    if not all(size.isdecimal() and int(size) for size in sizes):
        raise argparse.ArgumentTypeError(f"{text!r} is no shape: expected sizes such as 1,3,224,224")
    return tuple(map(int, sizes))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="prunelab", description="Report on, list, compare and export finished jobs; prune any network."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND", dest="called")
    reporting = commands.add_parser("report", help="write the tables and figures of a sweep, and print the tables")
    reporting.add_argument("folder", type=Path, metavar="DIR", help="a sweep's folder, such as outputs/demo")
    reporting.set_defaults(command=report, mistakes=(NothingToReport, OSError))
    listed = commands.add_parser("ls", help="list the jobs below a folder with their states and results")
    listed.add_argument("folder", type=Path, metavar="DIR", nargs="?", default=Path("outputs"), help="default: outputs")
    listed.set_defaults(command=ls, mistakes=(NothingToReport, OSError))
    compared = commands.add_parser("compare", help="two studies or two jobs side by side, seed by seed")
    for side in "ab":
        compared.add_argument(side, type=Path, metavar=side.upper(), help="folder of a study, or of a finished job")
    compared.set_defaults(command=compare, mistakes=(NothingToReport, OSError))
    asked = commands.add_parser("studies", help="list the studies, what each asks, and how far it is")
    asked.add_argument("folder", type=Path, metavar="DIR", nargs="?", default=Path("outputs"), help="default: outputs")
    asked.set_defaults(command=studies, mistakes=(OSError,))
    exporting = commands.add_parser("export", help="export the network of a finished job for other programs")
    exporting.add_argument("run", type=Path, metavar="RUN", help="a job's folder, such as outputs/demo/prune=...")
    exporting.add_argument(
        "--to",
        choices=[*FORMATS, COMPACT],
        required=True,
        help="ONNX, a torch.export program, or prunelab's compact file",
    )
    exporting.add_argument("--values", choices=VALUES, help="type of the weights in a compact file; default: float32")
    exporting.add_argument(
        "--output", type=Path, metavar="FILE", help="default: RUN/model.onnx, .pt2, -int8.safetensors"
    )
    exporting.set_defaults(command=export, mistakes=(ExportError, ValueError, OSError))
    pruning = commands.add_parser("prune", help="make any network smaller, without training, and write it to a file")
    pruning.add_argument("net", metavar="NET", help="module:function that returns a network, or a model.safetensors")
    pruning.add_argument("--example", type=_sizes, required=True, metavar="SIZES", help="its input, as 1,3,224,224")
    pruning.add_argument("--rate", type=float, required=True, help="fraction to remove, in [0, 1)")
    pruning.add_argument("--budget", choices=BUDGETS, default="units", help="what it is a fraction of; default: units")
    for part, default in (("criterion", "l1"), ("granularity", "filter"), ("allocation", "uniform")):
        pruning.add_argument(f"--{part}", default=default, metavar="NAME", help=f"of conf/prune; default: {default}")
    pruning.add_argument("--skip", nargs="+", default=(), metavar="PATTERN", help="weights whose units stay: 'head*'")
    pruning.add_argument(
        "--round-to", type=int, default=1, metavar="N", help="channels left are a multiple; default: 1"
    )
    pruning.add_argument("--seed", type=int, default=0, help="of criteria that draw at random")
    pruning.add_argument("--to", choices=[*FORMATS, SAFETENSORS], required=True, help="the kind of file")
    pruning.add_argument("--output", type=Path, metavar="FILE", help="default: <function>-pruned.onnx, .pt2 ...")
    pruning.set_defaults(command=prune, mistakes=(ExportError, ValueError, OSError))
    for command in (reporting, listed, compared, asked, exporting, pruning):
        command.add_argument("--traceback", action="store_true", help="show the traceback of an error")
    return parser


if __name__ == "__main__":
    sys.exit(main())
