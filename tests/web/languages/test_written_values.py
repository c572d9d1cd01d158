"""Numbers, times and sentences as each language writes them; the digits are the same in all."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from mlops_plugin.formatting import MISSING
from mlops_plugin.sentences import Sentence
from mlops_plugin.web.axes import tick_words
from mlops_plugin.web.languages import written_values as written
from mlops_plugin.web.languages.translation import current_code, ngettext, speaking, translate, word_of

MINUTES_5 = timedelta(minutes=5)


@pytest.mark.parametrize(
    ("write", "value", "english", "portuguese"),
    [
        (written.format_count, 1_234_567, "1,234,567", "1.234.567"),
        (written.format_count, None, MISSING, MISSING),
        (written.format_number, 1234.4, "1,234", "1.234"),
        (written.format_number, 0.001234, "0.001234", "0,001234"),
        (written.format_number, 1.5e9, "1.5e+09", "1,5e+09"),
        (written.format_duration, 0.25, "0.25 s", "0,25 s"),
        (written.format_latency, 1.2345, "1,234.5 ms", "1.234,5 ms"),
        (written.format_share, 0.123, "12.3%", "12,3%"),
        (written.format_availability, 0.9999, "99.9 %", "99,9 %"),
        (written.format_value, 1.5, "1.5", "1,5"),
        (written.format_value, Decimal("-1234.50"), "-1234.50", "-1234,50"),
        (written.format_value, 1234, "1234", "1234"),
        (written.format_value, "1.5", "1.5", "1.5"),
        (written.format_value, math.inf, "inf", "inf"),
        (written.format_value, "1.5" * 10**6, "1.5" * 166 + "1.…", "1.5" * 166 + "1.…"),
        (written.format_value, datetime(2026, 3, 1), "2026-03-01T00:00:00", "2026-03-01T00:00:00"),
        (written.format_cell, 1.5, "1.5", "1,5"),
        (written.format_cell, "1.5", "1.5", "1.5"),
        (written.format_distance, MINUTES_5, "in 5 min", "em 5 min"),
        (written.format_distance, -MINUTES_5, "5 min ago", "há 5 min"),
    ],
)
def test_a_value_is_written_in_the_language(
    write: Callable[[Any], str], value: Any, english: str, portuguese: str
) -> None:
    assert write(value) == english
    with speaking("pt"):
        assert write(value) == portuguese


def test_axes_name_days_and_months_in_the_language() -> None:
    days = [datetime(2026, 2, day, tzinfo=UTC) for day in (1, 2)]
    months = [datetime(2026, month, 1, tzinfo=UTC) for month in (2, 3)]
    assert [*tick_words(days), *tick_words(months)] == ["Feb 1", "Feb 2", "Feb 2026", "Mar 2026"]
    with speaking("pt"):
        assert [*tick_words(days), *tick_words(months)] == [
            "1 de fev.",
            "2 de fev.",
            "fev. de 2026",
            "mar. de 2026",
        ]


def test_schedules_are_said_in_the_language() -> None:
    assert written.describe_cron("30 8 * * 1-5") == "at 08:30 AM, Monday through Friday"
    with speaking("pt"):
        assert written.describe_cron("30 8 * * 1-5") == "às 08:30, de segunda-feira a sexta-feira"
        assert written.describe_cron("0 0 1 3 *") == "às 00:00, no dia 1 do mês, somente em março"


def test_a_sentence_of_a_layer_below_is_english_until_a_page_translates_it() -> None:
    why = Sentence("running for %(time)s", time="100 %(x)s")
    late = Sentence("%(running)s; it started %(time)s late", running=why, time="5 min")
    assert late == translate(late) == "running for 100 %(x)s; it started 5 min late"
    assert type(str(late)) is str  # drivers of databases know no other type
    with speaking("pt"):
        assert translate(late) == "em execução há 100 %(x)s; começou com 5 min de atraso"
        assert translate("100 % of it") == "100 % of it"


def test_words_and_plurals_are_said_in_the_language() -> None:
    with speaking("pt"):
        assert word_of("succeeded") == "sucesso"
        assert word_of("of my own") == "of my own"
        assert ngettext("%(number)s row", "%(number)s rows", 1) == "1 linha"
        assert ngettext("%(number)s row", "%(number)s rows", 2) == "2 linhas"
    assert ngettext("%(number)s row", "%(number)s rows", 1) == "1 row"


def test_a_language_ends_with_its_request_even_if_that_fails() -> None:
    with pytest.raises(KeyError), speaking("pt"):
        raise KeyError
    assert current_code() == "en"


def test_a_thread_of_another_request_speaks_its_own_language() -> None:
    heard: list[str] = []
    with speaking("pt"):
        other = threading.Thread(target=lambda: heard.append(word_of("succeeded")))
        other.start()
        other.join()
    assert heard == ["succeeded"]
