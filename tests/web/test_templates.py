"""Templates and assets: found by view, shipped with the package, and without inline scripts."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from setuptools import find_namespace_packages  # type: ignore[import-untyped]

from mlops_plugin import web
from mlops_plugin.web.pages import VIEWS, Pages
from web.conftest import rendered

ROOT = Path(next(iter(web.__path__)))
TEMPLATES = sorted(Pages().environment.list_templates())


def test_each_view_has_its_own_templates_and_assets() -> None:
    views = {name.partition("/")[0] for name in TEMPLATES if "/" in name}
    assert views == set(VIEWS)
    assert {name for name in TEMPLATES if "/" not in name} == {"base.html", "error.html", "signed_out.html"}
    for view in VIEWS:
        assert f"{view}/{view}.css" in Pages().assets


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_template_compiles_and_needs_no_inline_style_or_script(name: str) -> None:
    environment = Pages().environment
    source, _, _ = environment.loader.get_source(environment, name)  # type: ignore[union-attr]
    environment.get_template(name)
    assert not re.search(r"\sstyle=|\son[a-z]+=|<script(?![^>]*\ssrc=)", source)


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_template_names_only_templates_and_assets_that_there_are(name: str) -> None:
    environment = Pages().environment
    source, _, _ = environment.loader.get_source(environment, name)  # type: ignore[union-attr]
    assert set(re.findall(r"(?:from|include|extends) \"([^\"]+)\"", source)) <= set(TEMPLATES)
    assert set(re.findall(r"asset\('([^']+)'\)", source)) <= Pages().assets.keys()


def test_every_template_and_asset_is_in_a_folder_that_the_package_ships() -> None:
    shipped = {Path(name.replace(".", "/")) for name in find_namespace_packages(str(ROOT.parents[1]))}
    folders = {path.parent.relative_to(ROOT.parents[1]) for path in Pages().assets.values()}
    folders |= {path.parent.relative_to(ROOT.parents[1]) for path in ROOT.rglob("*.html")}
    assert folders <= shipped


def test_an_address_below_a_folder_of_ours_that_is_no_view_is_not_found() -> None:
    assert "<nav" not in rendered("error.html", code=404, text="Not Found", view="models")
    assert "<nav" in rendered("error.html", code=404, text="Not Found", view="showroom")
