"""Which tables a watermark tells of, by the query of the configuration."""

from __future__ import annotations

import pytest

from mlops_plugin.events.details.step_reports import MarkScope
from mlops_plugin.pipeline.reading.mark_scope import is_foreign, scope_of
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


OURS = MarkScope("warehouse", ("public.orders", "shops"), "scores", "churn")


@pytest.mark.parametrize(
    ("scope", "expected"),
    [
        (OURS, False),
        (MarkScope("warehouse", ("orders", "customers"), "scores", "public.churn"), False),
        (MarkScope("***house", ("***",), "***", "***urn"), False),  # the store keeps no secrets
        (MarkScope("warehouse", (), "scores", "churn"), False),
        (MarkScope("eu.warehouse", OURS.tables, "scores", "churn"), True),  # dots in names of connections
        (MarkScope("warehouse", OURS.tables, "eu.scores", "churn"), True),
        (MarkScope("staging", OURS.tables, "scores", "churn"), True),
        (MarkScope("warehouse", ("old.orders", "myshops"), "scores", "churn"), True),
        (MarkScope("warehouse", OURS.tables, "other", "churn"), True),
        (MarkScope("warehouse", OURS.tables, "scores", "mychurn"), True),
    ],
)
def test_scopes_are_apart_only_for_certain(scope: MarkScope, expected: bool) -> None:
    assert is_foreign(scope, OURS) is expected
