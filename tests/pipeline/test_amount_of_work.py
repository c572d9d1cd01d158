"""A dispatch asks its servers no more than it must: these numbers grow only on purpose.

They are counted by the servers. Fewer is progress: write the new number down. More needs a reason.
"""

from __future__ import annotations

import pytest

from support.servers import Server, ServerDatabase
from support.statement_log import bytes_received, logged_statements
from support.ways_in import WayIn, way_in
from support.workshop import Workshop

# Requests of one dispatch of few rows, mode upsert, whose table is there already: to the source, to the sink.
REQUESTS = {
    # Whether the sink is a view, and which columns its rows have, is asked of the catalogue; whether a source
    # may be read while others write, of MySQL's session. Which columns, once more under the lock:
    # somebody may have altered the table meanwhile.
    "odbc-mariadb": (18, 52),
    "mysql": (7, 35),
    # A long statement, as that about other dispatches, goes on its own and not with a savepoint.
    "odbc-postgres": (14, 45),
    "postgres": (10, 33),
}
# Requests of the same dispatch to its event store.
EVENT_STORE_REQUESTS = 105
# What one more row of (id, prediction, two probabilities, the dispatch's number) sends to the server; with
# the dispatch's id, model, artifact and time in place of the number it was four times as much.
BYTES_PER_ROW = {"odbc-mariadb": 39, "mysql": 43}


def prepare(workshop: Workshop, name: str, request: pytest.FixtureRequest) -> tuple[WayIn, WayIn]:
    source, sink = (way_in(name, request, workshop.folder) for _ in range(2))
    source.execute(
        "CREATE TABLE customers (id INT PRIMARY KEY, a DOUBLE PRECISION, b DOUBLE PRECISION, "
        "c DOUBLE PRECISION)"
    )
    add_rows(source, range(1, 4))
    workshop.connections |= {"source": source.airflow_connection, "sink": sink.airflow_connection}
    return source, sink


def add_rows(source: WayIn, ids: range) -> None:
    source.fill("customers", [(row, 0.5, 0.25, -1.0) for row in ids])


def database_of(way: WayIn) -> ServerDatabase:
    assert way.server is not None
    return way.server


@pytest.mark.parametrize("name", REQUESTS)
def test_requests_of_a_dispatch_to_its_databases(
    name: str, workshop: Workshop, request: pytest.FixtureRequest
) -> None:
    source, sink = prepare(workshop, name, request)
    server: Server = request.getfixturevalue("postgres" if "postgres" in name else "mariadb")
    with workshop.entered():
        workshop.run(workshop.dispatch())
        with logged_statements(server) as log:
            workshop.run(workshop.dispatch())
    found = tuple(log.count(database_of(way)) for way in (source, sink))
    assert found == REQUESTS[name], log.by_database


@pytest.mark.parametrize("name", ["odbc-mariadb", "mysql"])
def test_no_question_to_the_catalogue_opens_the_tables_of_others(
    name: str, workshop: Workshop, request: pytest.FixtureRequest, mariadb: Server
) -> None:
    _, sink = prepare(workshop, name, request)
    with workshop.entered(), logged_statements(mariadb):
        workshop.run(workshop.dispatch())
    asked = mariadb.administration.rows(
        "SELECT DISTINCT CONVERT(argument USING utf8mb4) FROM mysql.general_log"
        " WHERE command_type IN ('Execute', 'Query') AND argument LIKE '%FROM information_schema.%'"
        " AND argument NOT LIKE '%mysql.general_log%'"
    )
    plans = {question: database_of(sink).rows(f"EXPLAIN {question}") for (question,) in asked}
    assert len(plans) >= 4
    assert [question for question, plan in plans.items() if "all databases" in str(plan)] == []


def test_requests_of_a_dispatch_to_its_event_store(workshop: Workshop, mariadb: Server) -> None:
    events = mariadb.new_database()
    workshop.connections["events"] = events.airflow_uri()
    with workshop.ready():
        workshop.run(workshop.dispatch())
        with logged_statements(mariadb) as log:
            workshop.run(workshop.dispatch())
    assert log.count(events) == EVENT_STORE_REQUESTS, log.by_database


@pytest.mark.parametrize("name", BYTES_PER_ROW)
def test_bytes_that_one_more_row_sends(
    name: str, workshop: Workshop, request: pytest.FixtureRequest, mariadb: Server
) -> None:
    source, _ = prepare(workshop, name, request)
    more = 1_000
    sent = []
    with workshop.entered():
        for rows in (1, more, 2 * more):  # the first makes the sink
            source.execute("DELETE FROM customers")
            add_rows(source, range(1_000, 1_000 + rows))
            dispatch = workshop.dispatch()
            workshop.run_steps(dispatch, "collect", "log", "infer")
            before = bytes_received(mariadb)
            workshop.run_steps(dispatch, "persist")
            sent.append(bytes_received(mariadb) - before)
    assert round((sent[2] - sent[1]) / more) == BYTES_PER_ROW[name]
