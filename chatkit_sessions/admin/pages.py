"""What the pages of the admin that are no forms of Django's have in common."""

from __future__ import annotations

from typing import Any

from django.contrib.admin.options import ModelAdmin
from django.http import HttpRequest


def page_context(model_admin: ModelAdmin[Any], request: HttpRequest, *, title: Any) -> dict[str, Any]:
    """Return what a template that extends the page of one object needs.

    It extends that one for its links to the app and the model above, which each version of Django marks up in
    its own way.
    """
    return {
        **model_admin.admin_site.each_context(request),
        "title": title,
        "original": title,  # the last of the links
        "opts": model_admin.opts,
        "media": model_admin.media,
        "has_view_permission": model_admin.has_view_permission(request),
    }
