"""`include`: models in files of their own, and what is wrong with such a file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from mlops_plugin.config.included_files import take_stamp
from mlops_plugin.config.loader import LoadedConfig, load_config, load_settings
from mlops_plugin.config.places import Places
from mlops_plugin.errors import ConfigError, UnknownModel

INCLUDE = "include: [teams/*.yaml]\n"
OLD = (1e9, 1e9)  # times of a file
MARKERS = "<<<<<<< ours\n=======\n>>>>>>> theirs\n"


def entry(name: str, *lines: str, table: str | None = None) -> str:
    return (
        f"  {name}:\n"
        "    model: {format: skops, uri: models/m.skops}\n"
        "    key: [id]\n"
        "    source: {connection: warehouse, query: SELECT id FROM t}\n"
        f"    sink: {{connection: warehouse, table: {table or name + '_predictions'}}}\n"
    ) + "".join(f"    {line}\n" for line in lines)


def models(*names: str) -> str:
    return "models:\n" + "".join(map(entry, names))


class Folder:
    """A folder with a config.yaml and other files."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "config.yaml"

    def write(self, files: Mapping[str, str | bytes]) -> None:
        for name, content in files.items():
            file = self.path / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content if isinstance(content, bytes) else content.encode())

    def load(self, files: Mapping[str, str | bytes], only: str | None = None) -> LoadedConfig:
        self.write(files)
        return load_config(self.config, only=only)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folder:
    path = tmp_path / "include"
    path.mkdir()
    monkeypatch.chdir(path)
    return Folder(path)


def places(loaded: LoadedConfig) -> list[tuple[str, int | None, str]]:
    return [(problem.file, problem.line, problem.path) for problem in loaded.problems]


def test_models_come_in_the_order_of_files(folder: Folder) -> None:
    loaded = folder.load(
        {
            "config.yaml": "include: [z.yaml, teams/*.yaml]\n" + models("own"),
            "teams/b.yaml": models("b2", "b1"),
            "teams/a.yaml": models("a"),
            "z.yaml": models("z"),
        }
    )
    assert list(loaded.config.models) == ["own", "z", "a", "b2", "b1"]
    assert not loaded.problems


def test_a_configuration_may_have_models_in_other_files_only(folder: Folder) -> None:
    loaded = folder.load({"config.yaml": INCLUDE, "teams/a.yaml": models("a")})
    assert list(loaded.config.models) == ["a"]


@pytest.mark.parametrize("text", ["include: []\n", "events: {}\n"])
def test_without_other_files_models_are_required(folder: Folder, text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        folder.load({"config.yaml": text})
    assert [problem.path for problem in caught.value.problems] == ["models"]


def test_a_model_is_the_same_in_whichever_file_it_stands(folder: Folder) -> None:
    head = "defaults: {retries: 5, owner: all}\n"
    within = folder.load({"config.yaml": head + models("a")}).model("a")
    included = folder.load({"config.yaml": head + INCLUDE, "teams/a.yaml": models("a")}).model("a")
    assert included.model_dump() == within.model_dump()
    assert included.config_hash() == within.config_hash()
    assert included.model.uri == str(folder.path / "models/m.skops")


def test_a_problem_names_its_file_and_line(folder: Folder) -> None:
    loaded = folder.load(
        {
            "config.yaml": INCLUDE + models("own"),
            "teams/a.yaml": models("first") + entry("second", "retries: many"),
        }
    )
    assert places(loaded) == [("teams/a.yaml", 12, "models.second.retries")]
    assert list(loaded.config.models) == ["own", "first"]


def test_a_problem_with_an_inherited_value_names_the_file_of_the_defaults(folder: Folder) -> None:
    loaded = folder.load(
        {
            "config.yaml": f"{INCLUDE}defaults:\n  catchup: true\n",
            "teams/a.yaml": models("a") + entry("b", "start_date: 2026-01-31"),
        }
    )
    assert places(loaded) == [("config.yaml", 3, "models.a.catchup")]
    assert list(loaded.config.models) == ["b"]


def test_an_entry_that_is_no_yaml_breaks_no_other_of_its_file(folder: Folder) -> None:
    loaded = folder.load(
        {
            "config.yaml": INCLUDE,
            "teams/a.yaml": models("first") + entry("second", "docs: [") + entry("third"),
            "teams/b.yaml": models("fourth"),
        }
    )
    assert set(loaded.config.models) == {"first", "third", "fourth"}
    assert list(loaded.broken) == ["second"]
    assert loaded.problems[0].file == "teams/a.yaml"
    assert loaded.is_complete


@pytest.mark.parametrize(
    ("content", "line", "path", "names"),
    [
        (models("a", "b") + MARKERS, 13, "", {"a", "b"}),
        ("defaults: {retries: 1}\n" + models("a"), 1, "defaults", {"a"}),
        (models("a") + "include: [../more.yaml]\n", 7, "include", {"a"}),
        ("serving: {}\n" + models("a") + entry("b", "docs: ["), 1, "serving", {"a"}),
        ("", 1, "", set()),
        ("- a\n", 1, "", set()),
        ("models:\n", 1, "models", set()),
        ("events: {}\n", 1, "events", set()),
        (models("a").encode() + b"# \xe9\n", 7, "", set()),
    ],
)
def test_a_broken_file_breaks_its_own_models_only(
    folder: Folder, content: str | bytes, line: int, path: str, names: set[str]
) -> None:
    files = {"config.yaml": INCLUDE + models("own"), "teams/b.yaml": content, "teams/c.yaml": models("c")}
    loaded = folder.load(files)
    assert set(loaded.config.models) == {"own", "c"}
    assert set(loaded.broken) >= names
    assert not loaded.is_complete
    assert ("teams/b.yaml", line, path) in places(loaded)
    assert {problem.file for problem in loaded.problems} == {"teams/b.yaml"}
    assert len(loaded.problems) == len(set(loaded.problems))
    with pytest.raises(UnknownModel) as caught:
        loaded.model("elsewhere")
    assert {problem.file for problem in caught.value.problems} == {"config.yaml", "teams/b.yaml"}


def test_a_broken_file_takes_no_model_from_another(folder: Folder) -> None:
    """Its lines look as if it had the model, too, but nobody can tell."""
    files = {
        "config.yaml": INCLUDE,
        "teams/a.yaml": models("churn", "other") + MARKERS,
        "teams/b.yaml": models("churn"),
    }
    loaded = folder.load(files)
    assert list(loaded.config.models) == ["churn"]
    assert loaded.file_of("churn") == folder.path / "teams/b.yaml"
    assert list(loaded.broken) == ["other"]
    assert folder.load({}, only="churn").model("churn") == loaded.model("churn")


@pytest.mark.parametrize(
    ("files", "place", "other"),
    [
        (
            {"teams/a.yaml": models("a", "x"), "teams/b.yaml": models("x")},
            ("teams/b.yaml", 2),
            "teams/a.yaml:7",
        ),
        (
            {"config.yaml": INCLUDE + models("x"), "teams/a.yaml": models("x")},
            ("teams/a.yaml", 2),
            "config.yaml:3",
        ),
        (
            {"teams/a.yaml": models("x"), "teams/b.yaml": "models:\n" + entry("x", "retries: many")},
            ("teams/b.yaml", 2),
            "teams/a.yaml:2",
        ),
        (
            {"teams/a.yaml": "models:\n" + entry("x", "docs: ["), "teams/b.yaml": models("x")},
            ("teams/b.yaml", 2),
            "teams/a.yaml:",
        ),
    ],
)
def test_two_files_with_one_model_have_none(
    folder: Folder, files: Mapping[str, str], place: tuple[str, int], other: str
) -> None:
    folder.write({"config.yaml": INCLUDE, "teams/z.yaml": models("z")})
    loaded = folder.load(files)
    assert "x" not in loaded.config.models
    assert "z" in loaded.config.models
    problems = [problem for problem in loaded.broken["x"] if other in problem.message]
    assert [(problem.file, problem.line) for problem in problems] == [place]
    with pytest.raises(ConfigError) as caught:
        folder.load({}, only="x").model("x")
    assert caught.value.problems == loaded.broken["x"]


def test_each_further_file_with_the_model_is_named(folder: Folder) -> None:
    files = {f"teams/{name}.yaml": models("x") for name in "abc"}
    loaded = folder.load({"config.yaml": INCLUDE, **files})
    assert [problem.file for problem in loaded.broken["x"]] == ["teams/b.yaml", "teams/c.yaml"]


def test_models_of_two_files_may_not_write_one_table(folder: Folder) -> None:
    files = {
        "config.yaml": INCLUDE,
        "teams/a.yaml": "models:\n" + entry("a", table="shared"),
        "teams/b.yaml": "models:\n" + entry("b", table="SHARED") + entry("c"),
    }
    loaded = folder.load(files)
    assert list(loaded.config.models) == ["c"]
    assert places(loaded) == [
        ("teams/a.yaml", 6, "models.a.sink.table"),
        ("teams/b.yaml", 6, "models.b.sink.table"),
    ]
    assert "b (teams/b.yaml:2)" in loaded.broken["a"][0].message
    assert folder.load({}, only="a").broken["a"] == loaded.broken["a"]


@pytest.mark.parametrize("pattern", ["teams/*.yaml", "team.yaml"])
def test_a_pattern_that_matches_nothing_is_a_problem_and_stops_no_model(folder: Folder, pattern: str) -> None:
    loaded = folder.load({"config.yaml": f"include:\n  - {pattern}\n" + models("own")})
    assert list(loaded.config.models) == ["own"]
    assert places(loaded) == [("config.yaml", 2, "include[0]")]
    assert not loaded.is_complete
    assert folder.load({}, only="own").model("own") == loaded.model("own")


@pytest.mark.parametrize(
    "pattern",
    ["../a.yaml", "teams/../../a.yaml", "/etc/*.yaml", "~/a.yaml", "teams/**/*.yaml", '"a\\0"', '""'],
)
def test_a_pattern_that_leads_out_of_the_folder_is_refused(folder: Folder, pattern: str) -> None:
    folder.write({"../a.yaml": models("a")})
    with pytest.raises(ConfigError) as caught:
        folder.load({"config.yaml": f"include:\n  - {pattern}\n" + models("own")})
    assert [(problem.line, problem.path) for problem in caught.value.problems] == [(2, "include[0]")]


def test_a_link_that_leads_out_of_the_folder_is_not_followed(folder: Folder) -> None:
    folder.write({"../outside/a.yaml": models("a"), "config.yaml": INCLUDE, "teams/b.yaml": models("b")})
    (folder.path / "teams/a.yaml").symlink_to("../../outside/a.yaml")
    loaded = folder.load({})
    assert list(loaded.config.models) == ["b"]
    assert places(loaded) == [("config.yaml", 1, "include[0]")]


def test_a_linked_folder_outside_is_not_followed(folder: Folder) -> None:
    folder.write({"../outside/a.yaml": models("a"), "config.yaml": INCLUDE + models("own")})
    (folder.path / "teams").symlink_to("../outside")
    loaded = folder.load({})
    assert list(loaded.config.models) == ["own"]
    assert len(loaded.faults) == 1


def test_links_inside_of_the_folder_work_as_mounted_volumes_make_them(folder: Folder) -> None:
    """Kubernetes mounts `teams/a.yaml -> ..data/a.yaml`, with `..data -> ..2026_11_29`."""
    folder.write({"config.yaml": INCLUDE, "teams/..2026_11_29/a.yaml": models("a")})
    (folder.path / "teams/..data").symlink_to("..2026_11_29")
    (folder.path / "teams/a.yaml").symlink_to("..data/a.yaml")
    loaded = folder.load({})
    assert list(loaded.config.models) == ["a"]
    assert not loaded.problems


def test_a_file_is_read_once_by_whatever_names(folder: Folder) -> None:
    folder.write(
        {"config.yaml": "include: [teams/a.yaml, '*/*.yaml', '*.yaml']\n", "teams/a.yaml": models("a")}
    )
    (folder.path / "teams/b.yaml").symlink_to("a.yaml")
    (folder.path / "same.yaml").symlink_to("config.yaml")
    loaded = folder.load({"teams/.a.yaml": "an editor's backup", "more.yaml": models("more")})
    assert list(loaded.config.models) == ["a", "more"]
    assert not loaded.problems


@pytest.mark.parametrize("target", ["nothing.yaml", "a.yaml"])
def test_a_link_to_nothing_is_a_fault_of_that_file(folder: Folder, target: str) -> None:
    folder.write({"config.yaml": INCLUDE, "teams/b.yaml": models("b")})
    (folder.path / "teams/a.yaml").symlink_to(target)  # to itself as well
    loaded = folder.load({})
    assert list(loaded.config.models) == ["b"]
    assert len(loaded.faults) == 1


def test_a_starting_task_needs_its_own_file_only(folder: Folder) -> None:
    files: dict[str, str | bytes] = {
        "config.yaml": "defaults: {retries: 7}\n" + INCLUDE + models("own"),
        "teams/a.yaml": models("churn", "fraud"),
        "teams/b.yaml": "models: {" + "b: {" * 1000,
        "teams/c.yaml": models("loans") + MARKERS,
        "teams/d.yaml": b"\xff\xfe",
    }
    whole = folder.load(files)
    assert len(whole.faults) == 3
    for name in ("own", "churn", "fraud"):
        one = folder.load({}, only=name)
        assert one.config.models == {name: whole.model(name)}
        assert not one.faults  # none of the broken files was parsed
        assert one.file_of(name) == whole.file_of(name)


@pytest.mark.parametrize(
    "other",
    [
        "models: {x: {retries: 1}}\n",
        'models:\n  "\\x78":\n    retries: 1\n',
        "models:\n  ? x\n  : retries: 1\n",
        "models:\n  'x': {retries: 1}\n",
        '"mod\\x65ls":\n  x: {retries: 1}\n',
        "{models: {x: {retries: 1}}}\n",
    ],
)
def test_a_starting_task_overlooks_no_second_entry(folder: Folder, other: str) -> None:
    """However another file writes it."""
    loaded = folder.load(
        {"config.yaml": INCLUDE, "teams/a.yaml": models("x"), "teams/b.yaml": other}, only="x"
    )
    with pytest.raises(ConfigError):
        loaded.model("x")


@pytest.mark.parametrize("own", [models("own"), "models: {}\n", "", "events: {path: x.db}\n"])
@pytest.mark.parametrize(
    "content", [models("x", "y"), "# x\n" + entry("x").join(["models:\n", ""]), "models: {x: 1}\n"]
)
def test_one_model_is_what_all_files_say(folder: Folder, own: str, content: str) -> None:
    files = {"config.yaml": INCLUDE + own, "teams/x.yaml": content, "teams/z.yaml": models("z")}
    whole = folder.load(files)
    for name in (*whole.config.models, *whole.broken):
        one = folder.load({}, only=name)
        assert one.config.models.get(name) == whole.config.models.get(name)
        assert one.broken.get(name) == whole.broken.get(name)
        assert one.config.events == whole.config.events


def test_a_broken_entry_of_config_yaml_leaves_the_other_files(folder: Folder) -> None:
    loaded = folder.load(
        {
            "config.yaml": "defaults: {retries: 7}\n" + INCLUDE + "models:\n" + entry("own", "docs: ["),
            "teams/a.yaml": models("a"),
        }
    )
    assert loaded.model("a").retries == 7
    assert list(loaded.broken) == ["own"]


def test_settings_are_read_without_any_other_file(folder: Folder) -> None:
    folder.write({"config.yaml": INCLUDE + "serving: {memory_mb: 700}\n", "teams/a.yaml": MARKERS})
    assert load_settings(folder.config).serving.memory_mb == 700


def test_findings_are_placed_in_the_file_of_the_model(folder: Folder) -> None:
    loaded = folder.load({"config.yaml": INCLUDE + models("own"), "teams/a.yaml": models("first", "second")})
    found = Places(loaded)
    assert found.of_model("second", ("source", "query")) == "teams/a.yaml:10"
    assert found.of_model("own", ("source", "query")) == "config.yaml:6"
    assert found.of_setting(("include",)) == "config.yaml:1"
    assert loaded.model("second").place_of("source.query") == ("teams/a.yaml", 10)


def test_a_file_that_was_copied_with_the_times_of_the_one_before_is_another(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(models("one"))
    os.utime(file, OLD)
    before, changed_at = take_stamp(file, ()), file.stat().st_ctime_ns
    while file.stat().st_ctime_ns == changed_at:  # the clock of files ticks slowly
        file.write_text(models("two"))
        os.utime(file, OLD)
    assert take_stamp(file, ()) != before
