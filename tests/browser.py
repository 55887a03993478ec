"""A real browser for tests of pages."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Page

# No sandbox, as tests run as root in containers; the other flags stop its own network requests.
QUIET = ("no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-background-networking")
QUIET += ("disable-component-update", "disable-sync")


@contextmanager
def browser_page(width: int = 1280, height: int = 900) -> Iterator["Page"]:
    """An empty page of Chromium, of `width` x `height` pixels; the test skips where there is none."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install playwright")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if not chromium:
        pytest.skip("needs Chromium: apt-get install chromium")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=[f"--{name}" for name in QUIET])
        try:
            yield browser.new_page(viewport={"width": width, "height": height})
        finally:
            browser.close()
