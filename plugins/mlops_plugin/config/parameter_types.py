"""The types of single parameters: how each is checked, and how it looks in the JSON Schema."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from typing import Annotated
from zoneinfo import ZoneInfo

from pydantic import (
    AwareDatetime,
    BeforeValidator,
    Field,
    PlainSerializer,
    PlainValidator,
    StringConstraints,
    ValidationInfo,
    WithJsonSchema,
)
from pydantic.functional_validators import AfterValidator

from mlops_plugin.config import durations, schedules
from mlops_plugin.config.sql_text import (
    CONNECTION_PATTERN,
    TABLE_PATTERN,
    check_connection,
    check_query,
    check_table,
)

# Of a model: Airflow's rule for DAG ids, shorter for suffixes; and a folder's name, so not `..`.
NAME_PATTERN = r"^[A-Za-z0-9_][A-Za-z0-9_.\-]{0,199}$"
SHA256_PATTERN = r"^[0-9a-fA-F]{64}$"
TIME_PATTERN = r"^\d{4}-\d\d?-\d\d?([Tt ].*)?$"
TIME_ZONE_PATTERN = r"^[A-Za-z][A-Za-z0-9_+\-]*(/[A-Za-z0-9_+\-]+)*$"
LINE_PATTERN = r"^[^\r\n]*$"
HOST_PATTERN = r"^[^\s/@\[\]\x00]{1,253}$"
IMPORT_PATTERN = r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)+$"
FILES_PATTERN = r"^[^/~\x00-\x1f][^\x00-\x1f]*$"
_CREDENTIALS_IN_URL = re.compile(r"://[^/?#]*@")


def check_unique(names: tuple[str, ...]) -> tuple[str, ...]:
    for index, name in enumerate(names):
        if name in names[:index]:
            raise ValueError(f"'{name}' is listed twice")
    return names


def _check_files(pattern: str) -> str:
    if not re.fullmatch(FILES_PATTERN, pattern) or ".." in pattern.split("/"):
        raise ValueError(
            f"'{pattern}' is no path from the folder of config.yaml to a file in it or below; write e.g. "
            "teams/*.yaml"
        )
    if "**" in pattern:
        raise ValueError(f"'{pattern}': write one * for each folder, e.g. teams/*/*.yaml")
    return pattern


def _check_url(url: str) -> str:
    if _CREDENTIALS_IN_URL.search(url):
        raise ValueError(
            "the URL holds a user or password (not shown here); give credentials to the storage library "
            "through its environment variables"
        )
    return url


def _check_host(host: str) -> str:
    """A name, an IPv4 address or an IPv6 address without brackets."""
    name = host.strip("[]") if host.startswith("[") else host
    if not re.fullmatch(HOST_PATTERN, name) or (name.count(":") == 1):
        raise ValueError(
            f"'{host}' is not a host; write its name or address only, e.g. api.example.org or ::1, "
            "and the port under `port`"
        )
    return name


def _check_import_path(path: str) -> str:
    if not re.fullmatch(IMPORT_PATTERN, path, re.ASCII):
        raise ValueError(
            f"'{path}' is not the import path of a class; write e.g. "
            "airflow.providers.smtp.notifications.smtp.SmtpNotifier"
        )
    return path


def _as_moment(value: object, info: ValidationInfo) -> object:
    """A date or time, in UTC. Without a zone it is in the section's `timezone`, never in the machine's."""
    zone = ZoneInfo(info.data.get("timezone", schedules.UTC_NAME))
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value.strip())
        except ValueError as error:
            raise ValueError(f"'{value}' is not a date or time; write e.g. 2026-01-31") from error
    if isinstance(value, date) and not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day)
    if not isinstance(value, datetime):
        return value
    try:
        return (value if value.tzinfo else value.replace(tzinfo=zone)).astimezone(UTC)
    except OverflowError as error:
        raise ValueError("the date is out of range; write e.g. 2026-01-31") from error


_DURATION_SCHEMA = WithJsonSchema({"type": "string", "pattern": durations.PATTERN})
_AS_TEXT = PlainSerializer(durations.format_duration, return_type=str)
Duration = Annotated[timedelta, BeforeValidator(durations.parse_duration), _AS_TEXT, _DURATION_SCHEMA]
PositiveDuration = Annotated[
    timedelta, BeforeValidator(durations.parse_positive_duration), _AS_TEXT, _DURATION_SCHEMA
]
Text = Annotated[str, StringConstraints(min_length=1)]
Line = Annotated[str, StringConstraints(pattern=LINE_PATTERN, max_length=500)]
ColumnName = Annotated[str, StringConstraints(min_length=1, max_length=255)]
ColumnNames = Annotated[tuple[ColumnName, ...], AfterValidator(check_unique)]
SomeColumnNames = Annotated[tuple[ColumnName, ...], Field(min_length=1), AfterValidator(check_unique)]
ConnectionId = Annotated[
    str, AfterValidator(check_connection), WithJsonSchema({"type": "string", "pattern": CONNECTION_PATTERN})
]
Query = Annotated[str, AfterValidator(check_query), WithJsonSchema({"type": "string", "minLength": 1})]
Table = Annotated[
    str, AfterValidator(check_table), WithJsonSchema({"type": "string", "pattern": TABLE_PATTERN})
]
FilePattern = Annotated[
    str, AfterValidator(_check_files), WithJsonSchema({"type": "string", "pattern": FILES_PATTERN})
]
FilePatterns = Annotated[tuple[FilePattern, ...], AfterValidator(check_unique)]
# The pattern is checked below, where the message can name the file.
Sha256 = Annotated[str, WithJsonSchema({"type": "string", "pattern": SHA256_PATTERN})]
Url = Annotated[Text, AfterValidator(_check_url)]
Tag = Annotated[str, StringConstraints(min_length=1, max_length=100)]  # the length of Airflow's column
Moment = Annotated[
    AwareDatetime,
    BeforeValidator(_as_moment),
    WithJsonSchema({"type": "string", "pattern": TIME_PATTERN}),
]
TimeZone = Annotated[
    str,
    AfterValidator(schedules.check_time_zone),
    WithJsonSchema({"type": "string", "pattern": TIME_ZONE_PATTERN}),
]
Schedule = Annotated[
    schedules.Schedule | None,
    PlainValidator(schedules.parse_schedule),
    PlainSerializer(schedules.format_schedule),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "minLength": 1},
                {"type": "array", "items": {"type": "string", "minLength": 1}, "minItems": 1},
                {"type": "null"},
            ]
        }
    ),
]
PeriodicSchedule = Annotated[
    schedules.PeriodicSchedule | None,
    PlainValidator(schedules.parse_periodic_schedule),
    PlainSerializer(schedules.format_schedule),
    WithJsonSchema({"anyOf": [{"type": "string", "minLength": 1}, {"type": "null"}]}),
]
Host = Annotated[
    Text, AfterValidator(_check_host), WithJsonSchema({"type": "string", "pattern": HOST_PATTERN})
]
ImportPath = Annotated[
    str, AfterValidator(_check_import_path), WithJsonSchema({"type": "string", "pattern": IMPORT_PATTERN})
]
