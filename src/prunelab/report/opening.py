"""The first sentences of a report: what was studied and what pruning cost, counted from the results."""

from collections.abc import Container, Sequence

from prunelab.report.groups import Group, counted
from prunelab.report.tables.columns import signed
from prunelab.report.tables.formats import Entry
from prunelab.report.tables.table import Row

MOST = 3  # groups with sentences of their own
LONG = 30  # characters of a setting, such as a path


def sentences(tables: Sequence[Entry]) -> list[str]:
    """A paragraph for each of the first groups, and one for how many others there are."""
    told = [(group, rows) for group, rows in tables if not group.scattered][:MOST]
    paragraphs = [f"{_studied(group)} {_cost(rows)}" for group, rows in told]
    more = len(tables) - len(told)
    return paragraphs + [f"{counted([more], 'more group')}: see the tables."] * (more > 0)


def _studied(group: Group) -> str:
    rates = [rate for rate in group.rates if rate]
    methods = [method for method in group.methods if method != "none"] or group.methods
    at = f" at {counted([len(rates)], 'rate')}" if rates else ""
    traits = "".join(f", {key}={value}" for key, value in group.traits.items() if len(value) <= LONG)
    return f"{_listed(methods)}{at}: {group.scene}, {counted(group.seeds, 'seed')}{traits}."


def _cost(rows: list[Row]) -> str:
    """The accuracy without pruning, and the change of the best and of the most pruned cell."""
    pruned = [row for row in rows if row.rate]
    dense = next((row for row in rows if not row.rate), None)
    without = f"Without pruning: {dense.accuracy:.2f} % test accuracy ({_interval(dense)})." if dense else ""
    if not pruned:
        return without
    compared = [row for row in pruned if row.change is not None]
    if not compared:
        best = max(pruned, key=lambda row: row.accuracy)
        return (
            f"{without} Nothing unpruned has the seeds of a pruned setting, so no change is known. Best of "
            f"{counted([len(pruned)], 'pruned setting')}: {_cell(best)}, {best.accuracy:.2f} % ({_interval(best)})."
        ).strip()
    best = max(compared, key=lambda row: (row.change, row.attained))
    most = max(compared, key=lambda row: (row.attained, row.change))
    # Methods that are not the network above at their rate 0, as binary weights are not, from which their changes are.
    own = {row.method for row in rows if dense and not row.rate and row.accuracy != dense.accuracy}
    if len(compared) == 1:
        return f"{without} {_cell(best)} {_change(best, own)}."
    both = f"Best and most pruned of {len(compared)} pruned settings: {_cell(best)}, which {_change(best, own)}."
    apart = (
        f"Best of {len(compared)} pruned settings: {_cell(best)}, which {_change(best, own)}. "
        f"Most pruned: {_cell(most)}, which {_change(most, own)}."
    )
    return f"{without} {both if best is most else apart}"


def _cell(row: Row) -> str:
    return f"{row.method} at rate {row.rate:g}"


def _change(row: Row, own: Container[str]) -> str:
    """In points, over the seeds that both cells have; from rate 0 of the method if it is one of `own`."""
    points = round(row.change or 0.0, 2)
    what = f"{'lost' if points < 0 else 'gained'} {abs(points):.2f} points" if points else "lost nothing"
    what += " from its own rate 0" * (row.change_from in own)
    if row.change_epochs is not None and row.epochs != row.change_epochs:
        what += f" with {row.epochs:g} epochs of training in place of {row.change_epochs:g}"
    if row.change_interval is None:
        return f"{what} (n = {row.paired}, so no interval)"
    low, high = row.change_interval
    return f"{what} (n = {row.paired}, 95 % interval of the change {signed(low)} to {signed(high)})"


def _interval(row: Row) -> str:
    if row.interval is None:
        return f"n = {len(row.seeds)}, so no interval"
    return f"n = {len(row.seeds)}, 95 % interval {row.interval[0]:.2f} to {row.interval[1]:.2f}"


def _listed(names: Sequence[str]) -> str:
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last
