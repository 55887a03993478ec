"""Times such as "3ep", "500it", "5min" or half of the run, in optimizer steps or seconds; needs no torch."""

import re
from dataclasses import dataclass

Time = str | float
UNITS = {"s": 1.0, "min": 60.0, "h": 3600.0}


@dataclass(frozen=True)
class Progress:
    """The progress of training, in optimizer steps."""

    step: int  # steps done
    total: int  # steps of the whole run
    epoch: int  # steps of one epoch


def to_step(when: Time, p: Progress) -> int:
    """The optimizer step of `when`: "3ep" (epochs), "500it" (steps) or a fraction of the run.

    Raises ValueError for anything else, and for a time after the end of the run.
    """
    step = _count(when, p)
    if step > p.total:
        raise ValueError(
            f"{when!r} is step {step}, but the run ends at step {p.total} ({p.total / p.epoch:g} epochs): "
            "raise epochs or choose an earlier time"
        )
    return step


def length(time: Time, epoch: int) -> int:
    """Steps of a time that does not depend on the length of the run: "3ep" or "500it"."""
    if not isinstance(time, str):
        raise ValueError(f'{time!r}: expected a length such as "3ep" or "500it"')
    return _count(time, Progress(0, 0, epoch))


def _count(when: Time, p: Progress) -> int:
    if isinstance(when, str) and (match := re.fullmatch(r"(\d+(?:\.\d+)?)(ep|it)", when.strip())):
        return round(float(match[1]) * (p.epoch if match[2] == "ep" else 1))
    if isinstance(when, int | float) and not isinstance(when, bool) and 0 <= when <= 1:
        return round(when * p.total)
    raise ValueError(f'{when!r}: expected "3ep", "500it" or a fraction of the run in [0, 1]')


def seconds(every: object) -> float | None:
    """Seconds of a time such as "90s", "5min" or "1h"; None for steps, "500it" or "1ep".

    Raises ValueError for anything else, and for zero.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(s|min|h|it|ep)", str(every))
    if not match or not float(match[1]):
        raise ValueError(f'every={every}: expected steps ("500it", "1ep") or a time ("90s", "5min", "1h")')
    return float(match[1]) * UNITS[match[2]] if match[2] in UNITS else None
