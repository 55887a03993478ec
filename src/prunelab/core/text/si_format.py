"""Large numbers with SI prefixes."""


def si_format(number: float) -> str:
    """Three significant digits: 1.23M."""
    for unit in ("", "k", "M", "G"):
        if number < 999.5:
            return f"{number:.3g}{unit}"
        number /= 1000
    return f"{number:.3g}T"
