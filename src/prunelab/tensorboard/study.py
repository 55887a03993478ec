"""A study's entries in TensorBoard besides its jobs: its figures, and charts that overlay its jobs."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from tensorboard.plugins.custom_scalar import metadata
from tensorboard.plugins.custom_scalar.layout_pb2 import Category, Chart, Layout, MultilineChartContent

from prunelab.store.result import Result
from prunelab.tensorboard import events

KIND = "study"
PICTURES = "views"  # Time Series sorts by tag: behind the curves, the last of which are of "val"
CHARTS = {  # a line for each job and tag that a pattern matches
    "Jobs over epochs": {
        "test accuracy": "test/acc$",
        "validation accuracy": "val/acc$",
        "training accuracy": "train/acc$",
        "sparsity (fraction of units removed)": "sparsity/all$",
    },
    "Losses over epochs": {"test loss": "test/loss$", "validation loss": "val/loss$", "training loss": "train/loss$"},
    "Training": {"learning rate": "train/lr$", "seconds per epoch": "train/seconds$"},
}


def write(study: Path, results: Iterable[Result], written: Sequence[Path]) -> None:
    """The PNGs among the `written` files as images, and the layout of Custom Scalars. Raises OSError.

    Nothing if no job of the study logs to TensorBoard.
    """
    if not any(result.job.logs_events for result in results):
        return
    pictures = [events.image(f"{PICTURES}/{path.stem}", path.read_bytes()) for path in written if path.suffix == ".png"]
    layout = events.plugin(
        metadata.CONFIG_SUMMARY_TAG, metadata.create_summary_metadata(), _layout().SerializeToString()
    )
    events.replace(study, KIND, [layout, *pictures], step=0)


def _layout() -> Layout:
    categories = []
    for title, charts in CHARTS.items():
        lines = [Chart(title=name, multiline=MultilineChartContent(tag=[tag])) for name, tag in charts.items()]
        categories.append(Category(title=title, chart=lines))
    return Layout(category=categories)
