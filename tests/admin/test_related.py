from typing import Any

import pytest
from django.apps import apps
from django.contrib import admin
from django.contrib.admin.apps import SimpleAdminConfig
from django.contrib.auth.admin import GroupAdmin, UserAdmin
from django.contrib.auth.models import Group, User
from django.http import HttpRequest

from chatkit_sessions.admin.related import (
    GroupOverrideInline,
    OverrideInline,
    UserOverrideInline,
    list_overrides_beside,
)
from chatkit_sessions.models import PolicyOverride

from .conftest import Desk, messages, staff

TITLE = "ChatKit policy overrides"


def path_of(target: Any) -> str:
    return f"/admin/auth/{type(target).__name__.lower()}/{target.pk}/change/"


def saved(desk: Desk, path: str, **changes: Any) -> Any:
    """Send the form of a page as it stands there, with changes."""
    page = desk.page(path)
    fields: dict[str, Any] = {}
    for field in page.inputs:
        name, kind = field.get("name"), field.get("type")
        if name and kind != "submit" and (kind != "checkbox" or "checked" in field):
            fields[name] = field.get("value") or ""
    return desk.post(path, **{**fields, **changes})


@pytest.fixture
def group(ada: User) -> Group:
    return Group.objects.create(name="Trial")


@pytest.mark.parametrize("kind", ["user", "group"])
def test_overrides_stand_beside_their_user_and_their_group(
    operator: Desk, ada: User, group: Group, kind: str
) -> None:
    target = ada if kind == "user" else group
    override = PolicyOverride.objects.create(
        **{kind: target}, workflow_slug="default", expires_after=60, reason="a slow month"
    )
    PolicyOverride.objects.create(user=User.objects.create_user("carl"), reason="somebody else's")
    page = operator.page(path_of(target))
    assert TITLE in page.text
    assert "a slow month" in page.text
    assert "somebody else's" not in page.text
    assert f"/admin/chatkit_sessions/policyoverride/{override.pk}/change/" in [
        link.partition("?")[0] for link in page.links
    ]


def test_the_sites_own_admins_stay_in_place() -> None:
    for model, kind, inline in (
        (User, UserAdmin, UserOverrideInline),
        (Group, GroupAdmin, GroupOverrideInline),
    ):
        beside = admin.site.get_model_admin(model)
        assert type(beside) is kind
        assert beside.inlines is kind.inlines
        assert inline in beside.get_inlines(HttpRequest(), model())


@pytest.mark.parametrize("reason", ["its workflow is gone", "its bound is lower now"])
def test_saving_a_user_says_nothing_of_their_overrides(operator: Desk, ada: User, reason: str) -> None:
    # Neither of these would pass the override's own form.
    values: dict[str, Any] = {"workflow_slug": "gone"} if "gone" in reason else {"expires_after": 601}
    override = PolicyOverride.objects.create(user=ada, **values)
    answer = saved(operator, path_of(ada), first_name="Ada")
    assert [level for level, _text in messages(answer)] == ["success"]
    ada.refresh_from_db()
    assert ada.first_name == "Ada"
    assert PolicyOverride.objects.get() == override


def test_nothing_can_be_added_changed_or_removed_there(operator: Desk, ada: User) -> None:
    override = PolicyOverride.objects.create(user=ada, expires_after=60)
    names = [str(field.get("name")) for field in operator.page(path_of(ada)).inputs]
    [prefix] = [name.removesuffix("TOTAL_FORMS") for name in names if name.endswith("TOTAL_FORMS")]
    added = {"TOTAL_FORMS": "2", "1-expires_after": "9"}
    for changes in ({"0-expires_after": "5"}, {"0-DELETE": "on"}, added):
        fields = {prefix + name: value for name, value in changes.items()}
        answer = saved(operator, path_of(ada), **fields)
        assert answer.status_code == 200
        assert [(row.pk, row.expires_after) for row in PolicyOverride.objects.all()] == [(override.pk, 60)]


@pytest.mark.parametrize("granted", [False, True])
def test_they_are_shown_to_those_who_may_view_overrides(ada: User, granted: bool) -> None:
    PolicyOverride.objects.create(user=ada, reason="a slow month")
    rights = ["view_user", "change_user", *(["view_policyoverride"] if granted else [])]
    text = staff("somebody", *rights).page(path_of(ada)).text
    assert (TITLE in text) is ("a slow month" in text) is granted


@pytest.mark.parametrize("name", ["user", "group"])
def test_the_page_that_adds_somebody_is_as_it_was(operator: Desk, name: str) -> None:
    assert TITLE not in operator.page(f"/admin/auth/{name}/add/").text
    data = {"username": "new", "usable_password": "true", "password1": "qwe!23rty", "password2": "qwe!23rty"}
    answer = operator.post(f"/admin/auth/{name}/add/", **(data if name == "user" else {"name": "new"}))
    assert [level for level, _text in messages(answer)] == ["success"]


def inlines_of(site: admin.AdminSite, model: Any) -> list[Any]:
    return list(site.get_model_admin(model).get_inlines(HttpRequest(), model()))


class Site(admin.AdminSite):
    """A site's own admin site."""


class AdminWithInlines(UserAdmin):  # type: ignore[type-arg]  # generic in the stubs only
    """An admin that has inlines of its own, whichever they are."""

    inlines = (GroupOverrideInline,)


def test_users_and_groups_need_not_be_registered() -> None:
    site = Site()
    list_overrides_beside(site)
    assert not site._registry
    site.register(User, AdminWithInlines)
    list_overrides_beside(site)
    assert inlines_of(site, User) == [GroupOverrideInline, UserOverrideInline]


@pytest.mark.parametrize("automatic", [True, False])
def test_the_order_of_installed_apps_does_not_matter(
    monkeypatch: pytest.MonkeyPatch, automatic: bool
) -> None:
    # Where this app comes first, the admins of users and groups are registered after it asks for them.
    site = Site()
    monkeypatch.setattr(admin, "autodiscover", lambda: site.register([User, Group]))
    if not automatic:
        monkeypatch.setitem(apps.app_configs, "admin", SimpleAdminConfig("django.contrib.admin", admin))
    list_overrides_beside(site)
    assert [model for model in site._registry if inlines_of(site, model)] == (
        [User, Group] if automatic else []
    )


def test_an_inline_is_to_be_read_only(operator: Desk, ada: User) -> None:
    assert set(OverrideInline.fields) == set(OverrideInline.readonly_fields)
    PolicyOverride.objects.create(user=ada)
    fields = operator.page(path_of(ada)).inputs
    [total] = [str(field["name"]) for field in fields if str(field.get("name")).endswith("TOTAL_FORMS")]
    first = total.replace("TOTAL_FORMS", "0-")
    typed = {str(field.get("name")): field.get("type") for field in fields}
    assert {kind for name, kind in typed.items() if name.startswith(first)} <= {"hidden"}
