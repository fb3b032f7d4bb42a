"""Files from the Hugging Face Hub: fetched once, from the local copy after that.

What can go wrong is a `PresetError` that names the cure, without waiting for retries where there is
no network.
"""

from pathlib import Path
from typing import Any

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


def fetch(
    source: HubFolder, what: str, token: str | None = None, *, patterns: list[str] | None = None
) -> Path:
    """The local copy of a file or a folder, downloaded if need be.

    Args:
        what: who needs what, for the message: `"preset 'x' needs model.pt"`.
        patterns: the files of a folder that are meant; all by default.

    Raises:
        PresetError: if it cannot be had; one sentence, with a cure.
    """
    options: dict[str, Any] = {"revision": source.commit, "token": token}
    options["local_files_only"] = not _reachable()
    try:
        if isinstance(source, HubFile):
            return Path(hf_hub_download(source.repo, source.path, **options))
        return Path(snapshot_download(source.repo, allow_patterns=patterns, **options))
    except (HTTPError, OfflineModeIsEnabled, OSError) as error:
        cure = next(cure for kind, cure in _CURES if isinstance(error, kind))
        page = f"https://huggingface.co/{source.repo}"
        raise PresetError(
            f"{what} from {source.repo}, which could not be had: "
            f"{cure.format(page=page, error=error)}"
        ) from error


def _reachable() -> bool:
    try:
        get_session().head(constants.ENDPOINT, timeout=_PATIENCE)
    except (HTTPError, OfflineModeIsEnabled):
        return False
    return True


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
