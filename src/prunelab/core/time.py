"""At which optimizer step does "3ep", "500it" or half of the run fall?"""

import re

from prunelab.core.types import Progress

Time = str | float


def to_step(when: Time, p: Progress) -> int:
    """The step meant by `when`: "3ep" (epochs), "500it" (optimizer steps) or a fraction of the run.

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
    """The steps of a length that does not depend on the run's: "3ep" or "500it"."""
    if not isinstance(time, str):
        raise ValueError(f'{time!r}: expected a length such as "3ep" or "500it"')
    return _count(time, Progress(0, 0, epoch))


def _count(when: Time, p: Progress) -> int:
    if isinstance(when, str) and (match := re.fullmatch(r"(\d+(?:\.\d+)?)(ep|it)", when.strip())):
        return round(float(match[1]) * (p.epoch if match[2] == "ep" else 1))
    if isinstance(when, int | float) and not isinstance(when, bool) and 0 <= when <= 1:
        return round(when * p.total)
    raise ValueError(f'{when!r}: expected "3ep", "500it" or a fraction of the run in [0, 1]')
