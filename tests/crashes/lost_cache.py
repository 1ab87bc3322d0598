"""A cache that has gone away."""

from typing import Any

from django.core.cache.backends.base import BaseCache


class LostCache(BaseCache):
    """Fail whatever is asked of it, and count how often that was."""

    asked = 0

    def __init__(self, server: str, params: dict[str, Any]) -> None:
        super().__init__(params)

    def _fail(self, *args: Any, **kwargs: Any) -> Any:
        LostCache.asked += 1
        raise ConnectionError("the cache is gone")

    add = get = set = touch = delete = clear = incr = has_key = _fail
    get_many = set_many = delete_many = get_or_set = decr = _fail
