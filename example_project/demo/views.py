from typing import Any

from django.conf import settings
from django.contrib.auth.mixins import LoginRequiredMixin
from django.contrib.auth.views import LoginView
from django.views.generic import TemplateView

from demo.accounts import ACCOUNTS, PASSWORD


class Home(LoginRequiredMixin, TemplateView):
    """The chat, for a visitor who has signed in."""

    template_name = "demo/home.html"


class SignIn(LoginView):
    """The sign-in form, which names the ready-made accounts where they exist."""

    redirect_authenticated_user = True

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        accounts = {"accounts": ACCOUNTS, "password": PASSWORD} if settings.DEBUG else {}
        return super().get_context_data(**accounts, **kwargs)
