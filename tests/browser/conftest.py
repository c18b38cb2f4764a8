"""A built site, a server for it on this machine's own address, and pages open in a browser."""

from __future__ import annotations

import functools
import http.server
import threading
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from page_checks import visit
from site_build import build_site


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass

    def copyfile(self, source, outputfile):
        with suppress(BrokenPipeError, ConnectionResetError):  # a page that was closed meanwhile
            super().copyfile(source, outputfile)


@contextmanager
def serving(folder: Path):
    """Serve a folder on the loopback address and give its address, with a slash at the end."""
    handler = functools.partial(_Quiet, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="session")
def site(root) -> Path:
    """The folder of the built book; built once, with warnings as errors."""
    return build_site(root, root / "_build/tests")


@pytest.fixture(scope="session")
def site_address(site):
    with serving(site) as address:
        yield address


@pytest.fixture
def open_page(browser, site_address):
    """`open_page(path, width=..., theme=...)` opens a page of the book and returns its `Visit`."""
    opened = []

    def open_it(path: str, **options):
        opened.append(visit(browser, site_address, path, **options))
        return opened[-1]

    yield open_it
    for seen in opened:
        seen.page.context.close()


@pytest.fixture
def open_html(browser, tmp_path):
    """`open_html(text, **files)` opens a page written by the test, and returns its `Visit`."""
    opened = []
    with serving(tmp_path) as address:

        def open_it(text: str, *, files: dict[str, bytes] | None = None, **options):
            (tmp_path / "page.html").write_text(text)
            for name, content in (files or {}).items():
                (tmp_path / name).write_bytes(content)
            opened.append(visit(browser, address, "page.html", **options))
            return opened[-1]

        yield open_it
        for seen in opened:
            seen.page.context.close()
