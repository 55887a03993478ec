"""TensorBoard in a real browser shows the results of a small sweep."""

import json
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import events
import pytest
from browser import browser_page

from prunelab.__main__ import main
from prunelab.store.result import Result
from prunelab.tensorboard.hparams import metrics
from prunelab.tensorboard.study import CHARTS

pytestmark = pytest.mark.slow
PAGE = 12  # pictures that TensorBoard shows at once
JOBS = [("usp", 0), ("usp", 0.5), ("sp", 0.5)]


@pytest.fixture
def results(job, tmp_path: Path) -> list[dict[str, Any]]:
    """The results of a sweep in tmp_path/study, which is reported twice."""
    for prune, rate in JOBS:
        folder = tmp_path / "study" / f"{prune}-{rate}"
        job(f"prune={prune}", f"rate={rate}", "logger=tensorboard", folder=folder)
    for _ in range(2):
        assert main(["report", str(tmp_path / "study")]) == 0
    return [json.loads(path.read_text()) for path in sorted(tmp_path.glob("study/*/result.json"))]


@pytest.fixture
def address(results, tmp_path: Path) -> Iterator[str]:
    """The address of TensorBoard, started as `make board` does."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = ["-m", "tensorboard.main", "--logdir", str(tmp_path), "--host", "localhost", "--port", str(port)]
    with (tmp_path / "board.log").open("w") as log:
        board = subprocess.Popen([sys.executable, *command], stdout=log, stderr=log)
    try:
        for _ in range(240):
            if read(f"http://localhost:{port}"):
                break
            time.sleep(0.5)
        else:
            pytest.fail((tmp_path / "board.log").read_text())
        yield f"http://localhost:{port}"
    finally:
        board.terminate()
        board.wait()


def read(address: str) -> bool:
    """Whether TensorBoard has read the final entries of the jobs and the study."""
    try:
        with urllib.request.urlopen(f"{address}/data/plugin/scalars/tags") as answer:
            jobs = ["trained/seconds" in tags for tags in json.load(answer).values()]
        with urllib.request.urlopen(f"{address}/data/plugin/images/tags") as answer:
            return sum(jobs) == len(JOBS) and "study" in json.load(answer)
    except OSError:
        return False


def test_every_page_shows_the_results_of_the_jobs(address: str, results: list[dict[str, Any]], tmp_path: Path) -> None:
    with browser_page(2400, 1500) as page:
        errors: list[str] = []
        page.set_default_timeout(60_000)
        page.on("console", lambda line: errors.append(f"{line.text} {line.location}") if line.type == "error" else None)
        page.on("pageerror", lambda error: errors.append(str(error)))

        page.goto(f"{address}/#hparams")
        cells = page.locator("vaadin-grid-cell-content")
        cells.filter(has_text="study/").nth(len(JOBS) - 1).wait_for()
        rows = table([text.strip() for text in cells.all_inner_texts()])
        assert rows.keys() == {f"study/{prune}-{rate}" for prune, rate in JOBS}
        for result in results:
            row = rows[f"study/{result['method']}-{result['rate']:g}"]
            assert result["method"] in row
            for value in (result["rate"], *metrics(Result.from_json(result, tmp_path)).values()):
                assert value == result["seconds"] or digits(value) in row  # five metrics have columns, of six

        page.goto(f"{address}/#scalars")
        page.locator("tf-scalar-card svg path.line").nth(2 * len(JOBS) - 1).wait_for(state="attached")
        assert page.get_by_text("units_removed", exact=True).count() == 1

        page.goto(f"{address}/#custom_scalars")
        for title in chain(*CHARTS.values()):
            page.locator("tf-custom-scalar-multi-line-chart-card").get_by_text(title, exact=True).wait_for()
        charts = sum(map(len, CHARTS.values()))
        page.get_by_text(f"Matches ({len(JOBS)})").nth(charts - 1).wait_for()

        page.goto(f"{address}/#images")
        drawn = sorted(tmp_path.glob("study/figures/*.png"))
        pictures = page.locator("tf-image-loader img")
        assert PAGE < len(drawn) <= 2 * PAGE
        for number, paths in enumerate((drawn[:PAGE], drawn[PAGE:])):
            if number:
                page.get_by_text("Next page").first.click()
            pictures.nth(len(paths) - 1).wait_for()
            page.wait_for_timeout(2000)  # for all pictures to load, and any too many
            sizes = pictures.evaluate_all("all => all.map(img => [img.naturalWidth, img.naturalHeight])")
            assert [tuple(size) for size in sizes] == [events.size(path) for path in paths]
        assert errors == []


def table(cells: list[str]) -> dict[str, list[str]]:
    """The rows of the page HParams, by job."""
    begins = [i for i, cell in enumerate(cells) if cell.startswith("study/")]
    return {cells[i]: cells[i:end] for i, end in pairwise([*begins, len(cells)])}


def digits(value: float) -> str:
    """As TensorBoard writes a number: five digits of the float32."""
    return f"{value:#.5g}" if value else "0.0000"
