"""Settings come from the environment, and a wrong one is a sentence."""

import pytest

from causvid.settings import Settings, SettingsError, variables


def test_without_variables_the_defaults_hold():
    settings = Settings.from_environment({"PATH": "/bin", "CAUSVID_DEVICE": "cpu"})
    assert settings.model == "pocket"
    assert settings.models == ("pocket",)
    assert settings == Settings(device="cpu")


def test_variables_are_read_by_type():
    settings = Settings.from_environment(
        {
            "CAUSVID_DEVICE": "cpu",
            "CAUSVID_MODELS": "self-forcing, pocket",
            "CAUSVID_VIEWERS": " 2 ",
            "CAUSVID_MAX_SECONDS": "12.5",
            "CAUSVID_MCP": "yes",
            "CAUSVID_TINY_DECODER": "0",
        }
    )
    assert settings.model == "self-forcing"
    assert settings.models == ("self-forcing", "pocket")
    assert settings.viewers == 2
    assert settings.max_seconds == 12.5
    assert settings.mcp and not settings.tiny_decoder


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("CAUSVID_MODEL", "pockett", "did you mean pocket"),
        ("CAUSVID_MODELS", "pocket,nothing", "nothing"),
        ("CAUSVID_DEVICE", "toaster", "toaster"),
        ("CAUSVID_DTYPE", "int3", "bfloat16"),
        ("CAUSVID_ATTENTION", "magic", "expected"),
        ("CAUSVID_QUANTISE", "int1", "none or fp8"),
        ("CAUSVID_VIEWERS", "many", "a whole number"),
        ("CAUSVID_VIEWERS", "0", "above 0"),
        ("CAUSVID_MAX_SECONDS", "nan", "above 0"),
        ("CAUSVID_ENDLESS_SECONDS", "-1", "0 or more"),
        ("CAUSVID_MCP", "perhaps", "expected 1 or 0"),
        ("CAUSVID_VIEWER", "3", "no setting"),
    ],
)
def test_a_wrong_value_names_its_variable(name, value, said):
    environment = {"CAUSVID_DEVICE": "cpu", name: value}
    with pytest.raises(SettingsError, match=said) as caught:
        Settings.from_environment(environment)
    assert name in str(caught.value)


def test_every_variable_is_documented():
    assert all(name.startswith("CAUSVID_") and help_ for name, _, help_ in variables())
