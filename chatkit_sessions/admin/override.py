"""Overrides: exceptions for one user or one group."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django import forms
from django.contrib import admin
from django.contrib.admin.widgets import AutocompleteSelect, ForeignKeyRawIdWidget
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group
from django.core.exceptions import PermissionDenied, ValidationError
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from chatkit_sessions import conf, policy
from chatkit_sessions.layers import Layer, supplied_by
from chatkit_sessions.models import ChatSession, ChatSessionQuerySet, PolicyOverride, known_slugs
from chatkit_sessions.services import explain_policy

from .ending import EndRunningSessionsMixin
from .pages import page_context


def _can_be_searched(admin_site: admin.AdminSite, model: Any, request: HttpRequest) -> bool:
    """Return whether this site's admin lets people be found by typing; a site need not register them."""
    return admin_site.is_registered(model) and bool(
        admin_site.get_model_admin(model).get_search_fields(request)
    )


class UserSelect(AutocompleteSelect):
    """Search for a user by typing."""

    def optgroups(self, name: str, value: Sequence[str], attr: Any = None) -> Any:
        """Show nobody where the address has what can be no key; Django's own fails on it."""
        try:
            return super().optgroups(name, value, attr)
        except (ValueError, TypeError, OverflowError, ValidationError):
            return super().optgroups(name, [], attr)


class EffectivePolicyForm(forms.Form):
    """Whose policy to show."""

    user: forms.Field = forms.ModelChoiceField(queryset=None, label=_("User"))
    workflow = forms.ChoiceField(label=_("Workflow"))

    def __init__(self, *args: Any, admin_site: admin.AdminSite, request: HttpRequest, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        users = get_user_model()
        user_field: Any = self.fields["user"]
        user_field.queryset = users._default_manager.all()
        relation: Any = PolicyOverride._meta.get_field("user")
        if _can_be_searched(admin_site, users, request):
            user_field.widget = UserSelect(relation, admin_site, choices=user_field.choices)
        else:
            user_field.widget = ForeignKeyRawIdWidget(relation.remote_field, admin_site)
        workflow_field: Any = self.fields["workflow"]
        workflow_field.choices = [(slug, slug) for slug in known_slugs()]
        workflow_field.initial = conf.read()[0].default_workflow


@admin.register(PolicyOverride)
class PolicyOverrideAdmin(EndRunningSessionsMixin, admin.ModelAdmin):  # type: ignore[type-arg]  # generic in the stubs only
    """Who is treated otherwise, how long and why."""

    list_display = ("target", "workflow", "values", "in_force", "valid_until", "reason")
    list_select_related = ("user", "group")
    list_filter = ("is_blocked", "group")
    search_fields = (
        f"user__{get_user_model().USERNAME_FIELD}__exact",
        "group__name__exact",
        "workflow_slug__exact",
    )
    search_help_text = _("A user name, a group's name or a workflow, spelled exactly.")
    raw_id_fields = ("user", "group")  # where get_autocomplete_fields leaves one out
    readonly_fields = ("created_by", "created_at")
    actions = ("end_running_sessions",)
    fieldsets = (
        (
            None,
            {
                "description": _(
                    "For one user or one group. A user's override wins over a group's, one for a workflow "
                    "over one for all of them, value by value; among equals the stricter value wins."
                ),
                "fields": ("user", "group", "workflow_slug"),
            },
        ),
        (
            _("Values"),
            {
                "description": _("Blank: decided by the workflow and the settings."),
                "fields": ("is_blocked", *policy.OVERRIDE_FIELDS),
            },
        ),
        (_("When and why"), {"fields": ("valid_from", "valid_until", "reason", "created_by", "created_at")}),
    )

    def get_autocomplete_fields(self, request: HttpRequest) -> tuple[str, ...]:
        """Search by typing where the site's own admins of users and groups allow it."""
        models = (("user", get_user_model()), ("group", Group))
        return tuple(name for name, model in models if _can_be_searched(self.admin_site, model, request))

    @admin.display(description=_("for"))
    def target(self, override: PolicyOverride) -> str:
        """Show whom it is for."""
        return override.target

    @admin.display(description=_("workflow"), ordering="workflow_slug")
    def workflow(self, override: PolicyOverride) -> Any:
        """Show the workflow."""
        return override.workflow_slug or _("all")

    @admin.display(description=_("values"))
    def values(self, override: PolicyOverride) -> str:
        """Show what it decides, with units."""
        layer = Layer.USER_OVERRIDE
        values = {name: getattr(override, name) for name in policy.OVERRIDE_FIELDS}
        decided = supplied_by(layer, {name: value for name, value in values.items() if value is not None})
        described = policy.describe_policy({name: item.as_json() for name, item in decided.items()})
        words = [f"{label}: {value}" for label, value, _source in described]
        return ", ".join([str(_("blocked")), *words] if override.is_blocked else words)

    @admin.display(description=_("in force"), boolean=True)
    def in_force(self, override: PolicyOverride) -> bool:
        """Show whether it counts now."""
        now = timezone.now()
        return not override.is_over(now) and not override.is_to_come(now)

    def formfield_for_dbfield(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        """Say which workflows there are."""
        if db_field.name == "workflow_slug":
            text = _("The slug of one workflow: %(known)s. Blank: every workflow.")
            kwargs["help_text"] = text % {"known": ", ".join(known_slugs())}
        return super().formfield_for_dbfield(db_field, request, **kwargs)

    def save_model(self, request: HttpRequest, obj: PolicyOverride, form: Any, change: bool) -> None:
        """Remember who made it."""
        if not change:
            obj.created_by = request.user  # type: ignore[assignment]  # signed in, or they would not be here
        super().save_model(request, obj, form, change)

    def sessions_of(self, queryset: QuerySet[PolicyOverride]) -> ChatSessionQuerySet:
        """Return the sessions of the people and workflows that the overrides speak of."""
        spoken_of = Q(pk__in=[])
        for override in queryset:
            if override.user_id:
                who = Q(user=override.user_id)
            elif hasattr(get_user_model(), "groups"):
                # Not user__groups: MySQL changes no rows that it finds by way of their own table.
                who = Q(user__in=get_user_model()._base_manager.filter(groups=override.group_id).values("pk"))
            else:  # a user model need not have groups
                continue
            spoken_of |= who & (Q(workflow_slug=override.workflow_slug) if override.workflow_slug else Q())
        return ChatSession.objects.filter(spoken_of)

    def get_urls(self) -> list[URLPattern]:
        """Add the page that explains the effective policy."""
        view = self.admin_site.admin_view(self.effective_policy)
        return [path("effective/", view, name="chatkit_sessions_effective_policy"), *super().get_urls()]

    def effective_policy(self, request: HttpRequest) -> TemplateResponse:
        """Show what a user gets of a workflow, where each value comes from, and what would happen now."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        form = EffectivePolicyForm(request.GET or None, admin_site=self.admin_site, request=request)
        context = {
            **page_context(self, request, title=_("Effective policy")),
            "form": form,
            "media": self.media + form.media,
        }
        if form.is_valid():
            user = form.cleaned_data["user"]
            context["explained"] = explain_policy(user=user, workflow=form.cleaned_data["workflow"])
            context["overrides"] = PolicyOverride.objects.for_user(user).select_related("user", "group")
        return TemplateResponse(request, "admin/chatkit_sessions/policyoverride/effective.html", context)
