"""What may be meant by a name that does not exist."""

from collections.abc import Collection
from difflib import get_close_matches


def refuse_unknown(library: str, name: str, known: Collection[str]) -> None:
    """Raises ValueError, with the nearest of the `known` names, for another one."""
    if name not in known:
        longer = [other for other in sorted(known, key=len) if name and other.startswith(name)]
        near = longer[:3] or (get_close_matches(name, known, n=3, cutoff=0) if name else [])
        hint = f"; nearest are {', '.join(near)}" if near else ""
        raise ValueError(f"model.name={name!s:.80}: {library} has no network of that name{hint}")
