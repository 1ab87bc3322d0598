import pytest
from django.apps import apps
from django.contrib import admin

from chatkit_sessions.admin import related


@pytest.mark.parametrize(("has_admin", "listed"), [(True, [admin.site]), (False, [])])
def test_a_site_without_the_admin_starts_too(
    monkeypatch: pytest.MonkeyPatch, has_admin: bool, listed: list[admin.AdminSite]
) -> None:
    sites: list[admin.AdminSite] = []
    monkeypatch.setattr(related, "list_overrides_beside", sites.append)
    monkeypatch.setattr(apps, "is_installed", lambda name: has_admin)
    apps.get_app_config("chatkit_sessions").ready()
    assert sites == listed
