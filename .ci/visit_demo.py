"""Sign in to the running example project over HTTP, get a session, and find it as the operator."""

import re
import sys

import requests

TIMEOUT = 20
PASSWORD = "chatkit-demo"


def sign_in(site: str, username: str) -> requests.Session:
    browser = requests.Session()
    browser.get(f"{site}/accounts/login/", timeout=TIMEOUT).raise_for_status()
    form = {"username": username, "password": PASSWORD, "csrfmiddlewaretoken": browser.cookies["csrftoken"]}
    page = browser.post(f"{site}/accounts/login/?next=/", data=form, timeout=TIMEOUT)
    page.raise_for_status()
    expect(page.url == f"{site}/", f"{username} is signed in and on the first page, not on {page.url}")
    return browser


def expect(holds: bool, what: str) -> None:
    if not holds:
        sys.exit(f"Not so: {what}")


def main(site: str) -> None:
    visitor = sign_in(site, "visitor")
    page = visitor.get(f"{site}/", timeout=TIMEOUT)
    expect("/api/chatkit/sessions/" in page.text, "the page carries the chat")
    script = re.search(r"http://[^\"]+/deployments/chatkit/chatkit\.js", page.text)
    expect(script is not None, "the page names the stand-in's script")
    expect(
        "openai-chatkit" in requests.get(script[0], timeout=TIMEOUT).text, "the stand-in serves its script"
    )

    headers = {"X-CSRFToken": visitor.cookies["csrftoken"], "Referer": f"{site}/"}
    answer = visitor.post(f"{site}/api/chatkit/sessions/", json={}, headers=headers, timeout=TIMEOUT)
    expect(answer.status_code == 201, f"a session is issued: {answer.status_code} {answer.text}")
    reference = answer.json()["id"]

    operator = sign_in(site, "operator")
    rows = operator.get(f"{site}/admin/chatkit_sessions/chatsession/", timeout=TIMEOUT)
    expect(rows.status_code == 200 and "visitor" in rows.text, "the operator sees the visitor's session")
    for path in ("/admin/", "/api/docs/", "/api/schema/"):
        expect(operator.get(site + path, timeout=TIMEOUT).status_code == 200, f"{path} answers")
    print(f"The visitor got {reference}, and the operator sees the visitor's row.")


if __name__ == "__main__":
    main(sys.argv[1])
