"""What jobs took of a processor."""

from collections.abc import Iterable

from prunelab.store.result import Result


def core_hours(results: Iterable[Result]) -> float | None:
    """Hours of CPU time of the epochs in these jobs, on several devices of all their processes.

    An epoch that several jobs share counts once: it has the same seconds, to the last digit, in the history of each.
    None without an epoch, and where one does not say, as in results of 0.1.0.
    """
    seconds = {row.cpu_seconds for result in results for row in result.history}
    return sum(filter(None, seconds)) / 3600 if seconds and None not in seconds else None
