"""The built site as files: links that lead somewhere, nothing from another host."""

from __future__ import annotations

import hashlib
import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest


class Links(HTMLParser):
    """What a page points at, what it loads, and which names it can be pointed at by."""

    def __init__(self, text: str):
        super().__init__()
        self.links, self.loads, self.names = [], [], set()
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.names.update(v for k, v in found.items() if k in ("id", "name") and v)
        if tag == "a" and found.get("href"):
            self.links.append(found["href"])
        if tag == "link" and found.get("rel") in ("stylesheet", "preload", "icon", "modulepreload"):
            self.loads.append(found.get("href") or "")
        if found.get("src"):
            self.loads.append(found["src"])


def broken_links(site: Path) -> list[str]:
    """Links from the pages of `site` to files or names that are not there."""
    pages = {path.resolve(): Links(path.read_text()) for path in site.rglob("*.html")
             if "_static" not in path.relative_to(site).parts}  # fmt: skip
    broken = []
    for path, page in pages.items():
        for target in [*page.links, *page.loads]:
            parts = urlsplit(target)
            if parts.scheme or parts.netloc:
                continue
            file = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not file.exists():
                broken.append(f"{path.name}: no file {target}")
            elif (
                parts.fragment
                and file in pages
                and unquote(parts.fragment) not in pages[file].names
            ):
                broken.append(f"{path.name}: no such place {target}")
    return broken


def test_every_link_inside_the_book_leads_somewhere(site):
    assert broken_links(site) == []


def test_a_broken_link_is_found(tmp_path):
    (tmp_path / "a.html").write_text('<a href="b.html#there">x</a><a href="b.html#gone">x</a>')
    (tmp_path / "b.html").write_text('<p id="there">x</p><img src="absent.png"><a href="#">top</a>')
    assert sorted(broken_links(tmp_path)) == [
        "a.html: no such place b.html#gone",
        "b.html: no file absent.png",
    ]


def test_no_page_loads_anything_from_another_host(site):
    pages = [path for path in site.rglob("*.html") if "_static" not in path.parts]
    assert pages
    for path in pages:
        outside = [u for u in Links(path.read_text()).loads if re.match(r"(https?:)?//", u)]
        assert not outside, (path.name, outside)


def test_no_style_of_the_book_loads_anything_from_another_host(root):
    style = (root / "book/_static/site.css").read_text()
    addresses = re.findall(r"url\(([^)]+)\)", style)
    assert addresses and "@import" not in style
    for address in addresses:
        assert (root / "book/_static" / address).is_file(), address


@pytest.mark.parametrize(
    "folder", ["book/_vendor/_static/vendor", "book/_static/fonts", "tests/browser/vendor"]
)
def test_files_from_elsewhere_are_unchanged_and_have_their_licence(root, folder):
    place = root / folder
    listed = dict(
        reversed(line.split("  ")) for line in (place / "SHA256SUMS").read_text().splitlines()
    )
    brought = {p.name for p in place.iterdir() if p.suffix in (".js", ".woff2", ".txt")}
    assert brought == set(listed)
    assert any("LICENSE" in name for name in listed)
    for name, digest in listed.items():
        assert hashlib.sha256((place / name).read_bytes()).hexdigest() == digest, name


def test_fonts_are_small(root):
    assert sum(p.stat().st_size for p in (root / "book/_static/fonts").glob("*.woff2")) < 400_000


def test_every_reference_has_a_key_a_title_and_a_year(root):
    from pybtex.database import parse_file

    entries = parse_file(str(root / "book/references.bib")).entries
    assert len(entries) > 70
    for key, entry in entries.items():
        assert re.fullmatch(r"[a-z]+\d{4}[a-z]+", key), key
        assert entry.fields["title"] and entry.persons["author"], key
        assert (
            key[len(key.rstrip("abcdefghijklmnopqrstuvwxyz")) - 4 :][:4] == entry.fields["year"][:4]
        ), key
