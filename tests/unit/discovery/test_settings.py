"""Discovery's settings."""

import dataclasses

import pytest

from picontroller.core import config
from picontroller.discovery.settings import Settings


@pytest.mark.parametrize("field", ["lost_after_seconds", "flush_seconds"])
@pytest.mark.parametrize("value", ["0", "-1", "nan", "inf", "86401", "soon"])
def test_setting_when_it_can_not_be_right_is_named(field: str, value: str) -> None:
    with pytest.raises(config.ConfigurationError) as caught:
        config.load({"discovery": Settings}, None, {f"PICONTROLLER_DISCOVERY__{field.upper()}": value})
    assert field in str(caught.value).lower()


def test_settings_when_shown_explain_each_field() -> None:
    assert set(config.documentation(Settings)) == {field.name for field in dataclasses.fields(Settings)}
