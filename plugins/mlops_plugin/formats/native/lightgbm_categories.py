"""Which columns had LightGBM's categories of pandas: its text has their lists in order, without names."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from mlops_plugin.errors import FeatureError
from mlops_plugin.formats.features import is_number, is_text

_FEWEST = 3  # categories: many columns are of 0 and 1, and of two categories hardly any are numbers


class LightGBMCategories:
    """What the text of a model says of categories, and the lists that it ends with (None: no such line)."""

    def __init__(self, text: str, lists: list[list[Any]] | None) -> None:
        self._lists = lists
        self._seen = header_of(text).get("feature_infos", "").split(" ")
        self._categorical = _categorical_places(text, self._seen)

    @property
    def lists(self) -> dict[int, list[Any]]:
        """The categories of each column, if the text alone tells whose the lists are."""
        if not self._lists or len(self._lists) != len(self._categorical):
            return {}
        return dict(zip(sorted(self._categorical), self._lists, strict=True))

    def by_place(self, fields: Sequence[pa.Field], dtypes: Mapping[str, str]) -> dict[int, list[Any]]:
        """The categories of each column that has some; `dtypes`: what the configuration says of columns.

        Raises `FeatureError` if nobody can tell whose the lists are.
        """
        if self._lists is None:
            self._require_said(fields, dtypes)
            return {}
        if not self._lists:
            return {}
        texts = {place for place, field in enumerate(fields) if is_text(field.type)}
        # A column of texts had categories. If that leaves none over, others with codes were numbers.
        places = sorted(texts if len(texts) == len(self._lists) else texts | self._categorical)
        found = dict(zip(places, self._lists, strict=False))
        if len(places) != len(self._lists) or not all(
            self._may_be(fields[place], place, categories) for place, categories in found.items()
        ):
            named = ", ".join(f"'{fields[place].name}' ({fields[place].type})" for place in places)
            raise FeatureError(
                f"LightGBM's file has {len(self._lists)} lists of categories and does not record whose they "
                f"are; candidates in the query are {named or 'none'}: cast columns in the query to their "
                "types of training, or write a signature where the model is trained"
            )
        for place, categories in found.items():
            self._require_no_rival(fields, place, categories, {*found, *texts}, dtypes)
        return found

    def _require_no_rival(
        self,
        fields: Sequence[pa.Field],
        place: int,
        categories: list[Any],
        others: set[int],
        dtypes: Mapping[str, str],
    ) -> None:
        """Numbers in a list may be a column's that training had as codes without calling it categorical.

        Its categories were ordered, or `categorical_feature` named other columns only. Raises `FeatureError`.
        """
        count = len(categories)
        if count < _FEWEST or categories == [*range(count)] or isinstance(categories[0], str):
            return
        may_hold = pa.types.is_integer if isinstance(categories[0], int) else is_number
        for rival, (name, kind) in enumerate((field.name, field.type) for field in fields):
            is_made = pa.types.is_null(kind)  # by another step of a pipeline
            are_codes = self._seen[rival] == f"[0:{count - 1}]" and may_hold(kind) and not is_made
            if are_codes and rival not in others and name not in dtypes:
                raise FeatureError(
                    f"LightGBM's file has a list of {count} categories, {categories[:3]} and so on, and does "
                    f"not record whether it is of '{fields[place].name}', or of '{name}', whose numbers in "
                    f"training were 0 to {count - 1}, as codes are; write "
                    f"`model: {{dtypes: {{{name}: number}}}}` if it was no category of pandas, else a "
                    "signature where the model is trained"
                )

    def _may_be(self, field: pa.Field, place: int, categories: list[Any]) -> bool:
        """Whether these can be the categories of a column with the query's type and the codes of training."""
        are_texts = any(isinstance(category, str) for category in categories)
        codes = [float(code) for code in re.findall(r"-?[\d.]+(?:e[+-]?\d+)?", self._seen[place])]
        is_any = pa.types.is_null(field.type)
        return max(codes, default=-1) < len(categories) and (is_any or are_texts == is_text(field.type))

    def _require_said(self, fields: Sequence[pa.Field], dtypes: Mapping[str, str]) -> None:
        """A file without its last line is another tool's, or was cut off: then codes would be mistaken."""
        doubtful = [fields[place].name for place in sorted(self._categorical)]
        doubtful = [name for name in doubtful if name not in dtypes]
        if doubtful:
            raise FeatureError(
                f"LightGBM's file has no line `pandas_categorical`, so nothing tells what the codes of "
                f"{', '.join(map(repr, doubtful))} mean; save the model again with Python, or set "
                f"`model: {{dtypes: {{{doubtful[0]}: integer}}}}` if the query returns the very codes"
            )


def header_of(text: str) -> dict[str, str]:
    """The lines before the first tree."""
    return dict(line.split("=", 1) for line in text.split("\n\n", 1)[0].splitlines() if "=" in line)


def _categorical_places(text: str, seen: Sequence[str]) -> set[int]:
    found = re.search(r"^\[categorical_feature: ([\d,]+)\]$", text, re.MULTILINE)
    places = {int(place) for place in found[1].split(",")} if found else set()
    return places | {place for place, info in enumerate(seen) if info and not info.startswith(("[", "none"))}
