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

MAX_BODY_BYTES = 64 * 1024


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
            return JSONParser().parse(io.BytesIO(content), media_type, context)
        except RecursionError:
            raise ParseError(_("The body is nested too deeply.")) from None
