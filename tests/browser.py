"""Headless Chromium, driven by Selenium: what a page says, asks for and looks like."""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
_FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-dev-shm-usage", "--force-device-scale-factor=1",
)  # fmt: skip


@dataclass
class Opened:
    """A page that was opened: its driver, what its console said and what it asked the net for."""

    driver: Any
    console: list[str]
    requested: list[str]
    first_paint_ms: float


@contextmanager
def opened(page: Path, folder: Path, width: int = 1100, height: int = 900) -> Iterator[Opened]:
    """Open a file, wait until its charts are drawn."""
    import json

    from selenium import webdriver
    from selenium.webdriver.support.ui import WebDriverWait

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*_FLAGS, f"--window-size={width},{height}", f"--user-data-dir={folder}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    try:
        driver.set_window_size(width, height)
        driver.get(page.as_uri())
        WebDriverWait(driver, 60).until(
            lambda one: one.execute_script("return document.documentElement.dataset.drawn")
        )
        messages = [json.loads(one["message"])["message"] for one in driver.get_log("performance")]
        requested = [
            one["params"]["request"]["url"]
            for one in messages
            if one["method"] == "Network.requestWillBeSent"
            and one["params"]["documentURL"] == page.as_uri()  # not those of an empty tab
        ]
        paint = driver.execute_script(
            "return performance.getEntriesByName('first-contentful-paint').map(e => e.startTime)"
        )
        yield Opened(
            driver=driver,
            console=[one["message"] for one in driver.get_log("browser")],
            requested=[url for url in requested if not url.startswith(("file:", "data:", "blob:"))],
            first_paint_ms=paint[0] if paint else float("nan"),
        )
    finally:
        driver.quit()
