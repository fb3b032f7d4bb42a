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
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, SpaceCard, get_token
from huggingface_hub import SpaceHardware as Hardware
from huggingface_hub.errors import HfHubHTTPError, HTTPError, OfflineModeIsEnabled
from huggingface_hub.utils import validate_repo_id
from packaging.requirements import Requirement

from causvid.presets.preset import REVISIONS, Preset
from causvid.presets.registry import default_preset, get_preset
from causvid.resources import ROOT
from causvid.serving.settings import PREFIX, Settings

ADDRESS = "https://huggingface.co/spaces/"
PLACEHOLDER = "OWNER/NAME"  # in the README's links, replaced by the Space's own name
REQUIREMENTS = "requirements.txt"
LARGE_FILE = 10_000_000  # bytes; beyond, the Hub keeps a file outside git
NOT_NEEDED = (".ci/", ".github/")
ON_THE_HUB_ONLY = (".gitattributes",)
# What ZeroGPU offers (huggingface.co/docs/hub/spaces-zerogpu, August 2026).
ZERO_TORCH = ("2.8.0", "2.9.1", "2.10.0", "2.11.0")
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
        files: paths in the Space → bytes, or the file here.
        weights: Hub repositories in use → commit, `None` for the newest.
    """

    repo: str
    hardware: str
    private: bool
    variables: dict[str, str]
    secrets: tuple[str, ...]
    source: str
    changed: tuple[str, ...]
    files: dict[str, bytes | Path]
    weights: dict[str, str | None]

    @property
    def address(self) -> str:
        return ADDRESS + self.repo

    def size(self, path: str) -> int:
        content = self.files[path]
        return len(content) if isinstance(content, bytes) else content.stat().st_size

    def describe(self) -> str:
        """All of it, for people."""
        visibility = "private" if self.private else "public"
        total = sum(map(self.size, self.files))
        lines = [
            f"Space      {self.address}",
            f"           created as {visibility} if it does not exist, otherwise kept as it is",
            f"Hardware   {self.hardware}",
        ]
        lines += [f"Variable   {name}={value}" for name, value in self.variables.items()]
        lines += [f"Secret     {name}, from the environment" for name in self.secrets]
        lines.append(f"Source     commit {self.source}")
        if self.changed:
            some = ", ".join(self.changed[:3]) + (", …" if len(self.changed) > 3 else "")
            lines.append(
                f"           {len(self.changed)} files differ from it and go as they are: {some}"
            )
        lines.append(f"Upload     {len(self.files)} files, {total / 1e6:.1f} MB, as one commit")
        lines += [
            f"           {path} is written for the Space"
            for path, content in self.files.items()
            if isinstance(content, bytes)
        ]
        lines += [
            f"           warning: {path} has {self.size(path) / 1e6:.1f} MB"
            for path in self.files
            if self.size(path) > LARGE_FILE
        ]
        lines.append("           what else is in the Space is deleted")
        lines += [f"Pinned     {line}" for line in _requirement_lines(self._text(REQUIREMENTS))]
        lines += [
            f"Pinned     {repo} at {revision or 'the newest commit, looked up when deployed'}"
            for repo, revision in self.weights.items()
        ]
        return "\n".join(lines)

    def _text(self, path: str) -> str:
        content = self.files[path]
        return (content if isinstance(content, bytes) else content.read_bytes()).decode()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("repo", metavar=PLACEHOLDER, help="the Space, created if it is not there")
    parser.add_argument(
        "--hardware",
        required=True,
        help="zero-a10g (ZeroGPU), cpu-basic, l4x1, l40sx1, a100-large, …",
    )
    parser.add_argument("--private", action="store_true", help="if it is created now")
    parser.add_argument(
        "--variable",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        help="a setting from the README; may be repeated",
    )
    parser.add_argument(
        "--secret",
        metavar="NAME",
        action="append",
        default=[],
        help="a secret, its value taken from the environment, such as HF_TOKEN; may be repeated",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="only say what would be done; contacts nobody"
    )


def main(args: argparse.Namespace) -> int:
    made = plan(
        args.repo,
        args.hardware,
        private=args.private,
        variables=args.variable,
        secrets=args.secret,
    )
    print(made.describe())
    if args.dry_run:
        print("Nothing was sent.")
        return 0
    if get_token() is None:
        raise DeployError(
            "there is no Hugging Face token: make one that may write at "
            "https://huggingface.co/settings/tokens, then `hf auth login` or set HF_TOKEN"
        )
    commit = carry_out(made, HfApi())
    print(f"Deployed   {made.address} at {commit}")
    return 0


def plan(
    repo: str,
    hardware: str,
    *,
    private: bool = False,
    variables: list[str] | tuple[str, ...] = (),
    secrets: list[str] | tuple[str, ...] = (),
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
    _check_name(repo)
    _check_hardware(hardware)
    settings = _read_variables(variables)
    for name in secrets:
        if not environment.get(name):
            raise DeployError(f"the secret {name} is not set in this environment: export it first")
    presets = _presets(settings, hardware)
    weights = {name: commit for preset in presets for name, commit in preset.repositories().items()}
    source, changed, paths = _checkout(root)
    files: dict[str, bytes | Path] = {path: root / path for path in paths}
    for needed in ("README.md", REQUIREMENTS, "app.py"):
        if needed not in files:
            raise DeployError(f"{root} has no {needed}: deploy from a complete clone")
    files["README.md"] = _readme(root / "README.md", repo, hardware, list(weights)).encode()
    requirements = (root / REQUIREMENTS).read_text(encoding="utf-8")
    files[REQUIREMENTS] = pinned(requirements, zero=hardware == Hardware.ZERO_A10G).encode()
    return Plan(
        repo=repo,
        hardware=hardware,
        private=private,
        variables=settings,
        secrets=tuple(secrets),
        source=source,
        changed=changed,
        files=files,
        weights=weights,
    )


def carry_out(plan: Plan, api: HfApi, environment: Mapping[str, str] = os.environ) -> str:
    """Create or renew the Space; the commit that it then is at.

    Raises:
        DeployError: what the Hub refused, and what helps.
    """
    try:
        weights = {
            repo: revision or api.model_info(repo).sha for repo, revision in plan.weights.items()
        }
        secrets = {name: environment[name] for name in plan.secrets}
        if api.repo_exists(plan.repo, repo_type="space"):
            _renew(plan, api, secrets)
        else:
            api.create_repo(
                plan.repo,
                repo_type="space",
                space_sdk="gradio",
                space_hardware=plan.hardware,
                private=plan.private,
                space_variables=[{"key": k, "value": v} for k, v in plan.variables.items()],
                space_secrets=[{"key": k, "value": v} for k, v in secrets.items()],
            )
        return _upload(plan, api, weights)
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
        if not _requirement_lines(line):
            lines.append(line)
            continue
        requirement = Requirement(line)
        if zero and requirement.name == "torch":
            allowed = [it for it in ZERO_TORCH if requirement.specifier.contains(it)]
            if not allowed:
                raise DeployError(f"ZeroGPU has torch {', '.join(ZERO_TORCH)}; none is {line}")
            version = allowed[-1]
        else:
            try:
                version = importlib.metadata.version(requirement.name)
            except importlib.metadata.PackageNotFoundError:
                raise DeployError(
                    f"{requirement.name} is not installed here, so its version cannot be pinned: "
                    f"pip install -r {REQUIREMENTS}"
                ) from None
            version = version.partition("+")[0]  # "+cpu" says where it was built for
            if not requirement.specifier.contains(version):
                raise DeployError(
                    f"{requirement.name} {version} is installed, but {line} is required: "
                    f"pip install -r {REQUIREMENTS}"
                )
        extras = f"[{','.join(sorted(requirement.extras))}]" if requirement.extras else ""
        lines.append(f"{requirement.name}{extras}=={version}")
    return "\n".join(lines) + "\n"


def _check_name(repo: str) -> None:
    example = f"expected {PLACEHOLDER}, such as ada/causvid-live"
    if repo.count("/") != 1:
        raise DeployError(f"the Space is {repo!r:.100}; {example}")
    try:
        validate_repo_id(repo)
    except ValueError:
        raise DeployError(
            f"the Space is {repo!r:.100}; {example}, of letters, digits and single - _ ."
        ) from None


def _check_hardware(hardware: str) -> None:
    names = [it.value for it in Hardware]
    if hardware not in names:
        near = difflib.get_close_matches(hardware, names, n=1)
        hint = f"did you mean {near[0]}? There are" if near else "there are"
        raise DeployError(f"the hardware is {hardware!r:.60}; {hint} {', '.join(names)}")


def _read_variables(given: list[str] | tuple[str, ...]) -> dict[str, str]:
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


def _presets(variables: Mapping[str, str], hardware: str) -> list[Preset]:
    """The models that the Space will offer."""
    names = [variables.get(f"{PREFIX}MODEL", "")]
    names += variables.get(f"{PREFIX}MODELS", "").split(",")
    names = list(dict.fromkeys(name.strip() for name in names if name.strip()))
    if names:
        return [get_preset(name) for name in names]
    return [default_preset("cpu" if hardware.startswith("cpu") else "cuda")]


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


def _readme(path: Path, repo: str, hardware: str, models: list[str]) -> str:
    """The README with the Space's own name in its links, and what it runs on in its header."""
    text = path.read_text(encoding="utf-8").replace(ADDRESS + PLACEHOLDER, ADDRESS + repo)
    card = SpaceCard(text)
    card.data.suggested_hardware = hardware
    if models:
        card.data.models = models
    return str(card)


def _renew(plan: Plan, api: HfApi, secrets: Mapping[str, str]) -> None:
    for name, value in plan.variables.items():
        api.add_space_variable(plan.repo, name, value)
    for name, value in secrets.items():
        api.add_space_secret(plan.repo, name, value)
    if api.get_space_runtime(plan.repo).requested_hardware != plan.hardware:
        api.request_space_hardware(plan.repo, plan.hardware)


def _upload(plan: Plan, api: HfApi, weights: Mapping[str, str]) -> str:
    """One commit that makes the Space's files those of the plan."""
    files = dict(plan.files)
    if weights:
        files[REVISIONS] = (json.dumps(dict(weights), indent=2) + "\n").encode()
    there = api.list_repo_files(plan.repo, repo_type="space")
    kept = {*files, *ON_THE_HUB_ONLY}
    operations = [CommitOperationAdd(path, content) for path, content in files.items()]
    operations += [CommitOperationDelete(path) for path in there if path not in kept]
    message = f"Deploy {plan.source[:12]}"
    return api.create_commit(plan.repo, operations, commit_message=message, repo_type="space").oid


def _refusal(plan: Plan, error: HfHubHTTPError) -> str:
    status = error.response.status_code
    owner = plan.repo.partition("/")[0]
    said = f" ({error.server_message})" if error.server_message else ""
    if status == 401:
        return f"the Hub does not accept the token{said}: `hf auth login` with a valid one"
    if status == 402:
        return (
            f"{plan.hardware} has to be paid for{said}: see https://huggingface.co/settings/billing"
        )
    if status == 403:
        return (
            f"the token may not do this{said}: it needs write access to {owner}, and "
            f"{plan.hardware} may need a subscription, see https://huggingface.co/pricing"
        )
    return f"the Hub answered with {status}{said or f' ({error})'}"


def _requirement_lines(text: str) -> list[str]:
    lines = (line.strip() for line in text.splitlines())
    return [line for line in lines if line and not line.startswith(("#", "-"))]
