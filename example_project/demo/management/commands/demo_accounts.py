from typing import Any

from django.conf import settings
from django.contrib.auth.models import User
from django.core.management.base import BaseCommand, CommandError
from django.db import transaction

from demo.accounts import ACCOUNTS, PASSWORD, Account


class Command(BaseCommand):
    """Create the example's accounts, or put them back as they were."""

    help = "Create the example's accounts, or restore their passwords. Refused unless DEBUG is on."

    def handle(self, *args: Any, **options: Any) -> None:
        if not settings.DEBUG:
            raise CommandError(
                "These accounts have a published password, so they are created only where DEBUG is on. "
                "Create your own with: manage.py createsuperuser"
            )
        with transaction.atomic():
            for account in ACCOUNTS:
                ensure(account)
        names = " and ".join(account.username for account in ACCOUNTS)
        self.stdout.write(f"Accounts: {names}, password {PASSWORD}")


def ensure(account: Account) -> None:
    """Create or restore one account."""
    user, _created = User.objects.get_or_create(username=account.username)
    user.is_active = True
    user.is_staff = user.is_superuser = account.is_operator
    user.set_password(PASSWORD)
    user.save()
