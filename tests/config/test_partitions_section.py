"""`source.partitions`: what may stand there, and with what."""

from __future__ import annotations

from typing import Any

import pytest

from mlops_plugin.errors import ConfigError
from support.workshop import Workshop


@pytest.mark.parametrize(
    ("partitions", "problem"),
    [
        ({"count": 4}, "needs one of column, hash and predicates, found none of them"),
        ({"column": "id", "hash": ["id"], "count": 4}, "found column and hash"),
        ({"column": "id"}, "column needs a count; write e.g. count: 8"),
        ({"predicates": ["id > 1"], "count": 4}, "remove count"),
        ({"predicates": []}, "1 to 999 conditions, found 0"),
        ({"column": "id", "count": 0}, "count"),
        ({"colum": "id", "count": 4}, "did you mean 'column'"),
    ],
)
def test_wrong_partitions_are_refused_in_words(
    workshop: Workshop, partitions: dict[str, Any], problem: str
) -> None:
    workshop.add_model("churn", source={"partitions": partitions})
    with pytest.raises(ConfigError, match="partitions") as refused:
        workshop.loaded.model("churn")
    assert problem in str(refused.value)


def test_partitions_are_tasks_so_the_steps_do_not_run_together(workshop: Workshop) -> None:
    partitions = {"column": "id", "count": 2}
    workshop.add_model("churn", source={"partitions": partitions}, execution="together")
    (problem,) = workshop.loaded.broken["churn"]
    assert problem.path == "models.churn.execution"


def test_a_cursor_does_not_go_with_partitions(workshop: Workshop) -> None:
    workshop.add_model(
        "churn", source={"partitions": {"column": "id", "count": 2}, "cursor": {"column": "id"}}
    )
    with pytest.raises(ConfigError, match=r"partitions.*cursor"):
        workshop.loaded.model("churn")
