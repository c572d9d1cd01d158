"""The first predictions of a dispatch come from any sink, few and in time, or not at all."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from mlops_plugin.errors import ConnectionUnusable, DatabaseError
from mlops_plugin.pipeline.writing import predictions
from mlops_plugin.pipeline.writing.predictions import first_predictions
from support.ways_in import WayIn
from support.workshop import Workshop

OURS, THEIRS = "11111111-ours", "22222222-theirs"


@pytest.fixture
def sink(way: WayIn, workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> WayIn:
    """Each way into a database in turn as the sink of the workshop's model, with rows of two dispatches."""
    spec = way.spec
    values = {
        "conn_type": spec.conn_type,
        "host": spec.host,
        "port": spec.port,
        "login": spec.login,
        "password": spec.password,
        "schema": spec.schema,
        "extra": json.dumps(dict(spec.extra)),
    }
    monkeypatch.setenv("AIRFLOW_CONN_SINK", json.dumps(values))
    text = "TEXT" if way.engine != "mysql" else "VARCHAR(80) CHARACTER SET utf8mb4"
    way.execute(
        f"CREATE TABLE churn_predictions (id BIGINT, prediction {text}, dispatch_id VARCHAR(36))",
        *(
            f"INSERT INTO churn_predictions VALUES ({n}, {value}, '{OURS if n % 2 else THEIRS}')"
            for n, value in enumerate(["'größe'", "'<b>'", "NULL", "'x'", "'y'", "'z'"])
        ),
    )
    return way


@pytest.mark.parametrize(("limit", "expected"), [(2, 2), (20, 3)])
def test_only_its_own_rows_and_no_more_than_asked(
    sink: WayIn, workshop: Workshop, limit: int, expected: int
) -> None:
    found = first_predictions(workshop.deployment, workshop.model(), OURS, limit=limit, timeout_s=30)
    assert (found.table, found.columns) == ("churn_predictions", ["id", "prediction", "dispatch_id"])
    assert len(found.rows) == expected
    assert {row[2] for row in found.rows} == {OURS}
    if limit == 20:
        assert sorted(row[:2] for row in found.rows) == [[1, "<b>"], [3, "x"], [5, "z"]]


def test_an_id_is_a_value_and_never_sql(sink: WayIn, workshop: Workshop) -> None:
    hostile = "' OR '1'='1"
    found = first_predictions(workshop.deployment, workshop.model(), hostile, limit=9, timeout_s=30)
    assert (found.columns[0], found.rows) == ("id", [])


def test_what_opening_says_is_said(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AIRFLOW_CONN_SINK")
    with pytest.raises(ConnectionUnusable, match="'sink'"):
        first_predictions(workshop.deployment, workshop.model(), OURS, limit=9, timeout_s=30)


@pytest.fixture
def silence(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A sink whose server accepts connections and never says a word."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(20)
        monkeypatch.setenv("AIRFLOW_CONN_SINK", f"postgres://a:b@127.0.0.1:{listener.getsockname()[1]}/c")
        yield
    for thread in threading.enumerate():
        if thread.name == "rows of churn_predictions":
            thread.join(60)  # it has a place that the next test may want


def test_a_silent_sink_is_given_up_in_time_and_only_a_few_wait_for_it(
    silence: None, workshop: Workshop
) -> None:
    deployment, model = workshop.deployment, workshop.model()
    said = []
    for _ in range(6):
        with pytest.raises(DatabaseError) as raised:
            first_predictions(deployment, model, OURS, limit=9, timeout_s=0.2)
        said.append(raised.value.driver_says)
    assert said[0] == "no answer within 0.2 s"
    assert said[-1] != said[0]
    assert "earlier reads" in said[-1]


def test_a_read_that_was_answered_is_in_nobodys_way(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Slow(threading.BoundedSemaphore):
        def release(self, n: int = 1) -> None:
            time.sleep(0.1)
            super().release(n)

    monkeypatch.setattr(predictions, "_places", Slow(1))
    workshop.run(workshop.dispatch())
    for _ in range(2):
        first_predictions(workshop.deployment, workshop.model(), OURS, limit=9, timeout_s=60)
