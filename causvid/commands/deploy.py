"""`python -m causvid deploy OWNER/NAME`: put this checkout on the Hub as a Space, or renew one.

`plan` decides everything without contacting anybody, which is what `--dry-run` shows; `carry_out`
does it. What runs there is pinned: versions to those installed here, weights to commits.
"""

import argparse
import difflib
import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import huggingface_hub
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from causvid.resources import REVISIONS, ROOT

if TYPE_CHECKING:
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

ADDRESS = "https://huggingface.co/spaces/"
PLACEHOLDER = "OWNER/NAME"  # in the README's links, replaced by the Space's own name
REQUIREMENTS = "requirements.txt"
NEWEST = "the newest commit, looked up when deployed"
LARGE_FILE = 10_000_000  # bytes; beyond, the Hub keeps a file outside git
NOT_NEEDED = (".ci/", ".github/", "tests/")
# What ZeroGPU offers (huggingface.co/docs/hub/spaces-zerogpu, August 2026).
ZERO_TORCH = ["2.8.0", "2.9.1", "2.10.0", "2.11.0"]
_SECRETIVE = re.compile(r"TOKEN|SECRET|PASSWORD|KEY$")


class DeployError(ValueError):
    """What stands in the way, in one sentence."""


@dataclass(frozen=True)
class Plan:
    """What will be on the Hub.

    Args:
        repo: OWNER/NAME of the Space.
        hardware: as the Hub calls it.
        private: visibility of a Space that does not exist yet.
        variables: public environment variables.
        secrets: names of secret ones, whose values stay in the environment until they are sent.
        source: the commit that is deployed.
        changed: files that differ from that commit; they go as they are.
        files: paths in the Space → its text where it is written for the Space, or the file here.
        weights: Hub repositories in use → commit, `None` for the newest.
    """

    repo: str
    hardware: str
    private: bool
    variables: dict[str, str]
    secrets: tuple[str, ...]
    source: str
    changed: tuple[str, ...]
    files: dict[str, str | Path]
    weights: dict[str, str | None]

    def describe(self) -> str:
        """All of it, for people."""
        written = [path for path, it in self.files.items() if isinstance(it, str)]
        sizes = {path: it.stat().st_size for path, it in self.files.items() if isinstance(it, Path)}
        large = [f"{it} has {sizes[it] / 1e6:.1f} MB" for it in sizes if sizes[it] > LARGE_FILE]
        changed = ", ".join(self.changed[:3]) + (", …" if len(self.changed) > 3 else "")
        visibility = "private" if self.private else "public"
        weights = {repo: it or NEWEST for repo, it in self.weights.items()}
        lines = [
            ("Space", f"{ADDRESS}{self.repo}, {visibility} if it is created now"),
            ("Hardware", self.hardware),
            *(("Variable", f"{name}={value}") for name, value in self.variables.items()),
            *(("Secret", f"{name}, from the environment") for name in self.secrets),
            ("Source", f"commit {self.source}"),
            *([("", f"{len(self.changed)} files differ from it: {changed}")] if changed else []),
            ("Upload", f"{len(self.files)} files, {sum(sizes.values()) / 1e6:.1f} MB, one commit"),
            *(("", f"{path} is written for the Space") for path in written),
            *(("", f"warning: {it}") for it in large),
            ("", "what else is in the Space is deleted"),
            *(("Pinned", it) for it in str(self.files[REQUIREMENTS]).splitlines()),
            *(("Pinned", f"{repo} at {commit}") for repo, commit in weights.items()),
        ]
        return "\n".join(f"{label:<10} {text}" for label, text in lines)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("repo", metavar=PLACEHOLDER, help="the Space, created if it is not there")
    parser.add_argument(
        "--hardware", required=True, help="zero-a10g (ZeroGPU), cpu-basic, l4x1, a100-large, …"
    )
    parser.add_argument("--private", action="store_true", help="if it is created now")
    parser.add_argument(
        "--variable", metavar="NAME=VALUE", action="append", help="a public setting, repeatable"
    )
    parser.add_argument(
        "--secret", metavar="NAME", action="append", help="its value is the environment's; likewise"
    )
    parser.add_argument("--dry-run", action="store_true", help="say what would be done, no more")


def main(args: argparse.Namespace) -> int:
    made = plan(args.repo, args.hardware, args.private, args.variable or (), args.secret or ())
    print(made.describe())
    if args.dry_run:
        print("Nothing was sent.")
        return 0
    if huggingface_hub.get_token() is None:
        raise DeployError(
            "there is no Hugging Face token: make one that may write at "
            "https://huggingface.co/settings/tokens, then `hf auth login` or set HF_TOKEN"
        )
    commit = carry_out(made, huggingface_hub.HfApi())
    print(f"Deployed   {ADDRESS}{made.repo} at {commit}")
    return 0


def plan(
    repo: str,
    hardware: str,
    private: bool = False,
    variables: Sequence[str] = (),
    secrets: Sequence[str] = (),
    root: Path = ROOT,
    environment: Mapping[str, str] = os.environ,
) -> Plan:
    """Decide what to do; contacts nobody.

    Args:
        variables: NAME=VALUE each.
        secrets: names of variables in `environment`.
        root: the checkout.

    Raises:
        DeployError, SettingsError: what is wrong, in one sentence.
    """
    if not re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", repo, re.ASCII):
        raise DeployError(
            f"the Space is {repo!r:.100}; expected {PLACEHOLDER}, such as ada/causvid-live, of "
            f"letters, digits and - _ ."
        )
    known = [it.value for it in huggingface_hub.SpaceHardware]
    if hardware not in known:
        near = difflib.get_close_matches(hardware, known, n=1)
        hint = f"did you mean {near[0]}? There are" if near else "there are"
        raise DeployError(f"the hardware is {hardware!r:.60}; {hint} {', '.join(known)}")
    settings = _read_variables(variables)
    for name in secrets:
        if not environment.get(name):
            raise DeployError(f"the secret {name} is not set in this environment: export it first")
    weights = _weights(settings, hardware)
    source, changed, paths = _checkout(root)
    files: dict[str, str | Path] = {path: root / path for path in paths}
    for needed in ("README.md", REQUIREMENTS, "app.py"):
        if needed not in files:
            raise DeployError(f"{root} has no {needed}: deploy from a complete clone")
    # The README has the Space's own name in its links, and what it runs on in its header.
    readme = (root / "README.md").read_text(encoding="utf-8")
    card = huggingface_hub.SpaceCard(readme.replace(ADDRESS + PLACEHOLDER, ADDRESS + repo))
    vars(card.data).update(suggested_hardware=hardware, models=list(weights) or None)
    files["README.md"] = str(card)
    requirements = (root / REQUIREMENTS).read_text(encoding="utf-8")
    files[REQUIREMENTS] = pinned(requirements, zero=hardware.startswith("zero"))
    return Plan(repo, hardware, private, settings, tuple(secrets), source, changed, files, weights)


def carry_out(plan: Plan, api: "HfApi", environment: Mapping[str, str] = os.environ) -> str:
    """Create or renew the Space; the commit that it then is at.

    Raises:
        DeployError: what the Hub refused, and what helps.
    """
    from huggingface_hub.errors import HfHubHTTPError, HTTPError, OfflineModeIsEnabled

    hardware = huggingface_hub.SpaceHardware(plan.hardware)
    try:
        weights = {repo: it or api.model_info(repo).sha for repo, it in plan.weights.items()}
        api.create_repo(
            plan.repo,
            repo_type="space",
            space_sdk="gradio",
            space_hardware=hardware,
            private=plan.private,
            exist_ok=True,
        )
        for name, value in plan.variables.items():
            api.add_space_variable(plan.repo, name, value)
        for name in plan.secrets:
            api.add_space_secret(plan.repo, name, environment[name])
        if api.get_space_runtime(plan.repo).requested_hardware != hardware:
            api.request_space_hardware(plan.repo, hardware)
        files = dict(plan.files)
        if weights:
            files[REVISIONS] = json.dumps(weights, indent=2) + "\n"
        with tempfile.TemporaryDirectory() as folder:
            for path, content in files.items():
                there = Path(folder, path)
                there.parent.mkdir(parents=True, exist_ok=True)
                if isinstance(content, str):
                    there.write_text(content, encoding="utf-8")
                else:
                    shutil.copyfile(content, there)
            return api.upload_folder(
                repo_id=plan.repo,
                repo_type="space",
                folder_path=folder,
                delete_patterns="*",  # of what is there and not in the folder
                commit_message=f"Deploy {plan.source[:12]}",
            ).oid
    except OfflineModeIsEnabled:
        raise DeployError("HF_HUB_OFFLINE is set: unset it to reach the Hub") from None
    except HfHubHTTPError as error:
        raise DeployError(_refusal(plan, error)) from error
    except HTTPError as error:
        raise DeployError(f"the Hub cannot be reached ({error})") from error


def pinned(requirements: str, *, zero: bool) -> str:
    """The same requirements, each at the version that is installed here.

    Args:
        zero: for ZeroGPU, which offers few versions of torch: the newest of those allowed.
    """
    lines = []
    for line in requirements.splitlines():
        if not line.strip() or line.startswith(("#", "-")):
            continue
        requirement = Requirement(line)
        name = requirement.name
        if zero and name == "torch":
            has, offered = "ZeroGPU has", ZERO_TORCH
        else:
            found = [it.version for it in importlib.metadata.distributions(name=name)][:1]
            # A suffix as in "+cpu" says where it was built for.
            has, offered = "installed is", [version.partition("+")[0] for version in found]
        allowed = list(requirement.specifier.filter(offered))
        if not allowed:
            raise DeployError(
                f"{line} is required, but {has} {name} {', '.join(offered) or 'none'}"
            )
        requirement.specifier = SpecifierSet(f"=={allowed[-1]}")
        lines.append(f"{requirement}\n")
    return "".join(lines)


def _read_variables(given: Sequence[str]) -> dict[str, str]:
    from causvid.serving.settings import Settings

    variables = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not name.isidentifier():
            raise DeployError(f"the variable is {name!r:.60}; expected NAME=VALUE")
        if _SECRETIVE.search(name):
            raise DeployError(f"{name} would be public: pass it with --secret {name}")
        variables[name] = value
    # Devices are those of the Space, of which nothing is known here.
    Settings.from_environment({k: v for k, v in variables.items() if not k.endswith("DEVICE")})
    return variables


def _weights(variables: Mapping[str, str], hardware: str) -> dict[str, str | None]:
    """The Hub repositories that the Space will load from → commit, `None` for the newest."""
    from causvid.presets.catalogue import PRESETS
    from causvid.presets.registry import default_preset, get_preset
    from causvid.serving.settings import PREFIX

    names = [variables.get(f"{PREFIX}MODEL", "")]
    names += variables.get(f"{PREFIX}MODELS", "").split(",")
    presets = [get_preset(name.strip()) for name in names if name.strip()]
    for preset in presets:
        if preset.folder is not None and preset.hub is None and preset.name not in PRESETS:
            raise DeployError(
                f"{preset.folder} is a folder of this machine: upload it to the Hub with "
                f"`hf upload OWNER/NAME {preset.folder}`, and name OWNER/NAME instead"
            )
    if not presets:
        presets = [default_preset("cpu" if hardware.startswith("cpu") else "cuda")]
    return {name: commit for preset in presets for name, commit in preset.repositories().items()}


def _checkout(root: Path) -> tuple[str, tuple[str, ...], list[str]]:
    """The commit, the files that differ from it, and all files under version control."""

    def git(*arguments: str) -> list[str]:
        command = ["git", "-C", str(root), *arguments]
        try:
            output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        except (OSError, subprocess.CalledProcessError):
            raise DeployError(
                f"{root} is no git checkout, or git is missing: deploy from a clone"
            ) from None
        return [line for line in output.split("\0") if line]

    source = git("rev-parse", "HEAD")[0].strip()
    changed = git("diff", "HEAD", "--name-only", "-z")
    paths = [path for path in git("ls-files", "-z") if not path.startswith(NOT_NEEDED)]
    for path in paths:
        if not (root / path).is_file():
            raise DeployError(f"{path} is under version control but not there: restore it first")
    return source, tuple(changed), paths


def _refusal(plan: Plan, error: "HfHubHTTPError") -> str:
    status = error.response.status_code
    said = f" ({error.server_message})" if error.server_message else ""
    refusals = {
        401: f"the Hub does not accept the token{said}: `hf auth login` with a valid one",
        402: f"{plan.hardware} has to be paid for{said}: see "
        "https://huggingface.co/settings/billing",
        403: f"the token may not do this{said}: it needs write access to "
        f"{plan.repo.partition('/')[0]}, and {plan.hardware} may need a subscription, see "
        "https://huggingface.co/pricing",
    }
    return refusals.get(status, f"the Hub answered with {status}{said or f' ({error})'}")
