"""Options of the widget, apart from Django."""
