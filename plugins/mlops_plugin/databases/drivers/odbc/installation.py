"""Says what to install if ODBC itself or a driver of it is missing."""

from __future__ import annotations

from mlops_plugin.connections import ConnectionSpec
from mlops_plugin.databases.drivers.odbc.connection_string import driver_name
from mlops_plugin.databases.drivers.odbc.driver_manager import installed_drivers
from mlops_plugin.errors import ConnectionUnusable, DriverMissing, MlopsError

# A word in the driver's name, and where the driver comes from.
_PACKAGES = (
    (("mariadb", "maodbc", "mysql"), "apt-get install odbc-mariadb or dnf install mariadb-connector-odbc"),
    (("postgres", "psql"), "apt-get install odbc-postgresql or dnf install postgresql-odbc"),
    (("sqlite",), "apt-get install libsqliteodbc or dnf install sqliteodbc"),
    (("freetds", "tds"), "apt-get install tdsodbc or dnf install freetds"),
    (("sql server", "msodbc"), "Microsoft's package msodbcsql18"),
    (("oracle",), "Oracle Instant Client with its ODBC package"),
    (("snowflake",), "Snowflake's package snowflake-odbc"),
    (("db2",), "IBM's Data Server Driver for ODBC and CLI"),
)


def library_missing(spec: ConnectionSpec) -> DriverMissing:
    """What to say if libodbc cannot be loaded."""
    return DriverMissing(
        f"connection '{spec.conn_id}': ODBC needs the library libodbc.so.2 of unixODBC, which is not "
        "installed; install it: apt-get install unixodbc (Debian, Ubuntu) or dnf install unixODBC "
        "(Fedora, Red Hat)"
    )


def driver_missing(spec: ConnectionSpec, says: str) -> MlopsError | None:
    """The error to raise instead if the driver manager `says` that it found no driver; else None."""
    name = driver_name(spec)
    if "Can't open lib" not in says and "State: IM002" not in says:
        return None
    if name is None:
        return ConnectionUnusable(
            f"connection '{spec.conn_id}': the data source (DSN) is not in odbc.ini on this machine; check "
            f"its name in extra, or name a driver there instead ({says})"
        )
    installed = ", ".join(f"'{driver}'" for driver in installed_drivers()) or "none"
    source = next(
        (source for words, source in _PACKAGES if any(word in name.lower() for word in words)), None
    )
    install = f"; install it: {source}" if source else ""
    return DriverMissing(
        f"connection '{spec.conn_id}': the ODBC driver '{name}' is not installed on this machine{install}. "
        f"Installed drivers: {installed} ({says})"
    )
