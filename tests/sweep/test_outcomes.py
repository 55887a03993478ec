"""The table at the end of a sweep names jobs by what differs."""

import io

from rich.console import Console

from prunelab.sweep.outcomes import SweepSummary


def printed(summary: SweepSummary) -> list[str]:
    console = Console(width=80, file=io.StringIO())
    console.print(summary)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]  # type: ignore[attr-defined]


def test_what_all_jobs_share_stands_once_above_those_without_a_result() -> None:
    jobs = [("rate=0.2", "finished", ""), ("rate=0.8", "failed", "ValueError: lr")]
    assert printed(SweepSummary(jobs, ["prune=usp", "data=shapes"])) == [
        "all with prune=usp data=shapes",
        "failed  rate=0.8  ValueError: lr",
        "2 jobs: 1 finished, 1 failed",
    ]
    assert printed(SweepSummary(jobs[:1], ["prune=usp"])) == ["1 jobs: 1 finished"]
