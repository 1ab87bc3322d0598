"""Reading a body that a stranger wrote."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import IO, Any

from django.utils.decorators import method_decorator
from django.utils.translation import gettext_lazy as _
from django.views.decorators.debug import sensitive_variables
from rest_framework.exceptions import ParseError, ValidationError
from rest_framework.parsers import BaseParser, JSONParser
from rest_framework.request import Request

from chatkit_sessions.secret import hide

MAX_BODY_BYTES = 64 * 1024
# As we spell it, and as the public starter projects do.
CLIENT_SECRET_NAMES = ("current_client_secret", "currentClientSecret")


def require_length(request: Request) -> None:
    """Refuse a body that comes in chunks: REST framework takes it for none, and so what it asks for is lost.

    Raises:
        ValidationError: the request does not say how long its body is.
    """
    if "HTTP_TRANSFER_ENCODING" in request.META and not request.META.get("CONTENT_LENGTH"):
        raise ValidationError({"body": [_("Must not come in chunks: send it with Content-Length.")]})


class BoundedJSONParser(BaseParser):
    """Parse JSON of at most 64 KiB.

    REST framework's own parser is called and not inherited: for parsers that inherit it, later versions of
    REST framework read the body first, and where that is too long Django answers with an HTML page.
    """

    media_type = "application/json"

    @method_decorator(sensitive_variables())
    def parse(
        self,
        stream: IO[Any],
        media_type: str | None = None,
        parser_context: Mapping[str, Any] | None = None,
    ) -> Any:
        """Return what the JSON says.

        Raises:
            ValidationError: the body is too long.
            ParseError: it is no JSON, or nested too deeply.
        """
        content = stream.read(MAX_BODY_BYTES + 1)
        if len(content) > MAX_BODY_BYTES:
            message = _("Must be at most %(bytes)d bytes.") % {"bytes": MAX_BODY_BYTES}
            raise ValidationError({"body": [message]})
        # JSON is UTF-8. Older versions of REST framework decode as the browser names, and Python knows
        # "charsets" that decompress: 64 KiB become a gigabyte.
        context = {**(parser_context or {}), "encoding": "utf-8"}
        try:
            data = JSONParser().parse(io.BytesIO(content), media_type, context)
        except RecursionError:
            raise ParseError(_("The body is nested too deeply.")) from None
        # REST framework's serializers show their data.
        return hide(data, *CLIENT_SECRET_NAMES)
