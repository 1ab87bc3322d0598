"""A plain Django site for the tests: SQLite and local memory unless the environment names others.

DATABASE_URL and CACHE_URL choose the database and the cache, for example
``DATABASE_URL=postgres://user:password@127.0.0.1/chatkit`` and ``CACHE_URL=redis://127.0.0.1:6379/0``.
"""

import atexit
import shutil
import tempfile
from pathlib import Path

import environ

env = environ.Env()

TESTS_DIR = Path(__file__).resolve().parent
SECRET_KEY = "tests-only-" + "k" * 50
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "tests.urls"
USE_TZ = True
STATIC_URL = "static/"
LOGIN_URL = "login"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]  # fast, and safe for made-up passwords

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "rest_framework",
    "chatkit_sessions",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [TESTS_DIR / "templates"],
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

# From Django 6.1 on there is no default.
MAILERS = {"default": {"BACKEND": "django.core.mail.backends.locmem.EmailBackend"}}

CACHES = {"default": env.cache("CACHE_URL", default="locmemcache://")}

if env.str("DATABASE_URL", default=""):
    DATABASES = {"default": env.db("DATABASE_URL")}
else:
    # A file, not :memory:, so that several threads and processes of one test meet in one database.
    _directory = tempfile.mkdtemp(prefix="chatkit-tests-")
    atexit.register(shutil.rmtree, _directory, ignore_errors=True)
    DATABASES = {
        "default": {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": f"{_directory}/site.sqlite3",
            "TEST": {"NAME": f"{_directory}/test.sqlite3"},
        }
    }

CHATKIT_SESSIONS = {
    "API_KEY": "sk-tests-not-a-real-key",
    # Nobody listens on this port: what a test forgets to redirect fails at once and leaves nothing behind.
    "BASE_URL": "http://127.0.0.1:9/v1",
    "WORKFLOWS": {"default": {"id": "wf_tests"}},
}
