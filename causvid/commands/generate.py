"""`python -m causvid generate`: a video and its manifest, written while it is made."""

import argparse
import math
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from causvid.presets import execution
from causvid.serving.request import PARAMETERS, Parameter

if TYPE_CHECKING:
    from tqdm import tqdm

    from causvid.generation.stream import Stream
    from causvid.media import VideoWriter
    from causvid.serving.record import Reason, Recorder

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
    from causvid.media import NoRoomError, VideoWriter, add_sound, check_place, probe, read_image
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
    preset = get_preset(
        values.get("model") or default_preset(how.device, values.get("mode", "text"))
    )
    request = Request.from_parameters({**values, "model": preset.name})
    if request.seconds == math.inf:
        raise ValueError("--seconds is endless, which no file is: pass a length")
    # Whatever can be refused is refused before weights are loaded.
    check_fit(request, preset)
    if args.image is not None:
        read_image(args.image)
    if args.video is not None:
        found = probe(args.video)
        for told in () if args.quiet else found.remarks:
            print(f"{args.video.name}: {told}", file=sys.stderr)
    writer = VideoWriter(args.out, fps=preset.generation.fps)
    check_place(record)
    sentence = remark(preset, " ".join(cue.prompt for cue in request.prompts))
    if sentence and not args.quiet:
        print(sentence, file=sys.stderr)
    pipeline = load(preset, how, tiny_decoder=request.decoder == "tiny")
    with request.open(pipeline, image=args.image, video=args.video) as stream:
        recorder = Recorder(request, preset, stream)
        with writer, tqdm(total=stream.chunk_count, unit="chunk", disable=args.quiet) as bar:
            stopped_by, cause = _make(stream, recorder, writer, bar)
            if cause is not None and not recorder.frames:
                raise cause
        manifest = recorder.manifest(stopped_by=stopped_by)
    manifest.save(record)
    if args.video is not None and add_sound(args.out, args.video) is False and not args.quiet:
        print(f"{args.video.name}: its sound could not be taken along", file=sys.stderr)
    video, timings = manifest.video, manifest.timings
    if not args.quiet:
        print(
            f"{args.out}: {writer.frame_count} frames, {writer.frame_count / video.fps:.2f} s at "
            f"{video.width}x{video.height}; first frame after "
            f"{timings.first_frame_seconds:.2f} s, {timings.times_playback:.1f} times playback "
            f"speed; manifest {record}; {execution.in_force(pipeline)}"
        )
    if isinstance(cause, NoRoomError):
        raise NoRoomError(
            f"{cause}: it holds the first {writer.frame_count} of {video.frames} frames"
        )
    if cause is not None:
        raise cause
    return 0


def _make(
    stream: "Stream", recorder: "Recorder", writer: "VideoWriter", bar: "tqdm[NoReturn]"
) -> "tuple[Reason | None, BaseException | None]":
    """Make the video; what ended it early, so that what was made before can be kept.

    Ctrl-C and SIGTERM end it within one pass; a second one at once.
    """
    from causvid.generation.stream import StreamInterrupted
    from causvid.media import NoRoomError

    signals = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    came: list[int] = []

    def end(number: int, _: object) -> None:
        came.append(number)
        stream.interrupt()
        for each, handler in signals.items():
            signal.signal(each, handler)

    for number in signals:
        signal.signal(number, end)
    try:
        for chunk in stream:
            recorder.add(chunk)
            writer.append(chunk.frames)
            bar.update()
            bar.set_postfix_str(f"{recorder.frames_per_second:.1f} frames/s")
    except StreamInterrupted:
        return "viewer", SystemExit(128 + came[0])
    except NoRoomError as error:
        return "room", error
    except Exception as error:
        return "failure", error
    finally:
        for each, handler in signals.items():
            signal.signal(each, handler)
    return None, None
