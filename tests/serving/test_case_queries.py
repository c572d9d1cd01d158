"""Slow queries for the cases of one model leave threads to the others, and to Airflow."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

import pytest

from mlops_plugin.config.schema import ModelConfig
from mlops_plugin.errors import ServingBusy
from mlops_plugin.serving import case_queries
from mlops_plugin.serving.case_queries import MOST_REQUESTS, CaseQueries
from mlops_plugin.serving.cases import CaseView
from mlops_plugin.web.error_status import headers_of, status_of
from support.workshop import Workshop


@contextlib.contextmanager
def _held(queries: CaseQueries, workshop: Workshop, model: ModelConfig, count: int) -> Iterator[None]:
    """So many queries of the model are under way."""
    with contextlib.ExitStack() as stack:
        for _ in range(count):
            stack.enter_context(queries.open(model, workshop.deployment))
        yield


@pytest.mark.slow
def test_a_model_with_slow_queries_is_refused_more_and_others_are_served(workshop: Workshop) -> None:
    workshop.add_model("other")
    queries, slow = CaseQueries(), workshop.model()
    with _held(queries, workshop, slow, 3):
        with pytest.raises(ServingBusy, match=r"models\.churn.*showroom\.cases") as error:
            queries.open(slow, workshop.deployment).__enter__()
        assert (status_of(error.value), headers_of(error.value)) == (429, {"Retry-After": "5"})
        with queries.open(workshop.model("other"), workshop.deployment) as cases:
            assert cases.page(CaseView()).rows.num_rows == 5
    with queries.open(slow, workshop.deployment) as cases:
        assert cases.page(CaseView()).rows.num_rows == 5


def test_all_models_together_take_only_some_threads(workshop: Workshop) -> None:
    names = [f"model_{number}" for number in range(6)]
    for name in names:
        workshop.add_model(name)
    queries = CaseQueries()
    models = [workshop.model(name) for name in names]
    with contextlib.ExitStack() as stack:
        for number in range(MOST_REQUESTS):
            stack.enter_context(_held(queries, workshop, models[number // 3], 1))
        with pytest.raises(ServingBusy):
            queries.open(models[-1], workshop.deployment).__enter__()
    with queries.open(models[-1], workshop.deployment) as cases:
        assert cases.page(CaseView()).rows.num_rows == 5


def test_a_query_waits_a_moment_for_another_to_end(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(case_queries, "_WAIT_S", 60.0)  # a busy machine's moment
    queries, model = CaseQueries(), workshop.model()
    begun, end = threading.Event(), threading.Event()

    def hold() -> None:
        with _held(queries, workshop, model, 3):
            begun.set()
            end.wait(60)

    holder = threading.Thread(target=hold)
    holder.start()
    assert begun.wait(60)
    threading.Timer(0.2, end.set).start()
    with queries.open(model, workshop.deployment) as cases:
        assert cases.page(CaseView()).rows.num_rows == 5
    holder.join(60)


def test_what_no_page_waits_for_leaves_places_to_pages(workshop: Workshop) -> None:
    workshop.add_model("other")
    queries, model = CaseQueries(), workshop.model()
    with contextlib.ExitStack() as stack:
        for name in ("churn", "churn", "other", "other"):
            aside = queries.open(workshop.model(name), workshop.deployment, is_aside=True)
            stack.enter_context(aside)
        with pytest.raises(ServingBusy):
            queries.open(model, workshop.deployment, is_aside=True).__enter__()
        with queries.open(model, workshop.deployment) as cases:
            assert cases.page(CaseView()).rows.num_rows == 5
    with queries.open(model, workshop.deployment, is_aside=True) as cases:
        assert cases.count("") == 5
