"""Settings come from the environment, and a wrong one is a sentence."""

import pytest

from causvid.serving import models
from causvid.serving.models import Models
from causvid.serving.settings import Settings, SettingsError, variables

ABOVE_OR_ZERO = ("WAITING", "SNAPSHOT_MB", "CLIENT_RUNS", "PROXIES", "LOST_SECONDS")
ABOVE_ZERO = (
    *("MAX_PIXELS", "MAX_WORK", "MAX_PROMPT", "MAX_CUES", "UPLOAD_MB", "UPLOAD_PIXELS"),
    *("LEAD", "CONNECTIONS", "KEEP_MINUTES", "GPU_SECONDS", "UPLOADS_MB", "CLIENT_UPLOADS_MB"),
)
SWITCHES = ("COMPILE", "TINY_DECODER", "LOG_PROMPTS")


def test_without_variables_the_defaults_hold():
    others = {"PATH": "/bin", "CAUSVID_SERVER": "http://127.0.0.1:7860"}  # the latter of clients
    settings = Settings.from_environment({**others, "CAUSVID_DEVICE": "cpu"})
    assert settings.model == "pocket"
    assert settings.models == ("pocket", "pocket-2")
    assert settings == Settings(device="cpu")


@pytest.mark.parametrize(
    ("asked", "text", "image", "video"),
    [
        ({}, "pocket", "pocket-2", "pocket-2"),
        ({"model": "pocket"}, "pocket", "pocket", "pocket"),
        ({"models": "pocket-2,pocket"}, "pocket", "pocket-2", "pocket-2"),
        ({"models": "streamdiffusion-v2,pocket"}, "pocket", "pocket", "streamdiffusion-v2"),
        ({"model": "pocket-2"}, "pocket-2", "pocket-2", "pocket-2"),  # refused when it is asked for
    ],
)
def test_every_mode_has_a_model_that_can(asked, text, image, video):
    settings = Settings(device="cpu", **asked)
    found = [settings.model_for(mode) for mode in ("text", "image", "video")]
    assert found == [text, image, video]


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
        ("CAUSVID_QUANTISE", "int1", "none, fp8"),
        ("CAUSVID_VIEWERS", "many", "a whole number"),
        ("CAUSVID_VIEWERS", "0", "more than 0"),
        ("CAUSVID_MAX_SECONDS", "nan", "a number"),
        ("CAUSVID_ENDLESS_SECONDS", "-1", "0 or more"),
        ("CAUSVID_MCP", "perhaps", "expected 1 or 0"),
        ("CAUSVID_VIEWER", "3", "no setting; did you mean CAUSVID_VIEWERS"),
        ("CAUSVID_QUANTIZE", "fp8", "did you mean CAUSVID_QUANTISE"),
        ("CAUSVID_COLOUR", "red", "no setting; there are CAUSVID_MODEL, "),
        ("CAUSVID_TEXT_ENCODER_DEVICE", "moon", "expected cpu, or a GPU"),
        ("HF_TOKEN", "hf_two words", "no token"),
        *((f"CAUSVID_{name}", "0", "more than 0") for name in ABOVE_ZERO),
        *((f"CAUSVID_{name}", "-1", "0 or more") for name in ABOVE_OR_ZERO),
        *((f"CAUSVID_{name}", "perhaps", "1 or 0") for name in SWITCHES),
    ],
)
def test_a_wrong_value_names_its_variable(name, value, said):
    environment = {"CAUSVID_DEVICE": "cpu", name: value}
    with pytest.raises(SettingsError, match=said) as caught:
        Settings.from_environment(environment)
    assert name in str(caught.value)


def test_a_refusal_is_tested_for_every_variable():
    (refusals,) = (
        mark.args[1] for mark in test_a_wrong_value_names_its_variable.pytestmark if mark.args
    )
    assert {name for name, _, _ in variables()} <= {name for name, _, _ in refusals}


def test_the_token_is_told_to_nobody():
    settings = Settings.from_environment({"CAUSVID_DEVICE": "cpu", "HF_TOKEN": "hf_secret"})
    assert settings.token == "hf_secret"
    assert "secret" not in f"{settings!r} {settings}"
    with pytest.raises(SettingsError) as caught:
        Settings.from_environment({"HF_TOKEN": "hf_secret\nhf_other"})
    assert "secret" not in str(caught.value)


def test_the_token_reaches_the_hub(monkeypatch):
    given = []
    monkeypatch.setattr(models, "load", lambda *_, token, **__: given.append(token))
    monkeypatch.setattr(models, "in_force", lambda _: "")
    Models(Settings(device="cpu", token="hf_secret")).open("pocket")
    Models(Settings(device="cpu")).open("pocket")
    assert given == ["hf_secret", None], "without one, that of `hf auth login` counts"
