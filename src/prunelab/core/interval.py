"""How long is "5min", or "500it"? Asked also where there is no torch."""

import re

UNITS = {"s": 1.0, "min": 60.0, "h": 3600.0}


def seconds(every: object) -> float | None:
    """Of a time such as "90s", "5min" or "1h"; None for a number of steps, "500it" or "1ep".

    Raises ValueError for what is neither, or nothing.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(s|min|h|it|ep)", str(every))
    if not match or not float(match[1]):
        raise ValueError(f'every={every}: expected steps ("500it", "1ep") or a time ("90s", "5min", "1h")')
    return float(match[1]) * UNITS[match[2]] if match[2] in UNITS else None
