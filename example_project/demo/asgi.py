"""The ASGI application."""

import os

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "demo.settings")
application = get_asgi_application()

from demo import standin  # noqa: E402  # the settings must be in place before

standin.start_if_needed()
