"""Browsers that ask the site for this and that, keep what they got, and notice when they are lied to."""

import json
import random
import threading
from collections import Counter
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from typing import Any

from .site import ACCOUNT, PERSON

PATH = "/api/chatkit/sessions/"
EXPECTED = {200, 201, 429, 503}


@dataclass(eq=False, kw_only=True)
class Held:
    """A session whose secret a browser has got.

    Attributes:
        is_cancelled: whether the site has confirmed its end.
    """

    id: str
    person: str
    secret: str
    is_cancelled: bool = False


class Client:
    """One browser with an account of its own, which speaks for many people, in a thread of its own."""

    def __init__(self, account: str, *, port: int, seed: str, over: threading.Event) -> None:
        self.held: list[Held] = []
        self.wrong: list[str] = []
        self.answers: Counter[str] = Counter()
        self.regulars = ["regular"]
        self._account = account
        self._port = port
        self._random = random.Random(seed)  # noqa: S311 (no secret)
        self._over = over
        self._people = 0
        self._thread = threading.Thread(target=self._run, name=account, daemon=True)

    def start(self) -> None:
        """Begin to ask."""
        self._thread.start()

    def join(self) -> None:
        """Wait until the last question is answered."""
        self._thread.join(timeout=60)
        assert not self._thread.is_alive()

    def _run(self) -> None:
        try:
            while not self._over.is_set():
                self._ask()
        except BaseException as error:
            self.wrong.append(f"{self._account}: {error!r}")

    def _ask(self) -> None:
        dice = self._random.random()
        if dice < 0.25 or not self.held:
            self._people += 1
            self._issue(f"{self._account}.{self._people}")
        elif dice < 0.55:
            self._issue(self._random.choice(self.regulars))
        elif dice < 0.7:
            self._ask_again(self._random.choice(self.held[-20:]))
        elif dice < 0.9:
            self._cancel(self._random.choice(self.held[-20:]))
        else:
            self._list()

    def _issue(self, person: str, **body: str) -> str | None:
        status, session = self._send("POST", PATH, person, body)
        if status == 201:
            secret = session["client_secret"]
            self.held.append(Held(id=session["id"], person=person, secret=secret))
            return str(secret)
        return str(session["client_secret"]) if status == 200 else None

    def _ask_again(self, held: Held) -> None:
        ended = held.is_cancelled
        secret = self._issue(held.person, current_client_secret=held.secret)
        if ended and secret == held.secret:
            self.wrong.append(f"{held.id} was handed out after its end")

    def _cancel(self, held: Held) -> None:
        status, session = self._send("POST", f"{PATH}{held.id}/cancel/", held.person)
        if status == 200:
            held.is_cancelled = True
            if session["status"] != "cancelled":
                self.wrong.append(f"{held.id} was cancelled and is {session['status']}")

    def _list(self) -> None:
        newest = self.held[-1]
        status, page = self._send("GET", f"{PATH}?limit=100", newest.person)
        if status == 200 and newest.id not in {session["id"] for session in page["data"]}:
            self.wrong.append(f"{newest.id} is not in the list")

    def _send(self, method: str, path: str, person: str, body: Any = None) -> tuple[int | None, Any]:
        """Return status and content of the answer; None where there was no whole answer."""
        headers = {"Content-Type": "application/json", ACCOUNT: self._account, PERSON: person}
        connection = HTTPConnection("127.0.0.1", self._port, timeout=60)
        try:
            connection.request(method, path, json.dumps(body or {}), headers)
            answer = connection.getresponse()
            status, length, text = answer.status, answer.getheader("Content-Length"), answer.read()
        except (OSError, HTTPException):
            self.answers["none"] += 1
            return None, None
        finally:
            connection.close()
        if length is None:  # the server died among the headers
            self.answers["none"] += 1
            return None, None
        content = json.loads(text)
        code = f" {content['code']}" if status >= 400 else ""
        self.answers[f"{status}{code}"] += 1
        if status not in EXPECTED:
            self.wrong.append(f"{method} {path} answered {status}{code}")
        return status, content
