"""The page: tabs with inputs, the stage beside them, and the events between. Private to browsers."""

import gradio as gr

from causvid.prompts import PromptSchedule
from causvid.request import Request
from causvid.serving.service import RunError, Service
from causvid.ui.stage import Stage, error_message, static
from causvid.ui.watching import Watched


def build_page(service: Service) -> gr.Blocks:
    with gr.Blocks(title="CausVid Live", delete_cache=(600, 3600)) as page:
        with gr.Row():
            with gr.Column():
                prompt = gr.Textbox(label="Prompt", value="a red car drives")
                seconds = gr.Slider(2, 60, 5, label="Seconds")
                go = gr.Button("Generate", variant="primary", elem_classes="cv-go")
            with gr.Column():
                stage = Stage()
                stop = gr.Button("Stop")
                video = gr.File(label="MP4")
                manifest = gr.JSON(label="Manifest")

        sessions: dict[str, str] = {}

        async def watch(prompt: str, seconds: float, request: gr.Request):
            try:
                run = service.start(
                    Request(
                        model=service.settings.model,
                        prompts=PromptSchedule.constant(prompt),
                        seconds=seconds,
                    ),
                    session=request.session_hash,
                    watched=True,
                )
                sessions[request.session_hash] = run.id
                watched = Watched(run)
                async for message in watched.messages():
                    yield {stage: message}
                yield {video: str(watched.video), manifest: watched.manifest}
            except (ValueError, RunError) as error:
                yield {stage: error_message(str(error))}
                raise gr.Error(str(error), print_exception=False) from None

        go.click(
            watch,
            [prompt, seconds],
            [stage, video, manifest],
            show_progress="hidden",
            concurrency_limit=None,
            api_visibility="private",
        )

        def halt(request: gr.Request):
            if run := sessions.get(request.session_hash):
                service.stop(run)

        stop.click(halt, None, None, concurrency_limit=None, api_visibility="private")
    return page


CSS = static("style.css")
