"""Empties a PostgreSQL database for the next test, since a new one costs 300 files."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from support.servers import ServerDatabase

# Whether nothing is set that belongs to the database and is not in it, and whether somebody is connected.
_LOOK = """
SELECT datacl IS NULL AND NOT EXISTS (SELECT 1 FROM pg_db_role_setting WHERE setdatabase = found.oid),
EXISTS (SELECT 1 FROM pg_stat_activity WHERE datid = found.oid AND backend_type = 'client backend')
FROM pg_database AS found WHERE datname = '{name}'
"""
_PUBLIC = "SELECT nspowner::regrole::text, nspacl::text FROM pg_namespace WHERE nspname = 'public'"
_DROP = """
DO $$ DECLARE name text; BEGIN
FOR name IN SELECT nspname FROM pg_namespace WHERE (oid >= 16384 OR nspname = 'public') AND nspname !~ '^pg_'
LOOP EXECUTE format('DROP SCHEMA %I CASCADE', name); END LOOP;
CREATE SCHEMA public AUTHORIZATION pg_database_owner;
GRANT USAGE ON SCHEMA public TO PUBLIC;
END $$
"""
# PostgreSQL gives numbers from here on to what it does not bring along.
_LEFT = " UNION ALL ".join(
    f"SELECT oid FROM {catalog} WHERE oid >= 16384"
    for catalog in (
        "pg_class",
        "pg_proc",
        "pg_type",
        "pg_cast",
        "pg_extension",
        "pg_event_trigger",
        "pg_largeobject_metadata",
        "pg_default_acl",
        "pg_publication",
        "pg_foreign_data_wrapper",
    )
)


Outcome = Literal["empty", "busy", "lost"]


def empty(administrator: Any, used: ServerDatabase, name: str) -> Outcome:
    """Rename a database and make it as a new one is; under its old name, this process may still know it.

    `administrator` is a cursor of a connection to another database of the server.
    It is left alone if somebody is connected, and is of no use if something in it is not like new.
    """
    import psycopg2  # type: ignore[import-untyped]

    try:
        ((is_unchanged, is_busy),) = _found(administrator, _LOOK.format(name=used.database))
        if not is_unchanged or is_busy:
            return "busy" if is_unchanged else "lost"
        administrator.execute(f"ALTER DATABASE {used.database} RENAME TO {name}")
        public = _found(administrator, _PUBLIC)
        with replace(used, database=name).cursor() as cursor:
            cursor.execute(_DROP)
            is_new = _found(cursor, _PUBLIC) == public and not _found(cursor, _LEFT)
    except psycopg2.Error:
        return "lost"
    return "empty" if is_new else "lost"


def _found(cursor: Any, query: str) -> list[tuple[Any, ...]]:
    cursor.execute(query)
    return [tuple(row) for row in cursor.fetchall()]
