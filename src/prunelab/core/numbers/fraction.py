"""The check of a pruning rate; needs no torch."""


def check_rate(rate: object) -> float:
    """`rate` as a number of Python's own, which checkpoints can hold; those of NumPy and torch are others.

    Raises ValueError unless it is a number in [0, 1); of what looks like a percentage it says the fraction.
    """
    try:
        number = float("nan") if isinstance(rate, bool | str | bytes) else float(rate)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError, RuntimeError):  # the last is torch's, of several numbers
        number = float("nan")
    if not 0 <= number < 1:  # also refuses nan
        raise ValueError(f"rate={rate}: expected a fraction in [0, 1){_remedy(rate)}")
    return rate if type(rate) is int else number


def _remedy(rate: object) -> str:
    try:
        number = float(str(rate).removesuffix("%"))
    except ValueError:
        return ""
    if 0 <= number < 100 and (str(rate).endswith("%") or number >= 2):
        return f"; for {number:g} % write rate={number / 100:g}"
    return f"; write the number {number:g}, not text" if isinstance(rate, str) and 0 <= number < 1 else ""
