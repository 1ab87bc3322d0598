"""The example project: a site with one page, and on it the chat.

Everything is read from the environment: OPENAI_API_KEY and the other variables of the package, SECRET_KEY,
DEBUG, ALLOWED_HOSTS, DATABASE_URL and CACHE_URL. With none of them set it works, against a stand-in API.
"""

from importlib.util import find_spec
from pathlib import Path

import environ

from . import standin

env = environ.Env()

PROJECT_DIR = Path(__file__).resolve().parent.parent

# True is a dangerous default for a site and the right one for an example: it is what creates the accounts
# with the published password, serves the static files and needs no SECRET_KEY. A real site has False here.
DEBUG = env.bool("DEBUG", default=True)
SECRET_KEY = env.str("SECRET_KEY", default="for-the-example-only") if DEBUG else env.str("SECRET_KEY")
ALLOWED_HOSTS = env.list("ALLOWED_HOSTS", default=["localhost", "127.0.0.1", "[::1]"])

# drf-spectacular comes with the "demo" extra; without it the site has no /api/docs/.
HAS_DOCS = find_spec("drf_spectacular") is not None and find_spec("drf_spectacular_sidecar") is not None

INSTALLED_APPS = [
    "demo",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "rest_framework",
    "chatkit_sessions",
    *(["drf_spectacular", "drf_spectacular_sidecar"] if HAS_DOCS else []),
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "demo.csp.ContentSecurityPolicyMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",  # the widget, the admin and errors in German, too
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

ROOT_URLCONF = "demo.urls"
WSGI_APPLICATION = "demo.wsgi.application"
ASGI_APPLICATION = "demo.asgi.application"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

DATABASES = {"default": env.db("DATABASE_URL", default=f"sqlite:///{PROJECT_DIR / 'db.sqlite3'}")}
CACHES = {"default": env.cache("CACHE_URL", default="locmemcache://")}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]
LOGIN_URL = "login"
LOGIN_REDIRECT_URL = "home"
LOGOUT_REDIRECT_URL = "home"

LANGUAGE_CODE = "en-us"
TIME_ZONE = "UTC"
USE_TZ = True

STATIC_URL = "static/"
STATIC_ROOT = PROJECT_DIR / "staticfiles"

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"console": {"class": "logging.StreamHandler"}},
    "loggers": {"chatkit_sessions": {"handlers": ["console"], "level": "INFO"}},
}

if HAS_DOCS:
    REST_FRAMEWORK = {"DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema"}
    SPECTACULAR_SETTINGS = {
        "TITLE": "django-chatkit-sessions",
        "DESCRIPTION": "ChatKit sessions, workflows and conversations of the signed-in visitor.",
        "VERSION": "0.1.0",
        "SERVE_INCLUDE_SCHEMA": False,
        "SWAGGER_UI_DIST": "SIDECAR",
        "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    }

# With a key, the package reads OPENAI_API_KEY, CHATKIT_WORKFLOW_ID and the others from the environment by
# itself, and talks to the real API: nothing need stand here. Without one, the stand-in answers.
CHATKIT_SESSIONS = {}
if not (env.str("CHATKIT_OPENAI_API_KEY", default="") or env.str("OPENAI_API_KEY", default="")):
    CHATKIT_SESSIONS = {
        "API_KEY": standin.api_key,
        "BASE_URL": standin.BASE_URL,
        "CHATKIT_JS_URL": standin.SCRIPT_URL,
        "WORKFLOWS": {
            "default": {
                "id": "wf_echo",
                "name": "Echo",
                # Handed to the widget as they are: the options of ChatKit's setOptions().
                "ui_options": {
                    "theme": {"color": {"accent": {"primary": "#0c7a5b", "level": 1}}},
                    "header": {"title": {"text": "Echo"}},
                    "startScreen": {"greeting": "What would you like to hear back?"},
                },
            },
        },
    }
