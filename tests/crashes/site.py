"""What the tests' site knows people by under load: two headers, of which the server believes every word."""

from typing import Any

from django.contrib.auth.models import User
from django.http import HttpRequest
from rest_framework.authentication import BaseAuthentication
from rest_framework.request import Request

ACCOUNT = "X-Account"
PERSON = "X-Person"


class HeaderAuthentication(BaseAuthentication):
    """Take the account from a header."""

    def authenticate(self, request: Request) -> tuple[User, None]:
        """Return the account."""
        return User.objects.get(username=request.headers[ACCOUNT]), None


def person(user: Any, request: HttpRequest) -> str:
    """Return what the API knows the person by: with each request it may be another one."""
    return request.headers[PERSON]
