"""Uploads folders to the Hugging Face Hub, and asks it for models. Only this and `streams` use
huggingface_hub.

The token is the environment's or the login's; it is sent to nobody else, and no message shows
it.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastslow.errors import (
    ConfigError,
    FastslowError,
    RefusedError,
    StateError,
    UnreachableError,
    shortened,
)

LOGIN = "run `hf auth login`, or set HF_TOKEN to a token with write access"
REFUSED = (401, 403, 404)
"""HTTP statuses of the Hub for missing write access; 404 also hides what one may not see."""


@dataclass(frozen=True, slots=True)
class Pushed:
    """What was uploaded, or would be.

    Attributes:
        repo: the repository's id, `owner/name`.
        url: of the commit, or of the repository before there is one.
        private: whether others cannot see it.
        files: bytes of each file by its path in the repository.
        dry_run: whether nothing was sent.
    """

    repo: str
    url: str
    private: bool
    files: Mapping[str, int] = field(default_factory=dict)
    dry_run: bool = False


def check_repo_id(repo: str) -> None:
    """Raise ConfigError unless a text is a valid id of a repository, with its owner."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

    try:
        validate_repo_id(repo)
    except HFValidationError as error:
        raise ConfigError(f"repo: {error}") from None
    if "/" not in repo:
        raise ConfigError(f"repo: got {repo!r}; give owner/name, as your-name/{repo}")


def why_not_on_hub(repo: str, revision: str | None) -> str:
    """Why a model cannot be loaded from the Hub, known from one request; empty if it can, or
    if only its files tell."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        OfflineModeIsEnabled,
        RevisionNotFoundError,
    )

    try:
        HfApi().model_info(repo, revision=revision, timeout=10)
    except OfflineModeIsEnabled:
        return "it is not in the Hub's cache, and HF_HUB_OFFLINE is set"
    except RevisionNotFoundError:
        return f"the Hub has no revision {revision} of it"
    except (GatedRepoError, HFValidationError):
        return ""
    except Exception as error:  # The HTTP library's own, which depends on the version.
        response = getattr(error, "response", None)
        if response is None:
            return f"the Hub cannot be reached: {_brief(error)}"
        if response.status_code in (401, 404):
            return "the Hub shows no such model; if it is private, run `hf auth login`"
    return ""


def check_login() -> None:
    """Raise ConfigError if nothing can be sent: offline, or without a token."""
    from huggingface_hub import constants, get_token

    if constants.HF_HUB_OFFLINE:
        raise ConfigError("HF_HUB_OFFLINE is set, so nothing can be sent to the Hub; unset it")
    if not get_token():
        raise ConfigError(f"there is no token for the Hub: {LOGIN}")


def files_in(folder: Path) -> dict[str, int]:
    """Bytes of each file in a folder, by its relative path, in order."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.stat().st_size for path in paths}


def repo_url(repo: str) -> str:
    """The URL of a repository, existing or not."""
    from huggingface_hub import constants

    return f"{constants.ENDPOINT}/{repo}"


def upload(folder: Path, repo: str, *, private: bool, message: str) -> Pushed:
    """Upload a folder to a model repository, created if needed, in one commit; other files there
    stay.

    Raises StateError if the repository exists with another visibility, RefusedError if the Hub does
    not allow writing, UnreachableError if it cannot be reached.
    """
    from huggingface_hub import CommitOperationAdd, HfApi

    api, files = HfApi(library_name="fastslow"), files_in(folder)
    with _one_error(repo):
        api.create_repo(repo, private=private, exist_ok=True)
        _check_visibility(repo, private=private, is_private=bool(api.model_info(repo).private))
        commit = api.create_commit(
            repo,
            [CommitOperationAdd(name, folder / name) for name in files],
            commit_message=message,
        )
    return Pushed(repo, str(commit.commit_url), private, files)


def _check_visibility(repo: str, *, private: bool, is_private: bool) -> None:
    if is_private == private:
        return
    state, hint = ("private", "leave --public out") if is_private else ("public", "give --public")
    raise StateError(
        f"{repo} is there and {state}; {hint} (in Python private={is_private}), or change it on "
        "the Hub; nothing was uploaded"
    )


@contextmanager
def _one_error(repo: str) -> Iterator[None]:
    try:
        yield
    except FastslowError:
        raise
    except Exception as error:  # The libraries below raise many kinds of network errors.
        status = getattr(getattr(error, "response", None), "status_code", None)
        if status in REFUSED:
            raise RefusedError(
                f"the Hub does not let this token write to {repo} (status {status}): "
                f"{_brief(error)}; {LOGIN}, or take a repository of your own"
            ) from None
        raise UnreachableError(
            f"{repo} could not be uploaded: {_brief(error)}; run the command again"
        ) from None


def _brief(error: Any) -> str:
    """An error's message, on one line and without the token."""
    from huggingface_hub import get_token

    message = getattr(error, "server_message", None) or str(error) or type(error).__name__
    text = " ".join(str(message).split())
    token = get_token()
    return shortened(text.replace(token, "(token)") if token else text, 300)
