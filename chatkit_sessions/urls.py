"""The endpoints' addresses."""

from __future__ import annotations

from django.urls import path

from .api import views

app_name = "chatkit_sessions"

urlpatterns = [
    path("sessions/", views.SessionListView.as_view(), name="session-list"),
    path("sessions/<str:session_id>/", views.SessionDetailView.as_view(), name="session-detail"),
    path("sessions/<str:session_id>/cancel/", views.SessionCancelView.as_view(), name="session-cancel"),
    path("workflows/", views.WorkflowListView.as_view(), name="workflow-list"),
    path("threads/", views.ThreadListView.as_view(), name="thread-list"),
    path("threads/<str:thread_id>/", views.ThreadDetailView.as_view(), name="thread-detail"),
    path("threads/<str:thread_id>/items/", views.ThreadItemsView.as_view(), name="thread-items"),
]
