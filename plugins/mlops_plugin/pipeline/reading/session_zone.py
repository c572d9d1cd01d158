"""Whether a query may mean something else in a dispatch, whose session is in UTC, than in a notebook's."""

from __future__ import annotations

import re

import pyarrow as pa

from mlops_plugin.databases.database import Database, read_rows
from mlops_plugin.databases.moments import holds_instants

_UTC = frozenset({"utc", "gmt", "uct", "zulu", "universal", "greenwich", "+00:00", "-00:00"})
# Functions, casts and literals whose values depend on the session's zone, as far as they stand in the query
# itself; a column may be called `age` or `month`.
_DEPENDS_ON_ZONE = re.compile(
    r"\b(now|cur(date|time)|sysdate|age|extract|date(_part|_trunc|_bin|_format|diff)?|time(stamp(diff)?)?"
    r"|to_(char|date|days|seconds|timestamp)|from_unixtime|unix_timestamp|year|quarter|month|week"
    r"|day(name|ofmonth|ofweek|ofyear)?|weekday|hour|minute)\s*\("
    r"|\b(current_(date|time|timestamp)|local(time|timestamp))\b"
    r"|::\s*(date|time)|\bas\s+(date|time|timestamp(tz)?|datetime)\s*(\(\d\)\s*)?\)|\btimestamp(tz)?\s*'",
    re.IGNORECASE,
)


def zone_note(database: Database, query: str, columns: pa.Schema) -> str | None:
    """What to know of the zone of the server's sessions, if the query may depend on it; None otherwise.

    `columns` are those of the query. Raises `DatabaseError`.
    """
    asking = database.engine.session_zone_query
    if asking is None or not (_DEPENDS_ON_ZONE.search(query) or any(map(holds_instants, columns))):
        return None
    found = read_rows(database, asking)
    zone = str(found[0][0]) if found else "UTC"  # a server that speaks as PostgreSQL does may not say
    if zone.lower().removeprefix("etc/") in _UTC:
        return None
    return (
        f"this account's sessions are in {zone}, those of a dispatch in UTC: an hour, a day or a text that "
        "the query makes of an instant may be another than in a notebook; write the zone into the query, in "
        "training too"
    )
