"""`python -m causvid generate`: a video and its manifest, written while it is made."""

import argparse
import math
import sys
from pathlib import Path
from typing import Any

from causvid.presets import execution
from causvid.serving.request import PARAMETERS, Parameter

_TYPES = {"integer": int, "number": float}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("prompt", nargs="?", help="what to show")
    parser.add_argument("--schedule", type=Path, help="a file with timed prompts, text or JSON")
    parser.add_argument("--manifest", type=Path, help="make the video of this manifest again")
    start = parser.add_mutually_exclusive_group()
    start.add_argument("--image", type=Path, help="begin with this picture")
    start.add_argument("--video", type=Path, help="follow this video")
    for parameter in PARAMETERS.values():
        _add(parser, parameter)
    parser.add_argument("--out", type=Path, default=Path("video.mp4"), help="the MP4 to write")
    parser.add_argument("--quiet", action="store_true", help="say nothing but mistakes")
    execution.add_arguments(parser)


def _add(parser: argparse.ArgumentParser, parameter: Parameter) -> None:
    """A flag that is `None` unless it is given."""
    flag, schema = f"--{parameter.name.replace('_', '-')}", parameter.schema
    text = parameter.sentence
    if schema["type"] == "boolean":
        parser.add_argument(flag, action="store_true", default=None, help=text)
        return
    if parameter.default is not None:
        text = f"{text} (default: {parameter.default})"
    kind = _TYPES.get(schema["type"], str)
    parser.add_argument(flag, type=kind, choices=schema.get("enum"), help=text)


def main(args: argparse.Namespace) -> int:
    from tqdm import tqdm

    from causvid.generation.prompts import PromptSchedule
    from causvid.media import VideoWriter, probe, read_image
    from causvid.presets.loading import load
    from causvid.presets.registry import default_preset, get_preset
    from causvid.serving.models import check_fit
    from causvid.serving.record import Manifest, Recorder
    from causvid.serving.request import Request
    from causvid.serving.words import remark

    if sum(it is not None for it in (args.prompt, args.schedule, args.manifest)) != 1:
        raise ValueError("pass a PROMPT, --schedule FILE or --manifest FILE, and one of them only")
    record = args.out.with_suffix(".json")
    for given in (args.schedule, args.image, args.video):
        if given and given.resolve() in (args.out.resolve(), record.resolve()):
            raise ValueError(f"{given} would be overwritten; pass another name to --out")
    values: dict[str, Any] = {}
    if args.manifest is not None:
        made = Manifest.read(args.manifest).request
        values = {**made.to_parameters(), "prompts": made.prompts, "mode": made.mode}
    elif args.schedule is not None:
        values["prompts"] = PromptSchedule.parse(args.schedule)
    else:
        values["prompts"] = PromptSchedule.constant(args.prompt)
    given = {name: getattr(args, name) for name in PARAMETERS}
    values |= {name: value for name, value in given.items() if value is not None}
    if args.image is not None or args.video is not None:
        values["mode"] = "image" if args.image else "video"
    how = execution.from_args(args)
    preset = get_preset(values.get("model") or default_preset(how.device))
    request = Request.from_parameters({**values, "model": preset.name})
    if request.seconds == math.inf:
        raise ValueError("--seconds is endless, which no file is: pass a length")
    # Whatever can be refused is refused before weights are loaded.
    check_fit(request, preset)
    if args.image is not None:
        read_image(args.image)
    if args.video is not None:
        probe(args.video)
    sentence = remark(preset, " ".join(cue.prompt for cue in request.prompts))
    if sentence and not args.quiet:
        print(sentence, file=sys.stderr)
    pipeline = load(preset, how, tiny_decoder=request.decoder == "tiny")
    with request.open(pipeline, image=args.image, video=args.video) as stream:
        recorder = Recorder(request, preset, stream)
        with (
            VideoWriter(args.out, fps=stream.generator.config.fps) as writer,
            tqdm(
                total=stream.chunk_count, unit="chunk", file=sys.stderr, disable=args.quiet
            ) as bar,
        ):
            for chunk in stream:
                recorder.add(chunk)
                writer.append(chunk.frames)
                bar.update()
                bar.set_postfix_str(f"{recorder.frames_per_second:.1f} frames/s")
        manifest = recorder.manifest()
    manifest.save(record)
    if not args.quiet:
        video, timings = manifest.video, manifest.timings
        print(
            f"{args.out}: {video.frames} frames, {video.seconds:.2f} s at "
            f"{video.width}x{video.height}; first frame after "
            f"{timings.first_frame_seconds:.2f} s, {timings.times_playback:.1f} times playback "
            f"speed; manifest {record}; {execution.in_force(pipeline)}"
        )
    return 0
