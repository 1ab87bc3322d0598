from collections.abc import Callable

import pytest
from django.contrib.auth.models import Group, User
from django.utils.translation import gettext_lazy
from pytest_django import DjangoAssertNumQueries

from chatkit_sessions.models import Workflow
from chatkit_sessions.standin import StandIn

from .conftest import Browser

GREETING = {"startScreen": {"greeting": "Good morning"}}


@pytest.fixture
def staff(db: None) -> Group:
    return Group.objects.create(name="staff")


@pytest.fixture(autouse=True)
def _workflows(staff: Group, configure: Callable[..., None]) -> None:
    configure(
        WORKFLOWS={
            "default": {"id": "wf_tests", "ui_options": GREETING},
            "sales": {"id": "wf_sales", "name": "Sales", "ui_options": {"locale": "en"}},
            "staff": {"id": "wf_staff", "groups": ["staff"]},
            "closed": {"id": "wf_closed", "is_active": False},
            "nameless": {},
        }
    )
    Workflow.objects.create(slug="sales", name="Sales and leases", ui_options={"locale": "de"})
    Workflow.objects.create(slug="row", workflow_id="wf_row")
    Workflow.objects.create(slug="off", workflow_id="wf_off", is_active=False)
    Workflow.objects.create(slug="team", workflow_id="wf_team").groups.add(staff)


def test_the_list_holds_what_the_caller_may_start(browser: Browser, standin: StandIn) -> None:
    answer = browser.get("workflows/")
    assert answer.status_code == 200
    assert answer.json() == {
        "object": "list",
        "data": [
            {
                "object": "chatkit.workflow",
                "id": "default",
                "slug": "default",
                "name": "default",
                "ui_options": GREETING,
            },
            {
                "object": "chatkit.workflow",
                "id": "row",
                "slug": "row",
                "name": "row",
                "ui_options": {},
            },
            {
                "object": "chatkit.workflow",
                "id": "sales",
                "slug": "sales",
                "name": "Sales and leases",
                "ui_options": {"locale": "de"},
            },
        ],
        "first_id": "default",
        "last_id": "sales",
        "has_more": False,
    }
    assert answer.headers["Cache-Control"] == "private, no-store"
    assert standin.requests == []


def test_a_member_of_a_group_sees_more(ada: User, staff: Group, browser: Browser) -> None:
    ada.groups.add(staff)
    slugs = [workflow["slug"] for workflow in browser.get("workflows/").json()["data"]]
    assert slugs == ["default", "row", "sales", "staff", "team"]


def test_there_may_be_none(browser: Browser, configure: Callable[..., None]) -> None:
    Workflow.objects.all().delete()
    configure(WORKFLOWS={})
    assert browser.get("workflows/").json() == {
        "object": "list",
        "data": [],
        "first_id": None,
        "last_id": None,
        "has_more": False,
    }


def test_each_listed_workflow_can_be_started(ada: User, browser: Browser, standin: StandIn) -> None:
    for workflow in browser.get("workflows/").json()["data"]:
        assert browser.issue(workflow=workflow["slug"])["workflow_slug"] == workflow["slug"]
        assert browser.issue(workflow={"id": workflow["id"]})["workflow_slug"] == workflow["slug"]


def test_options_may_be_translated_lazily(browser: Browser, configure: Callable[..., None]) -> None:
    options = {"startScreen": {"greeting": gettext_lazy("Yes")}}
    configure(WORKFLOWS={"default": {"id": "wf_tests", "ui_options": options}})
    answer = browser("GET", "workflows/", **{"Accept-Language": "de"})
    assert answer.json()["data"][0]["ui_options"] == {"startScreen": {"greeting": "Ja"}}


def test_listing_takes_few_queries(
    browser: Browser, configure: Callable[..., None], django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    configure(WORKFLOWS={f"team{number}": {"id": "wf", "groups": ["staff"]} for number in range(10)})
    # The web session, the user, the rows; the person's groups, since the settings name some.
    with django_assert_num_queries(4):
        browser.get("workflows/")
