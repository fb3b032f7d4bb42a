"""Deploying to the Hub: what is planned, and what is said to the Hub, which is not contacted."""

import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from huggingface_hub import SpaceCard
from huggingface_hub.errors import HfHubHTTPError

from causvid.__main__ import main
from causvid.commands.deploy import LARGE_FILE, DeployError, carry_out, pinned, plan
from causvid.presets import preset
from causvid.presets.catalogue import PRESETS
from causvid.resources import REVISIONS, ROOT
from tests.standin import save_standin

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def checkout(tmp_path):
    """A small clone: what is not under version control must stay here."""
    files = {
        "README.md": "---\ntitle: T\nsdk: gradio\nsuggested_hardware: cpu-basic\n---\n"
        "https://huggingface.co/spaces/OWNER/NAME?duplicate=true, deploy OWNER/NAME\n",
        "requirements.txt": "# What runs\ntorch>=2.8\nav==18.1.0\nnumpy>=2.0,<3\n",
        "app.py": "",
        ".ci/run": "",
        "causvid/__init__.py": "",
        ".gitignore": "runs/\n",
    }
    for path, text in files.items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text(text)
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "weights.bin").write_text("")
    identity = ["-c", "user.name=T", "-c", "user.email=t@example.org"]
    for arguments in (["init", "-q"], ["add", "."], [*identity, "commit", "-q", "-m", "All"]):
        subprocess.run(["git", "-C", tmp_path, *arguments], check=True)
    return tmp_path


@dataclass
class FakeHub:
    """Records what it is told."""

    refuses: int | None = None
    hardware: str = "cpu-basic"
    calls: list[tuple[str, tuple, dict]] = field(default_factory=list)
    uploaded: dict[str, bytes] = field(default_factory=dict)

    def __getattr__(self, name: str):
        def call(*args: Any, **kwargs: Any) -> Any:
            if name == "upload_folder":
                folder = Path(kwargs["folder_path"])
                files = [path for path in folder.rglob("*") if path.is_file()]
                self.uploaded = {str(it.relative_to(folder)): it.read_bytes() for it in files}
            self.calls.append((name, args, kwargs))
            if self.refuses and name in ("create_repo", "request_space_hardware"):
                response = SimpleNamespace(headers={}, request=None, status_code=self.refuses)
                raise HfHubHTTPError("no", response=response, server_message="Not you")
            answers = {
                "model_info": SimpleNamespace(sha=COMMIT),
                "upload_folder": SimpleNamespace(oid="f" * 40),
                "get_space_runtime": SimpleNamespace(requested_hardware=self.hardware),
            }
            return answers.get(name)

        return call

    def told(self, name: str) -> list[tuple[tuple, dict]]:
        return [(args, kwargs) for called, args, kwargs in self.calls if called == name]


def test_only_files_under_version_control_are_sent(checkout):
    made = plan("ada/live", "cpu-basic", root=checkout)
    assert set(made.files) == {
        "README.md",
        "requirements.txt",
        "app.py",
        "causvid/__init__.py",
        ".gitignore",
    }


def test_the_readme_of_the_space_names_it_and_its_hardware(checkout):
    made = plan("ada/live", "zero-a10g", root=checkout)
    readme = made.files["README.md"]
    assert "https://huggingface.co/spaces/ada/live?duplicate=true, deploy OWNER/NAME" in readme
    card = SpaceCard(readme)
    assert card.data.suggested_hardware == "zero-a10g"
    assert card.data.title == "T"
    assert card.data.models == list(PRESETS["self-forcing"].repositories())


def test_every_requirement_is_pinned_to_what_is_installed():
    requirements = (ROOT / "requirements.txt").read_text()
    wanted = [line for line in requirements.splitlines() if line and not line.startswith("#")]
    lines = pinned(requirements, zero=False).splitlines()
    assert len(lines) == len(wanted)
    assert all("==" in line and "+" not in line for line in lines)
    assert "gradio[mcp]==6.31.0" in lines


def test_zerogpu_gets_a_torch_that_it_has():
    assert pinned("torch>=2.8,<=2.13.0\n", zero=True) == "torch==2.11.0\n"
    with pytest.raises(DeployError, match=r"but ZeroGPU has torch 2\.8\.0"):
        pinned("torch==2.13.0\n", zero=True)


def test_another_version_than_required_is_not_pinned():
    with pytest.raises(DeployError, match="numpy<2 is required, but installed is numpy 2"):
        pinned("numpy<2\n", zero=False)


def test_a_new_space_is_made_with_its_settings_then_filled_in_one_commit(checkout):
    made = plan(
        "ada/live",
        "l4x1",
        private=True,
        variables=["CAUSVID_MODEL=causvid", "CAUSVID_MAX_SECONDS=20"],
        secrets=["HF_TOKEN"],
        root=checkout,
        environment={"HF_TOKEN": "hidden"},
    )
    hub = FakeHub(hardware="l4x1")
    assert carry_out(made, hub, {"HF_TOKEN": "hidden"}) == "f" * 40
    ((args, options),) = hub.told("create_repo")
    assert args == ("ada/live",)
    assert options == {
        "repo_type": "space",
        "space_sdk": "gradio",
        "space_hardware": "l4x1",
        "private": True,
        "exist_ok": True,
    }
    assert hub.told("add_space_variable") == [
        (("ada/live", "CAUSVID_MODEL", "causvid"), {}),
        (("ada/live", "CAUSVID_MAX_SECONDS", "20"), {}),
    ]
    assert hub.told("add_space_secret") == [(("ada/live", "HF_TOKEN", "hidden"), {})]
    assert not hub.told("request_space_hardware")
    assert set(hub.uploaded) == {*made.files, REVISIONS}
    names = [name for name, _, _ in hub.calls]
    assert names.index("create_repo") < names.index("add_space_secret")
    assert names[-1] == "upload_folder"


def test_a_space_that_exists_is_renewed_and_rid_of_old_files(checkout):
    hub = FakeHub()
    made = plan("ada/live", "t4-small", variables=["CAUSVID_MCP=1"], root=checkout)
    carry_out(made, hub, {})
    assert hub.told("add_space_variable") == [(("ada/live", "CAUSVID_MCP", "1"), {})]
    assert hub.told("request_space_hardware") == [(("ada/live", "t4-small"), {})]
    ((_, options),) = hub.told("upload_folder")
    assert options["delete_patterns"] == "*", "all that is not sent"
    assert set(hub.uploaded) == {*made.files, REVISIONS}


def test_hardware_that_is_there_already_is_not_requested_again(checkout):
    hub = FakeHub(hardware="t4-small")
    carry_out(plan("ada/live", "t4-small", root=checkout), hub, {})
    assert not hub.told("request_space_hardware")


def test_weights_are_pinned_to_a_commit_and_loaded_from_it(checkout, tmp_path, monkeypatch):
    made = plan("ada/live", "l4x1", variables=["CAUSVID_MODEL=reward-forcing"], root=checkout)
    open_ones = [repo for repo, commit in made.weights.items() if commit is None]
    assert PRESETS["reward-forcing"].weights.repo in open_ones
    hub = FakeHub()
    carry_out(made, hub, {})
    assert [args[0] for args, _ in hub.told("model_info")] == open_ones
    written = tmp_path / "space" / REVISIONS
    written.parent.mkdir(parents=True)
    written.write_bytes(hub.uploaded[REVISIONS])
    monkeypatch.setattr(preset, "ROOT", tmp_path / "space")
    preset._deployed_revisions.cache_clear()
    try:
        assert PRESETS["reward-forcing"].weights.commit == COMMIT
        assert PRESETS["causvid"].weights.commit == PRESETS["causvid"].weights.revision
    finally:
        preset._deployed_revisions.cache_clear()


def test_the_pocket_model_needs_no_hub(checkout):
    made = plan("ada/live", "cpu-basic", root=checkout)
    hub = FakeHub()
    carry_out(made, hub, {})
    assert made.weights == {} and REVISIONS not in hub.uploaded


@pytest.mark.parametrize(
    ("status", "message"),
    [(401, "does not accept the token"), (402, "paid for"), (403, "write access to ada")],
)
def test_a_refusal_says_what_helps(checkout, status, message):
    with pytest.raises(DeployError, match=message) as caught:
        carry_out(plan("ada/live", "l4x1", root=checkout), FakeHub(refuses=status), {})
    assert "Not you" in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["live", "--hardware", "l4x1"], "expected OWNER/NAME"),
        (["ada/li ve", "--hardware", "l4x1"], "expected OWNER/NAME"),
        (["ada/live", "--hardware", "l4"], "did you mean l4x"),
        (["ada/live", "--hardware", "l4x1", "--variable", "CAUSVID_MAX_SECONDS"], "NAME=VALUE"),
        (["ada/live", "--hardware", "l4x1", "--variable", "CAUSVID_VIEWERS=many"], "whole number"),
        (["ada/live", "--hardware", "l4x1", "--variable", "HF_TOKEN=x"], "--secret HF_TOKEN"),
        (["ada/live", "--hardware", "l4x1", "--secret", "NO_SUCH_SECRET"], "export it first"),
        (["ada/live", "--hardware", "l4x1"], "no Hugging Face token"),
    ],
)
def test_mistakes_are_one_sentence(arguments, message, monkeypatch, capsys):
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    assert main(["deploy", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_outside_of_a_clone_nothing_is_planned(tmp_path):
    with pytest.raises(DeployError, match="deploy from a clone"):
        plan("ada/live", "cpu-basic", root=tmp_path)


def test_a_dry_run_says_everything_but_secrets_and_sends_nothing(monkeypatch, capsys):
    def forbidden(*_):
        raise AssertionError("a dry run asked the Hub")

    monkeypatch.setattr("huggingface_hub.HfApi", forbidden)
    monkeypatch.setenv("HF_TOKEN", "hf_hidden")
    options = ["--hardware", "zero-a10g", "--secret", "HF_TOKEN", "--variable", "CAUSVID_MCP=1"]
    assert main(["deploy", "ada/live", *options, "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "hf_hidden" not in said
    for part in (
        "https://huggingface.co/spaces/ada/live",
        "zero-a10g",
        "CAUSVID_MCP=1",
        "HF_TOKEN, from the environment",
        "torch==2.11.0",
        PRESETS["self-forcing"].weights.revision,
        "Nothing was sent.",
    ):
        assert part in said


def test_weights_of_this_machine_have_to_be_on_the_hub_first(checkout, tmp_path):
    folder = save_standin(tmp_path).folder
    with pytest.raises(DeployError, match="upload it to the Hub with `hf upload"):
        plan("ada/live", "cpu-basic", variables=[f"CAUSVID_MODEL={folder}"], root=checkout)


def test_large_files_are_pointed_out(checkout):
    with (checkout / "app.py").open("wb") as file:
        file.truncate(LARGE_FILE + 1)
    assert "warning: app.py has 10.0 MB" in plan("ada/live", "cpu-basic", root=checkout).describe()
    assert "1 files differ" in plan("ada/live", "cpu-basic", root=checkout).describe()
