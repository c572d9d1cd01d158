"""Names that SQL reads otherwise without quotes."""

NAMES = (
    "order",
    "Select",
    "with two  spaces",
    'double "quotes"',
    "back `ticks`",
    "single 'quotes'",
    "[brackets]",
    '"quoted"',
    "`ticked`",
    "semi;colon",
    ":colon",
    "per%cent",
    "%s",
    "%(p1)s",
    "$1",
    "ask ?",
    "back\\slash",
    "dash -- dash",
    "/* comment */",
    "# hash",
    "@at",
    "schema.table",
    "{{ braces }}",
    "grüße",
    "预测",
    "дата",
)
# MariaDB's ODBC driver takes the one for a parameter, quoted or not; SQLite's drops what is before a dot.
MISREAD: dict[str, set[str]] = {"odbc-mariadb": {"ask ?"}, "odbc-sqlite": {"schema.table"}}
