"""No page, script or presenter holds a text that cannot be translated."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlops_plugin import web
from web.languages.raw_texts import in_presenter, in_script, in_template, of_page

PACKAGE = Path(next(iter(web.__path__))).parent
FINDERS = {".html": in_template, ".js": in_script, ".py": in_presenter}
# Modules below the pages that make sentences for them.
SPEAKING = ("monitoring/model_state.py", "pipeline/reading/mark_keeping.py")
# For programs, programmers and translators.
SILENT = (
    *("web/showroom/api.py", "web/turns.py", "web/error_status.py"),
    "web/languages/extraction.py",
)
# Names of classes, keys and headers; words that `word_of` translates; errors that the log has as well. A text
# that is no longer there fails the test, too.
KNOWN = {
    "monitoring/model_state.py": ["broken configuration", "not in Airflow"],
    "pipeline/reading/mark_keeping.py": [
        "models.￼: it has no source.cursor: each dispatch reads all rows of its query, and "
        "there is no watermark"
    ],
    "web/badges.py": ["no end recorded", "timed out", "broken configuration", "not in Airflow"],
    "web/dispatches/static/dispatches.js": ["notice notice-error", "Escape", "notice ￼"],
    "web/dispatches/story.py": ["no end recorded"],
    "web/monitor/templates/status.html": ['disabled aria-describedby="not-yours"￼ ￼￼'],
    "web/showroom/results.py": [" (found ￼)"],  # of a CSV file
    "web/showroom/questions.py": ["Location"],
    "web/showroom/runs.py": ["Location"],
    "web/showroom/static/drawing.js": ["Enter"],  # keys
    "web/showroom/static/showroom.js": ["notice notice-error"],
    "web/static/charts.js": ["Enter", "Escape"],
    "web/static/choices.js": ["; Secure"],
    "web/static/keys.js": ["← → Enter"],
    "web/static/page.js": ["Invalid JWT token"],  # Airflow's
    "web/svg.py": ["￼-title ￼-desc"],
    "web/visible.py": [
        "this entry conflicts with a model that you may not see; ask an administrator",
        "there is no model '￼', or you may not read its DAG",
    ],
}


def found_in(file: Path) -> list[str]:
    return list(dict.fromkeys(FINDERS[file.suffix](file.read_text())))


def test_every_text_of_the_pages_can_be_translated() -> None:
    files = [file for file in sorted((PACKAGE / "web").rglob("*")) if file.suffix in FINDERS]
    names = [*(file.relative_to(PACKAGE).as_posix() for file in files), *SPEAKING]
    found = {name: found_in(PACKAGE / name) for name in names if name not in SILENT}
    assert {name: texts for name, texts in found.items() if texts} == KNOWN


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("<p>{{ _('Good day') }}</p>", []),
        ("<p>Good day</p>", ["Good day"]),
        ("<p>{{ count }} rows</p>", ["￼ rows"]),
        ("<p>{% trans %}Good <b>day</b>{% endtrans %}</p>", []),
        ("{% if day %}<b title='Good {{ day }}'></b>{% endif %}", ["title=Good ￼"]),
        ("<b aria-label=\"{{ _('Good day') }}\">3 <code>models:</code> Showroom</b>", []),
        ("{{ 'Good day' if day else _('Good night') }}", ["Good day"]),
        ("{{ _('Good %(day)s', day='fine day') }}", ["fine day"]),
        ("{% if day == 'no address' %}1{% endif %}", []),
    ],
)
def test_a_template_is_seen_through(source: str, found: list[str]) -> None:
    assert in_template(source) == found


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ('"use strict"; say(gettext("Good day"))', []),
        ('say("Good day")', ["Good day"]),
        ("say(`${count} chosen`)", ["￼ chosen"]),
        ('say(gettext(good ? `fine` : "x", { day: "Good day" }), "Bad day")', ["Bad day"]),
        ('ngettext("%(number)s day", "%(number)s days", 2); place.closest("tr")', []),
    ],
)
def test_a_script_is_seen_through(source: str, found: list[str]) -> None:
    assert in_script(source) == found


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ('"""Good day."""\n_("Good day"); _log.error("a bad day")', []),
        ('say("Good day")', ["Good day"]),
        ('say(f"{count} days")', ["￼ days"]),
        ("say(f\"{ngettext('one day', 'more days', count)}\")", []),
        ('_(f"{count} days")', ["this is no literal: _(f'{count} days')"]),
        ('_("Good %(day)s", day="fine day")', ["fine day"]),
        ('raise HTTPException(404, "no such day")', ["no such day"]),
        ("def day(kind: Literal['Good day']) -> bool: return kind == 'Good day'", []),
    ],
)
def test_a_presenter_is_seen_through(source: str, found: list[str]) -> None:
    assert in_presenter(source) == found


def test_a_page_is_heard_whole() -> None:
    assert of_page("<p title='By day'>Good <b>day</b> 12<script>say it</script></p>") == {
        "title=By day",
        "Good",
        "day",
    }
