"""From settings to a running server: models, device, service, page."""

import contextlib
import ctypes
import functools
import logging
import os
import sys
from collections.abc import Generator, Iterator

import gradio as gr
import gradio.http_server
from gradio.utils import get_upload_folder
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from causvid.log import set_up_logging, silence_loading_bars, withhold_texts
from causvid.realtime.route import example_route, realtime_route
from causvid.realtime.upload import Receive
from causvid.serving.device import Device, SharedDevice
from causvid.serving.job import Event, Job
from causvid.serving.models import Models
from causvid.serving.process import ServerProcess
from causvid.serving.service import Service
from causvid.serving.settings import Settings, SettingsError
from causvid.serving.zero import LentDevice, carry_out, lent_seconds
from causvid.ui.endpoints import WRONG_CALL, call_of, refuse_call
from causvid.ui.files import Uploads, static
from causvid.ui.gate import HANDLERS, Gate
from causvid.ui.page import build_page
from causvid.ui.presence import Presence, notice_lost_networks
from causvid.ui.quota import Upload, kept_seconds, quota_of
from causvid.ui.transport import raise_descriptor_limit, serving, spare_proxies

# Gradio keeps half a megabyte for each of the latest sessions; a plain call counts as one, too. A
# browser whose session is dropped gets the page's first choices back.
SESSIONS = 128
_TO_STOP = 2.0  # seconds
PORT = 7860  # as Gradio's examples and Spaces have it

log = logging.getLogger("causvid.server")

_SMALL = 500e6  # bytes of weights that no machine is short of

# glibc gives every thread a heap of its own and seldom returns what is free in it. A thread that
# has encoded one chunk keeps 35 MB, and which of many threads encodes the next is chance.
_M_ARENA_MAX, _HEAPS = -8, 2  # mallopt(3)


def make_service(settings: Settings) -> Service:
    """Load the first model and set up the device.

    Raises:
        ValueError: if the model cannot be had.
    """
    if os.environ.get("SPACES_ZERO_GPU", "").lower() in ("1", "t", "true"):
        if settings.compile:  # in the process that a GPU is lent to, anew for every run
            raise SettingsError("CAUSVID_COMPILE is on; ZeroGPU cannot compile, so leave it off")
        models = Models(settings, room=len(settings.models))
        for name in settings.models:  # a process that a GPU is lent to forgets what it loads
            models.open(name)
        device: Device = _lent_device(settings, models)
    else:
        models = Models(settings, room=_room(settings))
        models.open(settings.model)
        device = SharedDevice(
            models.open,
            viewers=settings.viewers,
            waiting=settings.waiting,
            lead=settings.lead,
            each=settings.places_of_one,
        )
    return Service(settings, models, device, call_of)


def _room(settings: Settings) -> int:
    """How many models are kept: all if they are small, or the one that is in use."""
    folders = [preset.folder for preset in settings.presets.values()]
    files = [file for it in folders if it is not None for file in it.rglob("*.safetensors")]
    small = None not in folders and sum(file.stat().st_size for file in files) < _SMALL
    return len(folders) if small else 1


def _lent_device(settings: Settings, models: Models) -> LentDevice:
    """On ZeroGPU, the device is lent for each run."""
    import spaces  # here only, as other machines need not have it

    def duration(job: Job) -> int:
        return lent_seconds(job, settings.gpu_seconds)

    @spaces.GPU(duration=duration)
    def carry_out_lent(job: Job) -> Generator[Event, None, None]:
        yield from carry_out(models.open, job, duration(job))

    return LentDevice(carry_out_lent)


def launch(service: Service, presence: Presence | None = None, **options) -> gr.Blocks:
    """Serve the page in the background; `options` go to Gradio's `launch`.

    Raises:
        OSError: if the port cannot be had.
        ValueError: if the environment names a proxy that cannot be used.
    """
    presence = presence or Presence()
    spare_proxies(options.get("server_name"))

    def health(_) -> JSONResponse:
        ready = service.models.ready and page._queue.works
        status = "ready" if ready else "loading" if page._queue.works else "broken"
        state: dict[str, str | int] = {"status": status}
        state["model"] = service.settings.model
        if isinstance(service.device, SharedDevice):
            state["running"], state["waiting"] = service.device.load
        return JSONResponse(state, status_code=200 if ready else 503)

    async def leave(request: Request) -> Response:
        page.leave((await request.json())["claim"])
        return Response(status_code=204)

    # Gradio would keep every event for statistics, and make tables of them that nobody sees.
    os.environ.setdefault("GRADIO_ANALYTICS_MAX_EVENTS", "1")
    os.environ.setdefault("GRADIO_ANALYTICS_CACHE_FREQUENCY", "1000000000")
    quota = quota_of(service.settings)

    def receive(client: str | None) -> Receive:
        @contextlib.contextmanager
        def open_(size: int) -> Iterator[Upload]:
            with quota.upload(client, declared=size) as upload:
                service.make_room(size)
                yield upload

        return open_

    page = build_page(service, presence, quota)
    gr.set_static_paths([service.results])  # else Gradio would keep copies
    front = functools.partial(
        Gate,
        page=page,
        upload_bytes=service.settings.upload_mb * 10**6,
        quota=quota,
        make_room=service.make_room,
        proxies=service.settings.proxies or int("SPACE_ID" in os.environ),
        space="SPACE_ID" in os.environ,
    )
    gradio.http_server.Server = serving(front, service.settings.connections)
    page.launch(
        # Not as `css`, which Gradio confines to the inside of its page: margins are outside.
        head=f"<style>{static('style.css')}</style>",
        theme=_theme(),
        footer_links=["api", "settings"],
        max_file_size=service.settings.upload_mb * 10**6,
        mcp_server=service.settings.mcp,
        ssr_mode=False,
        run_history=False,
        # Runs that wait hold a thread's place in Gradio's queue; Stop must still get through.
        max_threads=service.settings.viewers + service.settings.waiting + 40,
        state_session_capacity=SESSIONS,
        app_kwargs={
            "routes": [
                Route("/healthz", health),
                Route("/leave", leave, methods=["POST"]),
                realtime_route(service, receive),
                example_route(),
            ],
            "middleware": [Middleware(presence.middleware)],
            "exception_handlers": {**HANDLERS, WRONG_CALL: refuse_call},
        },
        prevent_thread_lock=True,
        quiet=True,
        _frontend=False,  # Gradio would give up where a busy machine takes 3 s for the first page
        **options,
    )
    if service.settings.mcp:  # a picture in a call goes where uploads go, and are swept
        from gradio import mcp

        mcp.DEFAULT_TEMP_DIR = get_upload_folder()
    if page.mcp_error:
        log.warning(page.mcp_error)
    for server in page.server.servers:
        notice_lost_networks(server.sockets)
    return page


def _theme() -> gr.themes.Base:
    """Soft, in the visitor's own fonts: nothing is fetched from elsewhere."""
    sans = ["ui-sans-serif", "system-ui", "sans-serif"]
    mono = ["ui-monospace", "Consolas", "monospace"]
    in_both = {  # light and dark
        "block_title_background_fill": "transparent",
        "block_title_text_color": "*body_text_color",
        "block_label_background_fill": "*block_background_fill",
        "block_label_text_color": "*body_text_color",
    }
    return gr.themes.Soft(
        primary_hue="indigo", neutral_hue="slate", radius_size="lg", font=sans, font_mono=mono
    ).set(
        **in_both,
        **{f"{name}_dark": value for name, value in in_both.items()},
        block_title_padding="0",
        block_title_text_weight="550",
        block_label_text_weight="550",
        input_placeholder_color="*neutral_500",
        input_placeholder_color_dark="*neutral_400",
        input_border_width="1px",  # white on white, a shadow alone is hardly to be seen
        input_border_color="*neutral_300",
        input_border_color_dark="*neutral_600",
        input_shadow="none",
        input_shadow_focus="none",
        button_secondary_shadow="none",
        # White on the hue's usual shade is too faint to be read by everybody.
        button_primary_background_fill="*primary_600",
        button_primary_background_fill_hover="*primary_700",
        button_primary_background_fill_hover_dark="*primary_700",
        checkbox_label_background_fill_selected="*primary_600",
        body_background_fill="*neutral_50",
        block_border_width="1px",
        block_shadow="none",
    )


def _share_heaps() -> None:
    """Let threads share two heaps, so that memory does not depend on who did what."""
    if sys.platform == "linux" and (mallopt := getattr(ctypes.CDLL(None), "mallopt", None)):
        mallopt(_M_ARENA_MAX, _HEAPS)  # other libraries than glibc have none, or do nothing


def main(process: ServerProcess) -> None:
    """Serve until the process is stopped.

    Raises:
        ValueError: if a setting is wrong or the model cannot be had.
        OSError: if the port cannot be had.
    """
    _share_heaps()
    raise_descriptor_limit()
    set_up_logging(sys.stdout)
    silence_loading_bars()
    settings = Settings.from_environment()
    if not settings.log_prompts:
        withhold_texts()
    service = make_service(settings)
    with Uploads(keep=kept_seconds(service.settings)):
        host = os.environ.get("GRADIO_SERVER_NAME")
        port = int(os.environ.get("GRADIO_SERVER_PORT", PORT))
        try:
            # With a port by name, as Gradio would otherwise take the next one that is free.
            page = launch(service, server_name=host, server_port=port)
        except OSError:
            raise OSError(
                f"port {port} is taken or not allowed; end what listens there, or name "
                "another one in GRADIO_SERVER_PORT"
            ) from None
        log.info("Running on %s", page.local_url)
        process.serve(stop=lambda: _stop(page))


def _stop(page: gr.Blocks) -> None:
    """Answer nobody any more, so that no handler finds its files gone."""
    server = page.server
    server.should_exit = server.force_exit = True  # connections that are open are not waited for
    server.thread.join(_TO_STOP)
