import json
from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any

import pytest
from django.contrib.auth.models import AnonymousUser, Group, User
from django.contrib.sessions.backends.db import SessionStore
from django.http import HttpRequest
from django.middleware.csrf import CsrfViewMiddleware
from django.template import Context, Template, TemplateSyntaxError
from django.test import Client, RequestFactory, override_settings
from django.utils.functional import SimpleLazyObject
from django.utils.translation import gettext_lazy, override
from pytest_django import DjangoAssertNumQueries

from chatkit_sessions.models import ChatSession, Workflow

SCRIPT = "https://cdn.platform.openai.com/deployments/chatkit/chatkit.js"
HOSTILE = (
    "\"'><script>alert(1)</script>",
    "</div></script><img src=x onerror=alert(1)>",
    "&quot;&#39;&lt;",
    "{{ 7|add:7 }}{% now 'Y' %}",
    "\u2028\u2029\x00\\u0022\\",
)


class Markup(HTMLParser):
    """Read the elements of a page, as a browser does."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        """Return the attributes of all elements with this tag."""
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def configs(self) -> list[dict[str, Any]]:
        """Return what each widget's element holds for the page code."""
        found = [attributes.get("data-chatkit-sessions") for _, attributes in self.elements]
        return [json.loads(config) for config in found if config]

    @property
    def config(self) -> dict[str, Any]:
        """Return the configuration of the only widget."""
        (config,) = self.configs
        return config


def visit(user: Any = None, **attributes: Any) -> HttpRequest:
    """Return the request of a page's visitor."""
    request = RequestFactory().get("/")
    request.user = user if user is not None else AnonymousUser()
    for name, value in attributes.items():
        setattr(request, name, value)
    return request


def render(tag: str = "{% chatkit %}", request: HttpRequest | None = None, **context: Any) -> Markup:
    template = Template("{% load chatkit %}" + tag)
    return Markup(template.render(Context({"request": request or visit(), **context})))


@pytest.fixture
def ada(db: None) -> User:
    return User.objects.create_user("ada")


@pytest.fixture
def configure() -> Callable[..., Any]:
    """Return a context manager that replaces CHATKIT_SESSIONS."""
    return lambda **keys: override_settings(CHATKIT_SESSIONS=keys)


pytestmark = pytest.mark.django_db


def test_a_panel_is_all_markup_and_no_inline_script() -> None:
    page = render()
    assert page.elements[:3] == [
        ("link", {"rel": "stylesheet", "href": "/static/chatkit_sessions/widget.css"}),
        ("script", {"src": SCRIPT, "async": None}),
        ("script", {"src": "/static/chatkit_sessions/widget.js", "type": "module"}),
    ]
    (root, body, notice) = page.all("div")
    assert root["class"] == "chatkit-sessions chatkit-sessions-panel"
    assert body == {"class": "chatkit-sessions-body"}
    assert notice == {"class": "chatkit-sessions-notice", "role": "alert", "hidden": None}
    assert len(page.all("openai-chatkit")) == 1
    assert page.text.split() == ["Try", "again", "The", "chat", "needs", "JavaScript."]
    assert not page.all("style")


def test_the_page_code_is_told_all_that_it_needs(rf: RequestFactory) -> None:
    request = visit()
    config = render(request=request).config
    token = config.pop("csrfToken")
    assert config == {
        "sessionsUrl": "/api/chatkit/sessions/",
        "csrfHeader": "X-CSRFTOKEN",
        "workflow": None,
        "options": {},
        "messages": {
            "failed": "The chat could not be started.",
            "blocked": "The chat could not be loaded. Check your connection, or ask the site's operator.",
        },
    }
    assert len(token) == 64
    assert request.META["CSRF_COOKIE_NEEDS_UPDATE"]


def test_a_launcher_opens_the_chat_on_demand() -> None:
    page = render("{% chatkit mode='launcher' %}")
    (root, body, _notice) = page.all("div")
    assert root["class"] == "chatkit-sessions chatkit-sessions-launcher"
    assert body == {"class": "chatkit-sessions-body", "hidden": None}
    assert page.all("button") == [
        {
            "type": "button",
            "class": "chatkit-sessions-toggle",
            "aria-expanded": "false",
            "aria-label": "Chat",
        },
        {"type": "button"},
    ]


def test_two_widgets_share_their_scripts() -> None:
    page = render("{% chatkit %}{% chatkit workflow='other' mode='launcher' %}")
    assert len(page.all("script")) == 2
    assert len(page.all("link")) == 1
    assert [config["workflow"] for config in page.configs] == [None, "other"]
    assert [tag for tag, _ in page.elements].index("script") < [tag for tag, _ in page.elements].index("div")


def test_each_page_gets_the_scripts_anew() -> None:
    template = Template("{% load chatkit %}{% chatkit %}")
    for _ in range(2):
        assert len(Markup(template.render(Context({"request": visit()}))).all("script")) == 2


@pytest.mark.parametrize("mode", ["sidebar", "", "PANEL"])
def test_a_mode_that_is_none_is_refused(mode: str) -> None:
    with pytest.raises(TemplateSyntaxError) as refused:
        render("{% chatkit mode=mode %}", mode=mode)
    assert str(refused.value) == f"{{% chatkit %}}: mode must be 'panel' or 'launcher', not {mode!r}."


def test_a_template_without_the_request_is_refused() -> None:
    with pytest.raises(TemplateSyntaxError) as refused:
        Template("{% load chatkit %}{% chatkit %}").render(Context())
    assert str(refused.value) == (
        "{% chatkit %} needs the request: render the template with it, and add "
        "'django.template.context_processors.request' to the context processors."
    )


@pytest.mark.parametrize("hostile", HOSTILE)
def test_nothing_breaks_out_of_the_markup(ada: User, configure: Callable[..., Any], hostile: str) -> None:
    options = {"startScreen": {"greeting": hostile, "prompts": [{"label": hostile, "prompt": hostile}]}}
    with configure(WORKFLOWS={"default": {"id": "wf_1", "ui_options": options}}):
        page = render("{% chatkit %}{% chatkit workflow=name %}", visit(ada), name=hostile)
    plain = render("{% chatkit %}{% chatkit workflow=name %}", name="other")
    assert page.configs[0]["options"] == options
    assert page.configs[1]["workflow"] == hostile
    assert [tag for tag, _ in page.elements] == [tag for tag, _ in plain.elements]
    assert page.text == plain.text


def test_a_hostile_address_or_nonce_stays_in_its_attribute(configure: Callable[..., Any]) -> None:
    address = 'https://cdn.example.com/"><script>alert(1)</script>'
    with configure(CHATKIT_JS_URL=address):
        page = render(request=visit(csp_nonce='"><script>'))
    assert [script.get("src") for script in page.all("script")] == [
        address,
        "/static/chatkit_sessions/widget.js",
    ]
    assert {script["nonce"] for script in page.all("script")} == {'"><script>'}


def test_a_page_that_does_not_escape_changes_nothing(configure: Callable[..., Any]) -> None:
    tag = "{% chatkit workflow=name %}"
    address = 'https://cdn.example.com/"><script>alert(1)</script>'
    with configure(CHATKIT_JS_URL=address):
        page, unescaped = (
            render(template, name=HOSTILE[0], csp_nonce=HOSTILE[0])
            for template in (tag, f"{{% autoescape off %}}{tag}{{% endautoescape %}}")
        )
    assert unescaped.config["workflow"] == HOSTILE[0]
    assert unescaped.all("script") == page.all("script")
    assert [name for name, _ in unescaped.elements] == [name for name, _ in page.elements]


class LazyNonce(SimpleLazyObject):  # type: ignore[type-arg]  # generic in the stubs only
    """As in Django 6: false until somebody has asked for it."""

    def __init__(self) -> None:
        super().__init__(lambda: "lazily-made")

    def __bool__(self) -> bool:
        return False


@pytest.mark.parametrize("nonce", ["plain", "lazy"])
@pytest.mark.parametrize("place", ["context", "request"])
def test_a_nonce_is_passed_on(nonce: str, place: str) -> None:
    value: Any = LazyNonce() if nonce == "lazy" else "plain"
    expected = "lazily-made" if nonce == "lazy" else "plain"
    page = render(csp_nonce=value) if place == "context" else render(request=visit(csp_nonce=value))
    assert [element["nonce"] for element in page.all("script") + page.all("link")] == [expected] * 3


@pytest.mark.parametrize("nonce", [None, ""])
def test_no_nonce_is_no_attribute(nonce: str | None) -> None:
    for page in (render(csp_nonce=nonce), render(request=visit(csp_nonce=nonce))):
        assert not any("nonce" in attributes for _, attributes in page.elements)


@override_settings(CSRF_HEADER_NAME="HTTP_X_XSRF_TOKEN", CSRF_COOKIE_NAME="XSRF-TOKEN")
def test_another_csrf_header_is_told(ada: User) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(ada)
    config = Markup(client.get("/").content.decode()).config
    assert config["csrfHeader"] == "X-XSRF-TOKEN"
    assert_the_token_counts(client, config)


@override_settings(CSRF_USE_SESSIONS=True)
def test_a_token_in_the_session_serves_as_well(ada: User) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(ada)
    config = Markup(client.get("/").content.decode()).config
    assert "csrftoken" not in client.cookies
    assert_the_token_counts(client, config)


def assert_the_token_counts(client: Client, config: dict[str, Any]) -> None:
    """A wrong token is refused, and the one on the page is taken: then the API is asked, in vain."""
    url = config["sessionsUrl"]
    refused = client.post(url, {}, "application/json", headers={config["csrfHeader"]: "x" * 64})
    assert refused.json()["code"] == "permission_denied"
    answer = client.post(url, {}, "application/json", headers={config["csrfHeader"]: config["csrfToken"]})
    assert answer.json()["code"] == "upstream_unavailable"


def test_the_workflows_options_are_handed_to_the_widget(ada: User, configure: Callable[..., Any]) -> None:
    Workflow.objects.create(slug="row", workflow_id="wf_row", ui_options={"locale": "de"})
    with configure(WORKFLOWS={"default": {"id": "wf_1", "ui_options": {"locale": "en"}}}):
        assert render(request=visit(ada)).config["options"] == {"locale": "en"}
        for name in ("row", "wf_row"):
            config = render("{% chatkit workflow=name %}", visit(ada), name=name).config
            assert (config["workflow"], config["options"]) == (name, {"locale": "de"})


def test_options_may_be_translated_lazily(ada: User, configure: Callable[..., Any]) -> None:
    options = {"startScreen": {"greeting": gettext_lazy("Yes")}}
    with configure(WORKFLOWS={"default": {"id": "wf_1", "ui_options": options}}), override("de"):
        assert render(request=visit(ada)).config["options"] == {"startScreen": {"greeting": "Ja"}}


def test_the_options_are_those_of_whoever_looks(ada: User, configure: Callable[..., Any]) -> None:
    ada.groups.add(Group.objects.create(name="staff"))
    workflow = {"id": "wf_1", "groups": ["staff"], "ui_options": {"locale": "en"}}
    with configure(WORKFLOWS={"default": workflow}):
        assert render(request=visit(ada)).config["options"] == {"locale": "en"}
        assert render(request=visit(User.objects.create_user("bob"))).config["options"] == {}
        assert render(request=visit()).config["options"] == {}


@pytest.mark.parametrize(
    "settings",
    [
        {"WORKFLOWS": {"default": {"id": "wf_1", "is_active": False}}},
        {"WORKFLOWS": {}},
        {"DEFAULT_WORKFLOW": "nowhere"},
        {"API_KEY": 5},
        {"NO_SUCH_SETTING": 1},
    ],
    ids=str,
)
def test_a_page_is_shown_although_its_chat_cannot_start(
    ada: User, configure: Callable[..., Any], settings: dict[str, Any]
) -> None:
    with configure(**settings):
        page = render(request=visit(ada))
    assert page.config["options"] == {}
    assert page.all("script")[-1]["src"] == "/static/chatkit_sessions/widget.js"


def test_settings_that_are_not_valid_load_no_script_of_unknown_origin(configure: Callable[..., Any]) -> None:
    with configure(CHATKIT_JS_URL="chatkit.js"):
        page = render()
    assert [script["src"] for script in page.all("script")] == ["/static/chatkit_sessions/widget.js"]


def test_a_page_without_accounts_is_shown() -> None:
    assert render(request=RequestFactory().get("/")).config["options"] == {}


def test_showing_starts_nothing(ada: User, django_assert_num_queries: DjangoAssertNumQueries) -> None:
    request = visit(ada)
    with django_assert_num_queries(1):  # the workflow
        render(request=request)
    assert not ChatSession.objects.exists()


def test_a_visitor_who_is_not_signed_in_costs_no_query(
    django_assert_num_queries: DjangoAssertNumQueries,
) -> None:
    with django_assert_num_queries(0):
        render()


@override_settings(CSRF_USE_SESSIONS=True)
def test_the_token_outlives_the_page() -> None:
    request = visit(session=SessionStore())
    CsrfViewMiddleware(lambda request: None).process_request(request)  # type: ignore[arg-type]  # never called
    first, second = (render(request=request).config["csrfToken"] for _ in range(2))
    assert first != second  # masked anew each time, against BREACH
    assert request.META["CSRF_COOKIE"]
