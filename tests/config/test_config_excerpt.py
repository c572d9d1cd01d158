"""Single models out of a large or broken file: `only=`, and the models that survive a YAML mistake."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops_plugin.config.excerpt import Excerpts
from mlops_plugin.config.loader import LoadedConfig
from mlops_plugin.errors import ConfigError
from support.random_examples import examples

Load = Callable[..., LoadedConfig]

MODEL = """\
    description: Churn of customers
    tags: [churn, weekly]
    schedule: "5 * * * *"
    docs: |
      # Notes
      models:
        phantom:
          key: [id]
    model:
      format: skops
      uri: models/m.skops
      sha256: a1b2a1b2a1b2a1b2a1b2a1b2a1b2a1b2a1b2a1b2a1b2a1b2a1b2a1b2a1b2a1b2
    key: [customer_id]
    source:
      connection: warehouse
      query: |
        SELECT customer_id, age, *
        FROM customers
        WHERE updated_at >= '{{ data_interval_start }}' AND note <> '#'
    sink:
      connection: warehouse
      table: NAME_predictions
"""


def written(
    *names: str, head: str = "defaults:\n  retries: 3\n", tail: str = "events:\n  path: e.db\n"
) -> str:
    return f"{head}models:\n" + "".join(f"  {name}:\n{MODEL.replace('NAME', name)}" for name in names) + tail


def agree(load: Load, text: str) -> LoadedConfig:
    """`only=` says about every model what the whole file says about it."""
    whole = load(text)
    for name in (*whole.config.models, *whole.broken):
        one = load(text, only=name)
        assert one.config.models.get(name) == whole.config.models.get(name)
        assert one.broken.get(name) == whole.broken.get(name)
        assert {*one.config.models, *one.broken} == {name}
        assert one.config.events == whole.config.events
        assert one.config.defaults == whole.config.defaults
    return whole


def test_an_excerpt_says_what_the_whole_file_says(load: Load) -> None:
    whole = agree(load, written("a", "b", "c.d-e"))

    assert list(whole.config.models) == ["a", "b", "c.d-e"]
    assert Excerpts(written("a", "b")).faithful("b") is not None


def test_an_excerpt_keeps_the_lines(load: Load) -> None:
    text = written("a", "b", "c").replace("table: b_predictions", "table: b_predictions\n      mode: upsrt")
    whole = agree(load, text)

    assert list(whole.config.models) == ["a", "c"]
    assert text.splitlines()[whole.broken["b"][0].line - 1].strip() == "mode: upsrt"  # type: ignore[operator]


@pytest.mark.parametrize(
    "text",
    [
        "models: {a: {retries: 1}, b: 5}\n",
        "models:\n  a: {key: [id]}\n  b: {key: [id]}\n",
        written("a") + "models: {}\n",
        written("a", "b").replace("  b:\n", "  a:\n", 1),
        written("a", "b").replace("  b:\n", "  'a':\n", 1),
        written("a", "b").replace("  b:\n", '  "\\x62":\n', 1),
        written("a", "b").replace("  a:\n", "  a: &a\n").replace("  b:\n", "  b:\n    <<: *a\n"),
        written("a", "b", head="defaults: &d\n  retries: 3\n").replace("  b:\n", "  b:\n    <<: *d\n"),
        written("a", "b").replace("description: Churn of customers", 'description: "x\n  b:\n  y"', 1),
        written("a", "b").replace("description: Churn of customers", "description: 'x\nevents: 5\n  y'"),
        written("a", "b").replace("tags: [churn, weekly]", "tags: [churn,\n  b:\n ]", 1),
        written("a", "b").replace("\n", "\r\n"),
        written("a", "b").replace("\n", "\r"),
        written("a", "b").replace("Churn of", "Churn\x85of"),
        "---\n" + written("a", "b"),
        "%YAML 1.1\n---\n" + written("a", "b"),
        written("a", "b") + "...\n",
        written("on", "1", "b", "~"),
        written("a", "b", tail=""),
        written("a", "b").replace("  a:\n", "  a:   # first\n").replace("  b:\n", "\n# second\n  b:\n"),
        written("a", "b").replace("    ", "     "),
        written("a", "b").replace("sink:\n", "sink:\n      mode: replace\n").replace("a_pred", "b_pred"),
        written("a", "b").replace("\n    key", "\n    KEY", 1),
        written("a", "b")
        .replace("description: Churn", "description: *x Churn", 1)
        .replace("  a:", "  a: &x"),
    ],
)
def test_an_unusual_file_reads_the_same_model_by_model(load: Load, text: str) -> None:
    try:
        agree(load, text)
    except ConfigError:
        for name in ("a", "b"):
            with pytest.raises(ConfigError):
                load(text, only=name)


_SCALARS = st.sampled_from(
    [
        "5",
        "'x'",
        '"y"',
        "x y",
        "|\n      block\n       more",
        ">-\n      folded: x",
        "[a, b]",
        "{a: b}",
        "",
        "*a",
    ]
)
_KEYS = st.sampled_from(["retries", "description", "docs", "owner", "tags", "schedule", "unknown", "on"])
_ENTRIES = st.lists(st.tuples(_KEYS, _SCALARS), max_size=4)
_NAMES = st.sampled_from(["a", "b", "c", "'d'", "e:f", "on", "1", "a.b", "&x g"])


@st.composite
def files(draw: st.DrawFn) -> str:
    """Files that are mostly right, with models in many styles."""
    indent = draw(st.sampled_from(["  ", "   "]))
    lines = [
        draw(st.sampled_from(["", "defaults:\n  retries: 1\n", "# comment\n", "---\n", "events: {}\n"])),
        "models:\n",
    ]
    for name in draw(st.lists(_NAMES, max_size=5)):
        lines.append(f"{indent}{name}:\n")
        body = MODEL.replace("NAME", draw(st.sampled_from(["t", "u", "v"])))
        if draw(st.booleans()):
            body = body.replace("table:", "mode: replace\n      table:")
        lines.append(body)
        lines += [f"    {key}: {value}\n" for key, value in draw(_ENTRIES)]
        lines.append(draw(st.sampled_from(["", "\n", "  # note\n", "# note\n", "\t\n"])))
    lines.append(draw(st.sampled_from(["", "staging: {}\n", "events:\n  path: x\n", "x: y\n"])))
    return "".join(lines)


@settings(max_examples=examples(200), deadline=None)
@given(text=files())
def test_only_agrees_with_the_full_load(load: Load, text: str) -> None:
    try:
        whole = load(text)
    except ConfigError:
        return
    for name in (*whole.config.models, *whole.broken):
        one = load(text, only=name)
        assert one.config.models.get(name) == whole.config.models.get(name)
        assert one.broken.get(name) == whole.broken.get(name)


@st.composite
def damaged_files(draw: st.DrawFn) -> str:
    """A right file after a few careless edits."""
    text = written("a", "b")
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(text)))
        end = min(len(text), start + draw(st.integers(0, 12)))
        inserted = draw(
            st.one_of(
                st.text(max_size=4),
                st.sampled_from(["\t", '"', "'", "\n", ": ", "- ", "{", "]", "&a ", "*a", "!!"]),
            )
        )
        text = text[:start] + inserted + text[end:]
    return text


def _loads_or_complains(load: Load, content: str | bytes) -> None:
    """Anything else than a configuration or a `ConfigError` fails the test by itself."""
    for only in (None, "a"):
        try:
            loaded = load(content, only=only)
        except ConfigError:
            continue
        assert all(loaded.broken.values())


@settings(max_examples=examples(200), deadline=None)
@given(text=damaged_files())
def test_a_damaged_file_loads_or_complains(load: Load, text: str) -> None:
    _loads_or_complains(load, text.encode(errors="surrogatepass"))


@settings(max_examples=examples(150), deadline=None)
@given(content=st.one_of(st.binary(max_size=80), st.text(max_size=80).map(str.encode)))
def test_any_bytes_load_or_complain(load: Load, content: bytes) -> None:
    _loads_or_complains(load, content)


_VALUES = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=6), st.dates(), st.datetimes()
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=6), inner, max_size=3)
    ),
    max_leaves=6,
)


@settings(max_examples=examples(200), deadline=None)
@given(
    where=st.sampled_from(
        [
            "retries",
            "schedule",
            "start_date",
            "retry_delay",
            "tags",
            "owner",
            "key",
            "features",
            "showroom",
            "model",
        ]
    ),
    value=_VALUES,
    text=st.sampled_from(["defaults", "model"]),
)
def test_any_value_anywhere_loads_or_complains(load: Load, where: str, value: object, text: str) -> None:
    plain = yaml.safe_load(written("a"))
    (plain["defaults"] if text == "defaults" else plain["models"]["a"])[where] = value
    _loads_or_complains(load, yaml.safe_dump(plain, allow_unicode=True))


@pytest.mark.parametrize(
    ("mistake", "message"),
    [
        ('    owner: "x', "invalid YAML: "),
        ("\towner: x", "the line is indented with a tab"),
        ("   owner: x", "invalid YAML: "),
        ("    owner: [a", "invalid YAML: "),
        ("    owner: a: b", "invalid YAML: mapping values are not allowed"),
        ("    owner: *nobody", "invalid YAML: found undefined alias"),
        ("    owner: @x", 'a value that begins with @ needs quotes; write owner: "@x"'),
        (
            "    schedule: @hourly # often",
            'a value that begins with @ needs quotes; write schedule: "@hourly"',
        ),
        (
            "    schedule: */5 * * * *",
            'a value that begins with * needs quotes; write schedule: "*/5 * * * *"',
        ),
        (
            '    description: %d "new" customers',
            """a value that begins with % needs quotes; write description: '%d "new" customers'""",
        ),
        ("    tags:\n      - `x`", 'a value that begins with ` needs quotes; write "`x`"'),
        ("    owner: " + "[" * 40, "nested more than 30 levels deep"),
    ],
)
def test_a_yaml_mistake_in_one_model_breaks_only_that_model(load: Load, mistake: str, message: str) -> None:
    first, rest = written("a", "b", "c").split("  b:\n")
    text = f"{first}  b:\n{mistake}\n{rest}"
    loaded = load(text)

    assert list(loaded.config.models) == ["a", "c"]
    (problem,) = loaded.broken["b"]
    lines = text.splitlines()
    assert problem.message.startswith(message)
    assert problem.line
    assert lines.index("  b:") + 1 < problem.line <= lines.index("  c:")
    assert load(text, only="a").config.models == {"a": loaded.config.models["a"]}
    assert load(text, only="b").broken == {"b": (problem,)}


@pytest.mark.parametrize("head", ["defaults: [\n", "defaults:\n\tretries: 1\n", "x: 'y\n"])
def test_a_yaml_mistake_outside_the_models_stops_the_file(load: Load, head: str) -> None:
    with pytest.raises(ConfigError):
        load(written("a", "b", head=head))
    with pytest.raises(ConfigError):
        load(written("a", "b", head=head), only="a")


@pytest.fixture
def thousand() -> str:
    return written(*(f"model_{number}" for number in range(1000)))


def test_one_of_a_thousand_models_costs_a_fraction_of_the_file(load: Load, thousand: str) -> None:
    load(thousand, only="model_5")  # pydantic builds its validators at the first use

    def seconds(text: str, only: str | None = None) -> float:
        started = time.process_time()
        load(text, only=only)
        return time.process_time() - started

    one, whole = min(seconds(thousand, "model_997") for _ in range(3)), seconds(thousand)
    hundred = written(*(f"model_{number}" for number in range(100)))

    assert one < whole / 5
    assert whole < 40 * min(seconds(hundred) for _ in range(3))  # with the models, not with their square
