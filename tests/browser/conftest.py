"""A headless Chromium. Where there is none the tests are skipped, unless CHATKIT_REQUIRE_BROWSER=1."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    # Nothing but the pages under test is to be asked for.
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1280,900",
)


@pytest.fixture(scope="session")
def executables() -> tuple[str, str]:
    """Find the browser and its driver."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    driver = shutil.which("chromedriver")
    if browser and driver:
        return browser, driver
    missing = f"needs {BROWSERS[0]} and chromedriver on the PATH"
    if os.environ.get("CHATKIT_REQUIRE_BROWSER") == "1":
        pytest.fail(f"The browser tests {missing}, and CHATKIT_REQUIRE_BROWSER is 1.")
    pytest.skip(missing)


@pytest.fixture
def browser(executables: tuple[str, str], tmp_path: Path) -> Iterator[Chrome]:
    """Start a browser with an empty profile."""
    options = ChromeOptions()
    options.binary_location = executables[0]
    for flag in [*FLAGS, f"--user-data-dir={tmp_path / 'profile'}"]:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = Chrome(options=options, service=Service(executables[1]))
    try:
        driver.set_page_load_timeout(60)
        yield driver
    finally:
        driver.quit()


@pytest.fixture
def screenshot(browser: Chrome) -> Callable[[str], None]:
    """Save what the browser shows into the directory that CHATKIT_SCREENSHOTS names, if it names one."""
    directory = os.environ.get("CHATKIT_SCREENSHOTS")

    def save(name: str) -> None:
        if directory:
            Path(directory).mkdir(parents=True, exist_ok=True)
            assert browser.save_screenshot(str(Path(directory) / f"{name}.png"))

    return save
