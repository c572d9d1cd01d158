"""Says where in the user's own query a database found a mistake, and leaves out the SQL around it.

Databases name the table, the column or the words that they stumble over, each in its own way; some add a line
number, which counts the lines of our statement around the query.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence

from mlops_plugin.config.schema import ModelConfig
from mlops_plugin.errors import DatabaseError

_OF_A_QUERY = ("running the query", "describing the query")
# What the drivers for SQLite and PostgreSQL add: the whole statement.
_STATEMENT = re.compile(
    r"\.?\s(?:query|Query was): (?=SELECT|WITH|VALUES|\(|/\*|--).*?(?=(?:\.\sSQLSTATE: \w+)?$)", re.IGNORECASE
)
_QUOTED_LINE = re.compile(r"\sLINE \d+: (.*?) \^+")
_LINE_NUMBER = re.compile(r"\s(?:at|on) line \d+")
_AROUND = re.compile(r"\s+\)(?: AS)? described (?:LIMIT 0|WHERE 1 = 0)")
# The words that a database stumbled over.
_NAMED = re.compile(
    r"""'([^']+)' | "([^"]+)" | `([^`]+)` | no\ such\ \w+:\ (\S+) | (?:name|FUNCTION)\ (\S+)\ does\ not\ exist
    | function\ ([\w.]+)\(""",
    re.VERBOSE,
)
_MOST_WORDS = 3  # MySQL quotes everything from the mistake to the end


@contextlib.contextmanager
def query_errors(model: ModelConfig, query: str, path: str = "source.query") -> Iterator[None]:
    """Raise what a database says of the rendered query with the line of it, in the configuration if known."""
    try:
        yield
    except DatabaseError as error:
        is_refusal = type(error) is DatabaseError and error.doing in _OF_A_QUERY
        if not is_refusal or error.conn_id != model.source.connection:
            raise
        message = _strip_query(error.driver_says)
        lines = _find_lines(error.driver_says, query)
        places = [_describe_line(model, query, path, line) for line in lines]
        raise DatabaseError(error.conn_id, error.doing, "; ".join([message, *places])) from error


def _strip_query(message: str) -> str:
    """What the driver says, without our SQL and its line numbers."""
    for noise in (_STATEMENT, _QUOTED_LINE, _LINE_NUMBER, _AROUND):
        message = noise.sub("", message)
    return message


def _find_lines(message: str, query: str) -> list[int]:
    """The lines of the query, from 0, that the driver means; several if it names what stands in several."""
    quoted = _QUOTED_LINE.search(message)
    if quoted and (found := _lines_like(quoted[1], query)):
        return found
    message = _QUOTED_LINE.sub("", _STATEMENT.sub("", message))
    for groups in _NAMED.findall(message):
        name = _AROUND.sub("", next(filter(None, groups)))
        for candidate in (name, name.rpartition(".")[2]):
            words = candidate.split()[:_MOST_WORDS]
            if words and (found := _lines_with(words, query)):
                return found
    return []


def _lines_like(text: str, query: str) -> list[int]:
    wanted = " ".join(text.strip(". ").split())
    return [n for n, line in enumerate(query.split("\n")) if wanted and wanted in " ".join(line.split())]


def _lines_with(words: Sequence[str], query: str) -> list[int]:
    text = r"\s+".join(map(re.escape, words))
    found = re.finditer(rf"(?<!\w){text}(?!\w)", query, re.IGNORECASE)
    return sorted({query.count("\n", 0, match.start()) for match in found})


def _describe_line(model: ModelConfig, query: str, path: str, line: int) -> str:
    """`config.yaml:12: FROM customrs`, or the line of the query if its place in the file is not known."""
    text = query.split("\n")[line].strip()
    place = model.line_of_text(path, line, text)
    file, _ = model.place_of(path)
    return f"{file}:{place}: {text}" if file and place else f"line {line + 1} of {path}: {text}"
