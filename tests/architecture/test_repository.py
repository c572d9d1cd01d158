"""What is in the repository holds together: links, scripts, and nothing that belongs to one machine."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

CHECKOUT = Path(__file__).resolve().parents[2]
LINK = re.compile(r"\[[^\]]*\]\((?P<target>[^)\s]+)\)")
HEADING = re.compile(r"^#+ +(?P<title>.+)$", re.MULTILINE)
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
# Home folders and scratch folders of one machine; `/tmp/` itself may be an example in a test.
MACHINE_PATH = re.compile(r"(?<![\w.$}>~-])/(home/(?!airflow\b)\w+|root|Users|work|farm)/")


def tracked(*patterns: str) -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--", *patterns], cwd=CHECKOUT, check=True, capture_output=True
    ).stdout
    paths = (CHECKOUT / name.decode() for name in listed.split(b"\0") if name)
    return [path for path in paths if path.is_file()]


def anchors(document: Path) -> set[str]:
    """The names that GitHub gives to a document's headings."""
    titles = (match["title"] for match in HEADING.finditer(FENCE.sub("", document.read_text())))
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


def broken_links(document: Path) -> Iterator[str]:
    for match in LINK.finditer(FENCE.sub("", document.read_text())):
        target = match["target"]
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        found = (document.parent / path).resolve() if path else document
        if not found.exists():
            yield f"{document.name}: {target}"
        elif anchor and found.suffix == ".md" and anchor not in anchors(found):
            yield f"{document.name}: {target} has no such heading"


def test_every_link_in_the_documentation_leads_somewhere() -> None:
    documents = tracked("*.md")
    assert documents
    assert [problem for document in documents for problem in broken_links(document)] == []


def test_the_link_check_sees_a_broken_link(tmp_path: Path) -> None:
    document = tmp_path / "page.md"
    document.write_text("# A title\n[a](#a-title) [b](#nowhere) [c](gone.md) [d](https://example.org)\n")
    assert list(broken_links(document)) == ["page.md: #nowhere has no such heading", "page.md: gone.md"]


def test_every_documentation_page_is_linked_from_another() -> None:
    pages = set(tracked("docs/*.md"))
    linked = {
        (document.parent / match["target"].partition("#")[0]).resolve()
        for document in tracked("*.md")
        for match in LINK.finditer(document.read_text())
    }
    assert {page.name for page in pages - linked} == set()


def test_every_make_command_in_the_documentation_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (CHECKOUT / "Makefile").read_text(), re.MULTILINE))
    named = {
        (document.name, name)
        for document in tracked("*.md")
        for name in re.findall(r"(?:`|^|&& |; )make ([a-z-]+)", document.read_text(), re.MULTILINE)
    }
    assert named
    assert {(page, name) for page, name in named if name not in targets} == set()


@pytest.mark.parametrize("target", ["test", "test-fast", "test-long", "lint", "up", "bench"])
def test_make_only_prints_what_it_would_do_if_asked_to(target: str, tmp_path: Path) -> None:
    shutil.copy(CHECKOUT / "Makefile", tmp_path)  # a folder without anything that could run
    printed = subprocess.run(
        ["make", "-n", target], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (printed.returncode, printed.stderr) == (0, "")
    assert ".venv/bin/" in printed.stdout


def test_continuous_integration_runs_what_a_developer_runs() -> None:
    jobs = yaml.safe_load((CHECKOUT / ".github/workflows/test.yaml").read_text())["jobs"]
    commands = [step.get("run", "") for job in jobs.values() for step in job["steps"]]
    assert [command for command in commands if re.match(r"make test( |$)", command)]
    assert "make test" in (CHECKOUT / ".ci" / "run").read_text()


def test_no_two_test_files_have_one_name() -> None:
    """pytest imports them by their names alone, and collects nothing at all if two are equal."""
    names = [path.name for path in tracked("tests/*.py") if path.name.startswith("test_")]
    assert len(names) > 100
    assert sorted(name for name in set(names) if names.count(name) > 1) == []


def test_nothing_names_a_folder_of_one_machine() -> None:
    suffixes = {".py", ".md", ".yaml", ".toml", ".sh", ".json", ".in", ".txt", ""}
    found = [
        f"{path.relative_to(CHECKOUT)}:{number}"
        for path in tracked()
        if path.suffix in suffixes
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1)
        if MACHINE_PATH.search(line)
    ]
    assert found == []


def test_only_the_entry_is_visible_to_airflows_plugin_scanner() -> None:
    ignored = (CHECKOUT / "plugins" / ".airflowignore").read_text().split()
    assert ignored == ["mlops_plugin/"]
    assert [path.name for path in (CHECKOUT / "plugins").glob("*.py")] == ["mlops_plugin_entry.py"]


@pytest.mark.parametrize("script", tracked("*.sh", ".ci/*"), ids=lambda path: path.name)
def test_a_script_is_executable_and_parses(script: Path) -> None:
    assert script.stat().st_mode & 0o111
    shell = shutil.which("sh")
    assert shell is not None
    done = subprocess.run([shell, "-n", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_packages_need_no_compiler() -> None:
    # `--only-binary :all:` refuses whatever has no wheel; mysqlclient is the one such package that is known.
    lock = (CHECKOUT / "requirements.txt").read_text()
    assert re.findall(r"^mysqlclient.*", lock, re.MULTILINE) == [
        line
        for line in lock.splitlines()
        if line.startswith("mysqlclient") and "sys_platform == 'never'" in line
    ]


def lone_texts(source: str) -> list[int]:
    """Lines with a text that is no docstring and that nothing uses: the rest of a message, cut off."""
    tree = ast.parse(source)
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    first = {id(node.body[0]) for node in ast.walk(tree) if isinstance(node, documented) and node.body}
    return [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and id(node) not in first
        if isinstance(node.value, ast.JoinedStr)
        or (isinstance(node.value, ast.Constant) and isinstance(node.value.value, str))
    ]


def test_no_message_is_cut_off_where_a_line_ends() -> None:
    found = {str(file): lone_texts(file.read_text()) for file in tracked("*.py")}
    assert {file: lines for file, lines in found.items() if lines} == {}
    assert lone_texts('def tell():\n    """Docstring."""\n    text = "it was "\n    "closed"') == [4]
