"""Headless Chromium, driven by Selenium: what a page says, asks for and looks like."""

from __future__ import annotations

import json
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
    """A page that was opened: what its console said and what it asked the net for."""

    console: list[str]
    requested: list[str]
    first_paint_ms: float


class Browser:
    """A window of some size; each page is opened in it in turn."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def open(self, page: Path) -> Opened:
        """Open a file, and wait until its charts are drawn."""
        self._messages()
        self.driver.get(page.as_uri())
        self.until("return document.documentElement.dataset.drawn")
        requested = [
            one["params"]["request"]["url"]
            for one in self._messages()
            if one["method"] == "Network.requestWillBeSent"
            and one["params"]["documentURL"] == page.as_uri()  # not those of an empty tab
        ]
        paint = self.driver.execute_script(
            "return performance.getEntriesByName('first-contentful-paint').map(e => e.startTime)"
        )
        return Opened(
            console=[one["message"] for one in self.driver.get_log("browser")],
            requested=[url for url in requested if not url.startswith(("file:", "data:", "blob:"))],
            first_paint_ms=paint[0] if paint else float("nan"),
        )

    def be_wide(self, width: int) -> None:
        """Have what is shown be so wide, as a window, which has a least width, cannot be."""
        self.driver.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600},
        )

    def until(self, script: str) -> None:
        """Wait until a script returns what is true."""
        from selenium.webdriver.support.ui import WebDriverWait

        WebDriverWait(self.driver, 60).until(lambda one: one.execute_script(script))

    def ask(self, script: str) -> Any:
        """What a script returns in the page."""
        return self.driver.execute_script(script)

    def _messages(self) -> list[dict[str, Any]]:
        return [json.loads(one["message"])["message"] for one in self.driver.get_log("performance")]


@contextmanager
def browser(folder: Path) -> Iterator[Browser]:
    """Headless Chromium with a new, empty profile."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*_FLAGS, f"--user-data-dir={folder}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    try:
        yield Browser(driver)
    finally:
        driver.quit()
