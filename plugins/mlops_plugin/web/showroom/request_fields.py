"""What a request to the Showroom names: a model, cases by their keys, the fields of a form."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any
from urllib.parse import parse_qsl

from fastapi import Depends, HTTPException, Query, Request

from mlops_plugin.config.schema import ModelConfig
from mlops_plugin.serving.case_paging import Place
from mlops_plugin.serving.cases import MAX_PAGE_ROWS, CaseView
from mlops_plugin.serving.curves import Categories, Curve
from mlops_plugin.serving.run import Showroom
from mlops_plugin.serving.wanted import Wanted
from mlops_plugin.web.languages.translation import gettext as _
from mlops_plugin.web.languages.written_values import format_count
from mlops_plugin.web.shared_site import SiteDep
from mlops_plugin.web.showroom.cases import PAGE_SIZES
from mlops_plugin.web.showroom.what_if_fields import changes_of
from mlops_plugin.web.visible import VisibleDep
from mlops_plugin.web.well_formed import ColumnName, KeyText, Search, check_fields, parse_key

_MAX_FORM_BYTES = 1 << 20

Form = list[tuple[str, str]]


def readable_model(seen: VisibleDep, name: str) -> ModelConfig:
    """The model of that name, for a user who may read its DAG."""
    return seen.model(name)


def runnable_model(seen: VisibleDep, name: str) -> ModelConfig:
    """The model of that name, for a user who may trigger its DAG."""
    return seen.runnable(name)


Model = Annotated[ModelConfig, Depends(readable_model)]
RunnableModel = Annotated[ModelConfig, Depends(runnable_model)]


def showroom(site: SiteDep) -> Showroom:
    """What runs models."""
    return Showroom(site.deployment(), site.event_store(), site.model_pool(), site.case_queries)


ShowroomDep = Annotated[Showroom, Depends(showroom)]


async def submitted(request: Request) -> Form:
    """The fields of a form, in order."""
    body = await request.body()
    if len(body) > _MAX_FORM_BYTES:
        raise HTTPException(
            413, _("the form is too large; send at most %(bytes)s bytes", bytes=format_count(_MAX_FORM_BYTES))
        )
    form = parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True)
    check_fields(form)
    return form


def wanted_of(form: Annotated[Form, Depends(submitted)]) -> Wanted:
    """The chosen cases, the changes, and the curve.

    `curve` names a feature, `curve.low` and `curve.high` its range, or each `curve.value` a category of it;
    `continues` names an earlier what-if.
    """
    keys = [key_of(value) for name, value in form if name == "key"]
    if not keys:
        raise HTTPException(422, _("no case is chosen; choose at least one"))
    fields = dict(form)
    categories = tuple(value for name, value in form if name == "curve.value")
    curve = _curve_of(fields, categories)
    return Wanted(keys=keys, changes=changes_of(form), curve=curve, continues=fields.get("continues") or None)


def _curve_of(fields: Mapping[str, str], categories: tuple[str, ...]) -> Curve | Categories | None:
    if not fields.get("curve"):
        return None
    if categories:
        return Categories(fields["curve"], categories)
    low, high = fields.get("curve.low", ""), fields.get("curve.high", "")
    try:
        return Curve(fields["curve"], float(low), float(high))
    except ValueError:
        raise HTTPException(
            422, _("'%(low)s' to '%(high)s' is no range of numbers", low=low[:100], high=high[:100])
        ) from None


WantedDep = Annotated[Wanted, Depends(wanted_of)]


def key_of(text: str) -> tuple[Any, ...]:
    """The key that a form or link carries as a JSON array."""
    values = parse_key(text)
    if values is None:
        raise HTTPException(
            422, _("'%(key)s' is not a key; a key is a JSON array of its columns' values", key=text[:100])
        )
    return values


def place_of(after: str, before: str) -> Place | None:
    """Where a page of cases begins, in the text that `place_text` made; None for the first page."""
    text = after or before
    if not text:
        return None
    is_null, *key = key_of(text) or (None,)
    if not isinstance(is_null, bool):
        raise HTTPException(
            422,
            _(
                "'%(place)s' is not a position in the list of cases; start with the first page",
                place=text[:100],
            ),
        )
    return Place(tuple(key), is_null, is_backwards=not after)


def case_view(
    search: Search = "",
    sort: ColumnName | None = None,
    descending: bool = False,
    after: KeyText = "",
    before: KeyText = "",
    page_rows: Annotated[int, Query(ge=1, le=MAX_PAGE_ROWS)] = PAGE_SIZES[0],
) -> CaseView:
    """The page of cases that an address names."""
    return CaseView(search, sort or None, descending, place_of(after, before), page_rows)


View = Annotated[CaseView, Depends(case_view)]


def shown_key(key: tuple[Any, ...]) -> str:
    """A key for people."""
    return " / ".join(map(str, key))
