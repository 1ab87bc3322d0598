"""The example project as its visitors and its operator meet it: a real server, a real browser."""

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.error import URLError

import pytest
from selenium.webdriver import Chrome, Keys
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import Select, WebDriverWait

pytestmark = pytest.mark.browser

ROOT = Path(__file__).resolve().parents[2]
MANAGE = ROOT / "example_project" / "manage.py"
STARTS_WITHIN_SECONDS = 60
SHOWS_WITHIN_SECONDS = 20
PASSWORD = "chatkit-demo"


def free_port() -> int:
    """Find a port below those that the system hands out by itself, so that nobody takes it meanwhile."""
    for port in range(10000 + os.getpid() % 10000, 20000):
        try:
            socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            continue
        return port
    raise OSError("No port from 10000 to 20000 is free.")


def environment(directory: Path) -> dict[str, str]:
    """Return the environment of a newcomer: no key, no settings, and an empty database."""
    ours = ("CHATKIT_", "DJANGO_", "OPENAI_")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return inherited | {"DATABASE_URL": f"sqlite:///{directory}/demo.sqlite3", "PYTHONPATH": str(ROOT)}


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory, executables: tuple[str, str]
) -> Iterator[tuple[str, Path]]:
    """Serve the example project; its address and its log."""
    directory = tmp_path_factory.mktemp("site")
    env = environment(directory)
    for command in (["migrate", "--verbosity", "0"], ["demo_accounts"]):
        subprocess.run([sys.executable, MANAGE, *command], env=env, check=True, timeout=120)
    address = f"127.0.0.1:{free_port()}"
    log = directory / "server.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, MANAGE, "runserver", "--noreload", address],
            env=env,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        wait_until_served(f"http://{address}/accounts/login/", process, log)
        yield f"http://{address}", log
    finally:
        process.terminate()
        process.wait(timeout=20)


@pytest.fixture
def site(server: tuple[str, Path]) -> Iterator[str]:
    """The address of the running example project."""
    address, log = server
    yield address
    print(log.read_text())  # pytest shows it beside a failure


def wait_until_served(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + STARTS_WITHIN_SECONDS
    while time.monotonic() < deadline:
        try:
            urllib.request.urlopen(url, timeout=5).close()
        except URLError:
            assert process.poll() is None, f"The server has ended:\n{log.read_text()}"
            time.sleep(0.1)
        else:
            return
    pytest.fail(f"No answer from {url} within {STARTS_WITHIN_SECONDS} seconds:\n{log.read_text()}")


class Visit:
    """What a person does with the pages."""

    def __init__(self, browser: Chrome, site: str) -> None:
        self.browser = browser
        self.site = site

    def open(self, path: str) -> None:
        self.browser.get(self.site + path)

    def find(self, css: str) -> WebElement:
        return self.until(lambda: self.browser.find_element(By.CSS_SELECTOR, css))

    def until(self, look: Callable[[], WebElement]) -> WebElement:
        wait = WebDriverWait(self.browser, SHOWS_WITHIN_SECONDS)
        return wait.until(lambda _: look())

    def sign_in(self, username: str) -> None:
        self.find("input[name=username]").send_keys(username)
        self.find("input[name=password]").send_keys(PASSWORD, Keys.ENTER)

    def sign_out(self) -> None:
        self.find("form.sign-out button").click()
        self.find("input[name=password]")

    def chat(self, css: str) -> WebElement:
        """Find an element inside the widget."""
        widget = self.find("openai-chatkit")
        return self.until(lambda: widget.shadow_root.find_element(By.CSS_SELECTOR, css))

    def problems(self) -> list[str]:
        """Return what the pages complained of in the browser's console."""
        entries = self.browser.get_log("browser")  # type: ignore[no-untyped-call]  # selenium leaves it untyped
        return [entry["message"] for entry in entries if entry["level"] in {"SEVERE", "WARNING"}]


def test_visitor_chats_and_operator_finds_the_session(
    browser: Chrome, site: str, screenshot: Callable[[str], None]
) -> None:
    visit = Visit(browser, site)

    visit.open("/")
    visit.find("input[name=username]")
    screenshot("sign-in")
    visit.sign_in("visitor")

    visit.chat("textarea").send_keys("Is anybody there?", Keys.ENTER)
    answer = visit.chat(".bubble.assistant .text")
    assert answer.text == "You said: Is anybody there?"
    screenshot("chat")
    assert "Admin" not in visit.find("header").text

    visit.sign_out()
    visit.sign_in("operator")
    visit.chat("textarea")  # the operator's own chat, and so the operator's own session
    visit.find("header a[href='/admin/']").click()
    visit.find("a[href='/admin/chatkit_sessions/chatsession/']").click()
    rows = visit.find("#result_list tbody").find_elements(By.CSS_SELECTOR, "tr")
    screenshot("admin-sessions")
    assert [("visitor" in row.text, "operator" in row.text) for row in rows] == [(False, True), (True, False)]

    rows[1].find_element(By.CSS_SELECTOR, "th a").click()
    assert "wf_echo" in visit.find("#content").text
    screenshot("admin-session")
    assert visit.problems() == []


# Of the words themselves: some versions of Django give the label a width and a padding of its own.
WORDS = """
const range = document.createRange();
range.selectNodeContents(arguments[0]);
const [words, field] = [range.getBoundingClientRect(), arguments[1].getBoundingClientRect()];
return field.left - words.right >= 8 || field.top >= words.bottom;
"""


def are_apart(label: WebElement, field: WebElement) -> bool:
    """Return whether a label stands clearly beside its field, or above it."""
    apart: bool = label.parent.execute_script(WORDS, label, field)
    return apart


@pytest.mark.parametrize(("width", "height"), [(390, 844), (1280, 900)])
def test_the_operators_own_pages_fit_on_a_telephone_and_on_a_desk(
    browser: Chrome, site: str, screenshot: Callable[[str], None], width: int, height: int
) -> None:
    visit = Visit(browser, site)
    screen = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    visit.open("/")
    visit.sign_in("operator")
    visit.chat("textarea")  # the operator's own session

    visit.open("/admin/chatkit_sessions/chatsession/?status=active")
    visit.find("#action-toggle").click()
    Select(visit.find("select[name=action]")).select_by_value("cancel_sessions")
    visit.find(".actions [type=submit], .actions button").click()
    assert are_apart(visit.find("label[for=chatkit-reason]"), visit.find("#chatkit-reason"))
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    screenshot(f"admin-cancel-{width}")

    visit.open("/admin/chatkit_sessions/policyoverride/effective/")
    assert are_apart(visit.find("label[for=id_workflow]"), visit.find("#id_workflow"))
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    screenshot(f"admin-effective-{width}")
    assert visit.problems() == []


def test_wrong_password_is_refused_in_words(
    browser: Chrome, site: str, screenshot: Callable[[str], None]
) -> None:
    visit = Visit(browser, site)
    visit.open("/accounts/login/")
    visit.find("input[name=username]").send_keys("visitor")
    visit.find("input[name=password]").send_keys("not the password", Keys.ENTER)
    assert "Please enter a correct username and password." in visit.find("[role=alert]").text
    screenshot("sign-in-refused")
    assert visit.problems() == []
