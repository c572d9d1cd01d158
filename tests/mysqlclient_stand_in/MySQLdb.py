"""PyMySQL under mysqlclient's name, for the processes that test_compose.py starts.

Airflow insists on mysqlclient where its metadata database is MySQL. The official image has it; the test
environment does not, because it has no wheel. PyMySQL speaks the same protocol to the same real server.

One statement of Airflow's scheduler is `WITH name AS (...) DELETE ...`, which MySQL understands and MariaDB
does not: it is sent as the same DELETE with the query in its place.
"""

from __future__ import annotations

import functools
import re
import sys
from typing import Any

import pymysql  # type: ignore[import-untyped]
from pymysql import converters, cursors

WITH_DELETE = re.compile(
    r"\s*WITH (?P<name>\w+) AS\s*(?P<query>\(.*\))\s*(?P<delete>DELETE FROM .*)", re.DOTALL
)


class Cursor(cursors.Cursor):  # type: ignore[misc]
    def execute(self, query: str | bytes, args: Any = None) -> int:
        if isinstance(query, str) and (match := WITH_DELETE.fullmatch(query)):
            name = match["name"]
            derived = f"FROM {match['query']} AS {name} "
            query = re.sub(rf"FROM {name}\s", lambda _: derived, match["delete"], count=1)
        return int(super().execute(query, args))


pymysql.install_as_MySQLdb()
pymysql.connect = functools.partial(pymysql.connect, cursorclass=Cursor)
converters.DateTime2literal = converters.escape_datetime
sys.modules["MySQLdb.converters"] = converters
