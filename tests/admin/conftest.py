from html.parser import HTMLParser
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client

QUEUED = (
    "The queued ones are over here as well, but the API has not been told of them yet: "
    "chatkit_reconcile tries again, and chatkit_doctor says what is in the way."
)
SESSIONS = "/admin/chatkit_sessions/chatsession/"
WORKFLOWS = "/admin/chatkit_sessions/workflow/"


class Page(HTMLParser):
    """Read what a page of the admin shows: words, table rows, links, form fields and messages."""

    def __init__(self, answer: Any) -> None:
        super().__init__()
        assert answer.status_code == 200, answer.status_code
        self.rows: list[list[str]] = []
        self.links: list[str] = []
        self.inputs: list[dict[str, str | None]] = []
        self.options: list[str] = []
        self.trail: list[str] = []  # the links above the content
        self._words: list[str] = []
        self._in_row = False
        self._started = False  # with the content, behind the navigation
        self._in_trail = False
        self.feed(answer.content.decode())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        self._started = self._started or attributes.get("id") == "content"
        self._in_trail = self._in_trail or attributes.get("class") == "breadcrumbs"
        if not self._started:
            if self._in_trail and tag == "a":
                self.trail.append(attributes.get("href") or "")
            return
        if tag == "tr":
            self.rows.append([])
            self._in_row = True
        elif tag in {"td", "th"} and self.rows:
            self.rows[-1].append("")
        elif tag == "a":
            self.links.append(attributes.get("href") or "")
        elif tag == "input":
            self.inputs.append(attributes)
        elif tag == "option":
            self.options.append(attributes.get("value") or "")

    def handle_endtag(self, tag: str) -> None:
        self._in_row = self._in_row and tag != "tr"
        self._in_trail = self._in_trail and tag not in {"ol", "div"}  # whichever this Django takes for it

    def handle_data(self, data: str) -> None:
        if self._started:
            self._words.append(data)
        if self._in_row and self.rows[-1]:
            self.rows[-1][-1] = " ".join(f"{self.rows[-1][-1]} {data}".split())

    @property
    def text(self) -> str:
        return " ".join(" ".join(self._words).split())

    def column(self, title: str) -> list[str]:
        """Return what a list shows in one of its columns."""
        if not self.rows:
            return []
        heads, *rows = self.rows
        index = heads.index(title) - len(heads)
        return [row[index] for row in rows]


class Desk:
    """Somebody's browser in the admin."""

    def __init__(self, user: User) -> None:
        self.user = user
        self.http = Client()
        self.http.force_login(user)

    def get(self, path: str) -> Any:
        return self.http.get(path)

    def page(self, path: str) -> Page:
        return Page(self.http.get(path))

    def post(self, path: str, **data: Any) -> Any:
        return self.http.post(path, data, follow=True)


def messages(answer: Any) -> list[tuple[str, str]]:
    """Return level and text of the messages on a page."""
    return [(message.level_tag, message.message) for message in answer.context["messages"]]


def staff(name: str, *permissions: str) -> Desk:
    """Return the desk of somebody who may do this and no more."""
    user = User.objects.create_user(name, is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    assert user.user_permissions.count() == len(permissions)
    return Desk(user)


@pytest.fixture
def operator(db: None) -> Desk:
    return Desk(User.objects.create_superuser("operator"))


@pytest.fixture
def auditor(db: None) -> Desk:
    return staff("auditor", "view_chatsession")


@pytest.fixture
def ada(db: None) -> User:
    return User.objects.create_user("ada")


@pytest.fixture
def bob(db: None) -> User:
    return User.objects.create_user("bob")
