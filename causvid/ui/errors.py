"""Errors as the visitor sees them: their own mistakes explained, ours with a name to report."""

import logging
import secrets
from collections.abc import Iterator
from contextlib import contextmanager

import gradio as gr

from causvid.serving.run import RunError

log = logging.getLogger("causvid.runs")


@contextmanager
def explained(run: str | None = None) -> Iterator[None]:
    """Turn what goes wrong inside into a `gr.Error` without a traceback.

    Args:
        run: id of the run that is being served, if there is one yet.
    """
    try:
        yield
    except gr.Error:
        raise
    except (ValueError, RunError) as error:
        raise gr.Error(str(error), print_exception=False) from None
    except Exception:
        name = f"run {run}" if run else f"call {secrets.token_urlsafe(9)}"
        log.exception("%s failed", name)
        raise gr.Error(
            f"something broke here; if you report it, name {name}", print_exception=False
        ) from None
