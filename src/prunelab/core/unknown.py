"""Errors for a name that does not exist, with the nearest that do."""

from collections.abc import Iterable
from difflib import get_close_matches

MOST = 60  # names that are shown


def unknown(what: str, name: str, names: Iterable[str]) -> ValueError:
    """The error to raise, for `what` ("criterion") of this name.

    >>> unknown("criterion", "tailor", ["taylor", "l1"])
    ValueError("criterion='tailor': did you mean taylor? there are: l1, taylor")
    """
    names = sorted(names)
    near = " or ".join(get_close_matches(name, names, n=2))
    shown = ", ".join(names[:MOST]) + (f" and {len(names) - MOST} more" if len(names) > MOST else "")
    return ValueError(f"{what}={name!r}: {f'did you mean {near}? ' if near else ''}there are: {shown}")
