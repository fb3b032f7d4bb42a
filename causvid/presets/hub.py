"""Files from the Hugging Face Hub: fetched once, from the local copy after that.

What can go wrong is a `PresetError` that names the cure, without waiting for retries where there is
no network.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from huggingface_hub import constants, get_session, hf_hub_download, snapshot_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from causvid.presets.preset import HubFile, HubFolder, PresetError

_PATIENCE = 5.0
"""Seconds in which the Hub must answer at all; its client would try six times over a minute."""


def fetch_file(file: HubFile, what: str, token: str | None = None) -> Path:
    """The local copy of a file, downloaded if need be.

    Args:
        what: who needs what, for the message: `"preset 'x' needs model.pt"`.

    Raises:
        PresetError: if it cannot be had.
    """
    with _readable(file.repo, what):
        return Path(
            hf_hub_download(
                file.repo,
                file.path,
                revision=file.commit,
                token=token,
                local_files_only=not _reachable(),
            )
        )


def fetch_folder(
    folder: HubFolder, patterns: list[str] | None, what: str, token: str | None = None
) -> Path:
    """The local copy of a repository's files that match one of `patterns`, or of all.

    Raises:
        PresetError: if it cannot be had.
    """
    with _readable(folder.repo, what):
        return Path(
            snapshot_download(
                folder.repo,
                revision=folder.commit,
                allow_patterns=None if patterns is None else list(patterns),
                token=token,
                local_files_only=not _reachable(),
            )
        )


def _reachable() -> bool:
    try:
        get_session().head(constants.ENDPOINT, timeout=_PATIENCE)
    except (HTTPError, OfflineModeIsEnabled):
        return False
    return True


@contextmanager
def _readable(repo: str, what: str) -> Iterator[None]:
    """Turn the many ways a download can fail into one sentence with a cure."""
    try:
        yield
    except (HTTPError, OfflineModeIsEnabled, OSError) as error:
        cure = next(cure for kind, cure in _CURES if isinstance(error, kind))
        page = f"https://huggingface.co/{repo}"
        raise PresetError(
            f"{what} from {repo}, which could not be had: {cure.format(page=page, error=error)}"
        ) from error


_UNREACHABLE = (
    "the Hub cannot be reached and there is no local copy; connect once (and unset "
    "HF_HUB_OFFLINE), or copy a Hub cache here and point HF_HOME at it"
)
_CURES: tuple[tuple[type[Exception], str], ...] = (  # the first that fits holds
    (
        GatedRepoError,
        "accept the conditions on {page} and log in with `hf auth login`, or set HF_TOKEN",
    ),
    (
        RepositoryNotFoundError,
        "{page} is gone or private; if it is yours, `hf auth login` or set HF_TOKEN",
    ),
    (RevisionNotFoundError, "there is no such revision; pick another on {page}/commits/main"),
    (LocalEntryNotFoundError, _UNREACHABLE),
    (OfflineModeIsEnabled, _UNREACHABLE),
    (EntryNotFoundError, "the repository has no such file any more; see {page}/tree/main"),
    (HfHubHTTPError, "the Hub answered with an error, try again later ({error})"),
    (HTTPError, "the connection to the Hub broke ({error}); try again, the rest is kept"),
    (ConnectionError, _UNREACHABLE),
    (OSError, "it could not be stored ({error}); free some disk space"),
)
