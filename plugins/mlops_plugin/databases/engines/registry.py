"""The engines that there are, and by which names connections and drivers call them."""

from __future__ import annotations

from collections.abc import Mapping

from mlops_plugin.databases.engines.duckdb import Duckdb
from mlops_plugin.databases.engines.engine import Engine
from mlops_plugin.databases.engines.mssql import Mssql
from mlops_plugin.databases.engines.mysql import Mysql
from mlops_plugin.databases.engines.postgresql import Postgresql
from mlops_plugin.databases.engines.sqlite import Sqlite

ANSI, MYSQL, POSTGRESQL, SQLITE, MSSQL = Engine(), Mysql(), Postgresql(), Sqlite(), Mssql()
DUCKDB = Duckdb()

# A connection's type, or what an ODBC driver calls its engine, in lower case.
_ENGINES: Mapping[str, Engine] = {
    "mysql": MYSQL,
    "mariadb": MYSQL,
    "postgres": POSTGRESQL,
    "postgresql": POSTGRESQL,
    "sqlite": SQLITE,
    "sqlite3": SQLITE,
    "duckdb": DUCKDB,
    "mssql": MSSQL,
    "microsoft sql server": MSSQL,
}

# One name of each engine.
ENGINE_NAMES = tuple(dict.fromkeys(engine.name for engine in (*_ENGINES.values(), ANSI)))


def engine_named(name: str) -> Engine:
    """The engine of a connection type or of what an ODBC driver calls it; standard SQL for any other."""
    return _ENGINES.get(name.strip().lower(), ANSI)


def engine_of_driver(name: str) -> Engine | None:
    """The engine that an ODBC driver is for, by the driver's name or file; None if it does not tell."""
    lower = name.lower()
    signs = {"maria": MYSQL, "maodbc": MYSQL, "mysql": MYSQL, "postgre": POSTGRESQL, "psqlodbc": POSTGRESQL}
    signs |= {"sqlite": SQLITE, "sql server": MSSQL, "msodbcsql": MSSQL, "freetds": MSSQL, "tdsodbc": MSSQL}
    return next((engine for sign, engine in signs.items() if sign in lower), None)
