from django.apps import apps
from django.contrib import admin
from django.contrib.auth.views import LogoutView
from django.templatetags.static import static
from django.urls import include, path
from django.views.generic import RedirectView

from demo.views import Home, SignIn

urlpatterns = [
    path("", Home.as_view(), name="home"),
    path("accounts/login/", SignIn.as_view(), name="login"),
    path("accounts/logout/", LogoutView.as_view(), name="logout"),
    path("admin/", admin.site.urls),
    path("api/chatkit/", include("chatkit_sessions.urls")),
    # Browsers ask for it on pages that name no icon, such as the admin's.
    path("favicon.ico", RedirectView.as_view(url=static("demo/icon.svg"))),
]

if apps.is_installed("drf_spectacular"):
    from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerSplitView

    from demo import schema  # noqa: F401  # describes the endpoints; registered on import

    urlpatterns += [
        path("api/docs/", SpectacularSwaggerSplitView.as_view(url_name="schema"), name="docs"),
        path("api/schema/", SpectacularAPIView.as_view(), name="schema"),
    ]
