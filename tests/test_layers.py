from typing import Any

import pytest
from django.test import override_settings
from django.utils import translation

from chatkit_sessions.layers import LAYER_LABELS, Layer, Resolved, describe, supplied_by


def test_the_layers_stand_in_the_order_in_which_they_win() -> None:
    assert [layer.value for layer in Layer] == [
        "default",
        "browser",
        "setting",
        "workflow_setting",
        "workflow",
        "group_override",
        "user_override",
        "argument",
    ]


@pytest.mark.parametrize("layer", Layer)
def test_every_layer_has_words(layer: Layer) -> None:
    assert describe({"value": 1, "layer": layer.value}) == str(LAYER_LABELS[layer])


def test_a_value_is_kept_with_its_layer_and_its_source() -> None:
    assert Resolved(600, Layer.SETTING).as_json() == {"value": 600, "layer": "setting"}
    source = {"override": 7, "group": "Trial"}
    assert Resolved(600, Layer.GROUP_OVERRIDE, source).as_json() == {
        "value": 600,
        "layer": "group_override",
        "source": source,
    }
    assert supplied_by(Layer.ARGUMENT, {"a": 1, "b": None}) == {
        "a": Resolved(1, Layer.ARGUMENT),
        "b": Resolved(None, Layer.ARGUMENT),
    }


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ({}, "override for group Trial"),
        ({"workflow": "support"}, "override for group Trial, for support only"),
        (
            {"valid_until": "2026-12-01T00:00:00+00:00"},
            "override for group Trial, valid until Dec. 1, 2026, midnight",
        ),
        (
            {"workflow": "support", "valid_until": "2026-12-01T13:30:00+00:00"},
            "override for group Trial, for support only, valid until Dec. 1, 2026, 1:30 p.m.",
        ),
    ],
)
@override_settings(TIME_ZONE="UTC")
def test_an_override_is_told_with_its_target_workflow_and_end(source: dict[str, Any], words: str) -> None:
    stored = {"layer": "group_override", "source": {"override": 7, "group": "Trial", **source}}
    with translation.override("en"):
        assert describe(stored) == words


def test_an_override_for_a_user_is_told_so() -> None:
    stored = {"layer": "user_override", "source": {"override": 7, "user": "ada"}}
    assert describe(stored) == "override for user ada"
