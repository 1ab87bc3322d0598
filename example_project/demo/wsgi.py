"""The WSGI application, which `manage.py runserver` serves too."""

import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "demo.settings")
application = get_wsgi_application()

from demo import standin  # noqa: E402  # the settings must be in place before

standin.start_if_needed()
