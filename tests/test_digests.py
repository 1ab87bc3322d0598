import re

import pytest
from django.test import override_settings

from chatkit_sessions.digests import digest, digests


def test_a_digest_is_keyed_and_says_nothing_of_the_secret() -> None:
    first = digest("ek_secret")
    assert re.fullmatch("[0-9a-f]{64}", first)
    assert digest("ek_secret") == first != digest("ek_secret2")
    with override_settings(SECRET_KEY="another"):
        assert digest("ek_secret") != first


def test_a_change_of_the_key_leaves_the_old_digests_known() -> None:
    with override_settings(SECRET_KEY="old"):
        old = digest("ek_secret")
        assert digests("ek_secret") == [old]
    with override_settings(SECRET_KEY="new", SECRET_KEY_FALLBACKS=["older", "old"]):
        assert digests("ek_secret")[0] == digest("ek_secret") != old
        assert old in digests("ek_secret")


@pytest.mark.parametrize("claimed", ["", "\ud800", "ek\x00", "x" * 10_000])
def test_whatever_claims_to_be_a_secret_has_a_digest(claimed: str) -> None:
    assert len(digest(claimed)) == 64
    assert digest(claimed) != digest(claimed + "1")
