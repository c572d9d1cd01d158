"""Which tables a watermark tells of, by the query of the configuration."""

from __future__ import annotations

import pytest

from mlops_plugin.pipeline.reading.mark_scope import scope_of
from support.workshop import Workshop


@pytest.mark.parametrize(
    ("query", "tables"),
    [
        ("SELECT id, a FROM Customers c JOIN shop.orders USING (id)", ("customers", "shop.orders")),
        ("WITH new AS (SELECT * FROM a) SELECT * FROM new", ("a",)),
        ("SELECT * FROM `a` WHERE x = (SELECT MAX(x) FROM `b`)", ("a", "b")),
        ("SELECT * FROM events_{{ ds_nodash }} WHERE d < '{{ ts }}'", ("events_x",)),
        ("SELECT * FROM {% if x %}a{% else %}b{% endif %}", ()),
        ("SELECT * FROM", ()),
    ],
)
def test_tables_are_those_of_the_query_whatever_a_template_prints(
    workshop: Workshop, query: str, tables: tuple[str, ...]
) -> None:
    workshop.add_model("churn", source={"query": query})
    assert scope_of(workshop.model()).tables == tables
