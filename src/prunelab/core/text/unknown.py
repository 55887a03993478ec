"""Names that do not exist, and the nearest that do."""

from collections.abc import Collection, Iterable
from difflib import get_close_matches

MOST = 60  # names that are shown


def nearest(name: str, names: Collection[str], most: int = 3) -> list[str]:
    """At most so many of `names`: the shortest that go on from `name`, else those that are alike."""
    longer = [other for other in sorted(names, key=len) if name and other.startswith(name)]
    return longer[:most] or get_close_matches(name, names, n=most)


def unknown(what: str, name: str, names: Iterable[str]) -> ValueError:
    """The error to raise, for `what` ("criterion") of this name.

    >>> unknown("criterion", "tailor", ["taylor", "l1"])
    ValueError("criterion='tailor': did you mean taylor? there are: l1, taylor")
    """
    names = sorted(names)
    near = " or ".join(nearest(name, names, most=2))
    shown = ", ".join(names[:MOST]) + (f" and {len(names) - MOST} more" if len(names) > MOST else "")
    return ValueError(f"{what}={name!r}: {f'did you mean {near}? ' if near else ''}there are: {shown}")


def refuse_unknown(library: str, name: str, known: Collection[str]) -> None:
    """Raises ValueError, with the nearest names, for a network that a `library` does not have."""
    if name not in known:
        near = nearest(name, known)
        hint = f"; nearest are {', '.join(near)}" if near else ""
        raise ValueError(f"model.name={name!s:.80}: {library} has no network of that name{hint}")
