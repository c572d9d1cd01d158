"""Checks on the texts that name things in a database: queries, tables, connection ids."""

from __future__ import annotations

import re

_END = re.compile(r"[\s;]+\Z")
CONNECTION_PATTERN = r"^[A-Za-z0-9_.\-]{1,250}$"
_QUOTED_PART = r'"(?!\s)(?:[^"\x00]|"")+(?<!\s)"'
_PLAIN_PART = r"""[^\s".'`;()\[\]\x00](?:[^".'`;()\[\]\x00]*[^\s".'`;()\[\]\x00])?"""
_TABLE_PART = f"(?:{_QUOTED_PART}|{_PLAIN_PART})"
TABLE_PATTERN = rf"^{_TABLE_PART}(\.{_TABLE_PART}){{0,2}}$"
_CONNECTION = re.compile(CONNECTION_PATTERN)
_TABLE = re.compile(TABLE_PATTERN)


def check_query(query: str) -> str:
    """SQL without white space around it and without final semicolons.

    Raises `ValueError` for an empty text. What the SQL says is for the parser, which `collect` and
    `mlops check` load (`pipeline.reading.query_check`): here it would cost each DAG file's parse 0.1 s.
    """
    if "\0" in query:
        raise ValueError("the query holds a NUL character; remove it")
    checked = _END.sub("", query).lstrip()
    if not checked:
        raise ValueError("the query is empty; write one SELECT statement")
    return checked


def check_connection(conn_id: str) -> str:
    """An Airflow connection's id. Raises `ValueError` without the text, which may hold a password."""
    if _CONNECTION.fullmatch(conn_id):
        return conn_id
    if "://" in conn_id or "@" in conn_id or "=" in conn_id:
        raise ValueError(
            "this looks like an address with credentials (not shown here); put it in an Airflow connection "
            "and write that connection's id"
        )
    raise ValueError(
        "not a connection id (the text is not shown here); an id has 1 to 250 of the characters "
        "A-Z a-z 0-9 _ . -; host, user and password belong in the Airflow connection"
    )


def check_table(table: str) -> str:
    """A table name in up to three parts. Raises `ValueError` that says how to write one."""
    if not _TABLE.fullmatch(table):
        raise ValueError(
            f"'{table}' is not a table name; write 'table' or 'schema.table', and a part with a dot or a "
            "quote in double quotes"
        )
    return table
