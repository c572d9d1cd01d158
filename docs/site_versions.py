"""Builds the documentation as a site of its version, in site/VERSION/; `make docs` runs it.

Folders of other versions keep their pages. `versions.json` names them for the list in each page's head, which
leads to the same page if the `sitemap.xml` of the other version has it; site/index.html leads to the newest.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import quote
from xml.sax.saxutils import escape

CHECKOUT = Path(__file__).resolve().parent.parent
_VERSION = re.compile(r"\d+(\.\d+)+")
_ADDRESS = "https://docs.invalid/"  # where a site will stand, nobody knows here
_START = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta http-equiv="refresh" content="0; url={newest}/index.html">
<title>Documentation by version</title>
<ul>
{links}
</ul>
</html>
"""


def main(checkout: Path = CHECKOUT) -> int:
    """Build it; returns the status of Zensical, for which each broken link is an error."""
    with (checkout / "pyproject.toml").open("rb") as file:
        version = str(tomllib.load(file)["project"]["version"])
    config = checkout / f".zensical-{version}.toml"
    config.write_text(of_version((checkout / "zensical.toml").read_text(encoding="utf-8"), version))
    command = [sys.executable, "-m", "zensical", "build", "--strict", "--clean", "--config-file", config.name]
    try:
        status = subprocess.run(command, cwd=checkout, check=False).returncode
    finally:
        config.unlink()
    if status == 0:
        list_versions(checkout / "site")
    return status


def of_version(config: str, version: str) -> str:
    """The configuration for one version, which each page names in its foot."""
    found = re.subn(
        r'^site_dir = "site"$',
        f'site_dir = "site/{version}"\ncopyright = "Version {version}"',
        config,
        flags=re.MULTILINE,
    )
    assert found[1] == 1, "zensical.toml has another site_dir"
    return found[0]


def list_versions(site: Path) -> None:
    """Renew what names the versions whose folders lie in `site`."""
    versions = newest_first(path.name for path in site.iterdir() if (path / "index.html").exists())
    listed = [{"version": each, "title": each, "aliases": []} for each in versions]
    (site / "versions.json").write_text(json.dumps(listed))
    for each in versions:
        (site / each / "sitemap.xml").write_text(sitemap(site / each))
    links = "\n".join(f'<li><a href="{each}/index.html">{each}</a></li>' for each in versions)
    (site / "index.html").write_text(_START.format(newest=versions[0], links=links))


def sitemap(folder: Path) -> str:
    """The pages of a version; a page's script puts the folder's own address in the place of this one."""
    pages = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.html"))
    places = "\n".join(f"<url><loc>{_ADDRESS}{escape(quote(each))}</loc></url>" for each in ("", *pages))
    return f'<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">\n{places}\n</urlset>\n'


def newest_first(names: Iterable[str]) -> list[str]:
    """Those that are versions; 0.10 comes before 0.9."""
    versions = [name for name in names if _VERSION.fullmatch(name)]
    return sorted(versions, key=lambda name: [*map(int, name.split("."))], reverse=True)


if __name__ == "__main__":
    sys.exit(main())
