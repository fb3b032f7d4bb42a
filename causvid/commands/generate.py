"""`python -m causvid generate`: a video and its manifest, written while it is made."""

import argparse
import math
import sys
from pathlib import Path

from tqdm import tqdm

from causvid.commands import picture_size
from causvid.generation.prompts import PromptSchedule
from causvid.media import VideoWriter, probe
from causvid.presets import execution
from causvid.presets.loading import load
from causvid.presets.registry import default_preset, get_preset
from causvid.serving.record import Recorder
from causvid.serving.request import Request


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("prompt", nargs="?", help="what to show")
    parser.add_argument("--schedule", type=Path, help="a file with timed prompts, text or JSON")
    start = parser.add_mutually_exclusive_group()
    start.add_argument("--image", type=Path, help="begin with this picture")
    start.add_argument("--video", type=Path, help="follow this video")
    parser.add_argument("--strength", type=float, default=0.7, help="how far to leave the video")
    parser.add_argument("--adaptive-strength", action="store_true", help="less where it moves")
    parser.add_argument("--seconds", type=float, help="length (default 5, or the whole video)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--model", help="a preset, a folder, or a Hub id")
    parser.add_argument("--size", type=picture_size, help="WxH in pixels (default: as trained)")
    parser.add_argument("--steps", type=int, help="denoising steps per chunk")
    parser.add_argument("--window", type=int, help="latent frames that a chunk can see")
    parser.add_argument("--sink", type=int, help="latent frames that are never forgotten")
    parser.add_argument("--decoder", choices=("full", "tiny"), default="full")
    parser.add_argument("--out", type=Path, default=Path("video.mp4"), help="the MP4 to write")
    execution.add_arguments(parser)


def main(args: argparse.Namespace) -> int:
    if (args.prompt is None) == (args.schedule is None):
        raise ValueError("pass either a PROMPT or --schedule FILE")
    if args.schedule is not None:
        prompts = PromptSchedule.parse(args.schedule)
    else:
        prompts = PromptSchedule.constant(args.prompt)
    seconds = args.seconds
    if seconds is None:
        seconds = 5.0 if args.video is None else None
    elif not 0 < seconds < math.inf:
        raise ValueError(f"--seconds must be positive and finite, got {seconds}")
    if args.video is not None:
        probe(args.video)  # refuse a bad file before weights are loaded
    how = execution.from_args(args)
    preset = get_preset(args.model or default_preset(how.device))
    height, width = args.size or (None, None)
    request = Request.read(
        {
            "model": preset.name,
            "mode": "image" if args.image else "video" if args.video else "text",
            "prompts": prompts,
            "seconds": seconds,
            "seed": args.seed,
            "height": height,
            "width": width,
            "strength": args.strength,
            "adaptive_strength": args.adaptive_strength,
            "steps": args.steps,
            "window": args.window,
            "sink": args.sink,
            "decoder": args.decoder,
        }
    )
    pipeline = load(preset, how, tiny_decoder=args.decoder == "tiny")
    with request.open(pipeline, image=args.image, video=args.video) as stream:
        recorder = Recorder(request, preset, stream)
        with (
            VideoWriter(args.out, fps=stream.generator.config.fps) as writer,
            tqdm(total=stream.chunk_count, unit="chunk", file=sys.stderr) as bar,
        ):
            for chunk in stream:
                recorder.add(chunk)
                writer.append(chunk.frames)
                bar.update()
                bar.set_postfix_str(f"{recorder.frames_per_second:.1f} frames/s")
        manifest = recorder.manifest()
    path = args.out.with_suffix(".json")
    manifest.save(path)
    video, timings = manifest.video, manifest.timings
    print(
        f"{args.out}: {video.frames} frames, {video.seconds:.2f} s at "
        f"{video.width}x{video.height}; first frame after "
        f"{timings.first_frame_seconds:.2f} s, {timings.times_playback:.1f} times playback "
        f"speed; manifest {path}; {execution.in_force(pipeline)}"
    )
    return 0
