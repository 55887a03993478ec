"""The check of a pruning rate; needs no torch."""


def check_rate(rate: object) -> None:
    """Raises ValueError unless `rate` is a number in [0, 1); of what looks like a percentage it says the fraction."""
    number = rate if isinstance(rate, int | float) and not isinstance(rate, bool) else float("nan")
    if not 0 <= number < 1:  # also refuses nan
        hint = f"; for {number:g} % write rate={number / 100:g}" if 2 <= number < 100 else ""
        raise ValueError(f"rate={rate}: expected a fraction in [0, 1){hint}")
