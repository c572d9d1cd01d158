"""A table with a column of every type that divides rows, for the tests of partitions and pages."""

from __future__ import annotations

from support.ways_in import WayIn

COLUMNS = {
    "v_int": ("BIGINT", ["-9223372036854775808", "0", "1", "9223372036854775807", "NULL", "5"]),
    "v_date": (
        "DATE",
        ["'2026-01-01'", "'2026-01-02'", "'2026-03-01'", "'2026-11-30'", "NULL", "'2026-01-01'"],
    ),
    "v_when": (
        "TIMESTAMP",
        [f"'2026-0{n}-01 00:00:0{second}'" for n, second in zip((1, 1, 6, 1, 2, 1), range(6), strict=True)],
    ),
    "v_zone": (
        "TIMESTAMP WITH TIME ZONE",  # where there is one
        [f"'2026-0{n}-01 00:00:0{n}'" for n in (1, 2, 6, 1, 2, 3)],
    ),
    "v_decimal": ("DECIMAL(20,4)", ["-1.5", "0.0001", "0.0002", "99999.9999", "NULL", "3"]),
    "v_text": ("VARCHAR(20)", ["'a'", "'b''?'", "'Zoë'", "''", "NULL", "'a'"]),
}


def fill(way: WayIn) -> WayIn:
    """Make table `t` of six rows, ids 1 to 6."""
    kinds = {name: kind for name, (kind, _) in COLUMNS.items()}
    if way.engine != "postgres":
        kinds["v_zone"] = "TIMESTAMP"
    columns = ", ".join(f"{name} {kind}" for name, kind in kinds.items())
    way.execute(f"CREATE TABLE t (id BIGINT PRIMARY KEY, {columns})")
    rows = zip(*(values for _, values in COLUMNS.values()), strict=True)
    way.execute(*(f"INSERT INTO t VALUES ({n}, {', '.join(row)})" for n, row in enumerate(rows, 1)))
    return way
