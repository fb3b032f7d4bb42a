"""`python -m causvid benchmark`: speed, memory and operator launches, with the hardware.

(nothing)    the parts of a model and a whole stream of it, timed; with --untrained and
             random weights, its full size is timed without a download
--meta       one chunk at full size, counted on the `meta` device, without weights
--profile    one chunk, operator by operator, as PyTorch's profiler sees it
--headline   the student against its teacher of 50 guided steps: throughput, first picture
--player     the page in a browser: how soon and how smoothly chunks are shown
--budget     FLOPs and bytes of a pass, and what this device could do at best
--suite      all that is worth knowing of a machine, by itself, into a folder
--live       a camera in a browser: how far the video is behind it
"""

import argparse
import json
import math
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from causvid.benchmark import table
from causvid.presets import execution

if TYPE_CHECKING:  # they import torch
    from causvid.benchmark.headline import Race
    from causvid.pipeline import CausVidPipeline
    from causvid.presets.preset import Preset


def add_arguments(parser: argparse.ArgumentParser) -> None:
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--meta",
        action="store_true",
        help="count operations, launches and synchronisations of a full-size chunk instead",
    )
    what.add_argument("--profile", action="store_true", help="list the operators of one chunk")
    what.add_argument(
        "--headline",
        action="store_true",
        help="time the student against its teacher over the same length of video; takes minutes",
    )
    what.add_argument(
        "--player", action="store_true", help="measure how the page plays chunks, in Chromium"
    )
    what.add_argument(
        "--budget",
        action="store_true",
        help="operations and bytes of a pass, beside what this device could do at best",
    )
    what.add_argument(
        "--suite",
        metavar="OUT",
        help="measure by itself, most valuable parts first, and write suite.json and suite.md into "
        "the folder OUT after every part",
    )
    what.add_argument(
        "--live",
        action="store_true",
        help="measure how far a live video is behind its camera, in Chromium, for --seconds",
    )
    parser.add_argument(
        "--budget-seconds",
        type=float,
        help="--suite: the time it has; nine minutes by default, two on a CPU",
    )
    parser.add_argument("--model", help="what to measure: a name, a folder or a Hub id")
    parser.add_argument(
        "--untrained",
        action="store_true",
        help="with random weights of the model's full size: nothing is downloaded",
    )
    parser.add_argument(
        "--decoder", choices=("full", "tiny"), default="full", help="of the model's two decoders"
    )
    parser.add_argument(
        "--seconds", type=float, help="length of the timed stream: 10, with --live 60, by default"
    )
    parser.add_argument("--repeats", type=int, default=5, help="timed runs of every part")
    parser.add_argument("--json", action="store_true", help="the figures, as JSON")
    execution.add_arguments(parser)


def main(args: argparse.Namespace) -> int:
    """Measure and print.

    Raises:
        ValueError: if a number is out of range, or an option would be ignored.
    """
    if args.repeats < 1:
        raise ValueError(f"--repeats must be at least 1, got {args.repeats}")
    if args.budget_seconds is not None and not args.suite:
        raise ValueError("--budget-seconds is for --suite: leave it out, or add --suite OUT")
    args.seconds = args.seconds or (60.0 if args.live else 10.0)
    other = args.player or args.live or args.meta or args.headline or args.budget or args.suite
    if other and (args.untrained or args.compile or args.decoder != "full"):
        raise ValueError(
            "--untrained, --compile and --decoder are for the parts and the stream of a model: "
            "leave out --meta, --headline, --player, --live, --budget and --suite, or these"
        )
    if args.profile and args.json:
        raise ValueError("--profile prints a table for people: leave out --json")
    if args.suite:
        return _suite(args)
    if args.player:
        from causvid.benchmark import player

        figures = player.main(show=not args.json)
    elif args.live:
        from causvid.benchmark import live

        figures = live.main(args.seconds, show=not args.json)
    elif args.meta:
        figures = _meta(args)
    elif args.headline:
        figures = _headline(args)
    elif args.budget:
        figures = _budget(args)
    else:
        figures = _pieces(args)
    if args.json:
        print(json.dumps(figures, indent=2))
    return 0


def _meta(args: argparse.Namespace) -> dict[str, Any]:
    from causvid.benchmark.counts import count, full_size
    from causvid.presets.registry import get_preset

    preset = get_preset(args.model or "self-forcing")
    generator = full_size(preset)
    cost, grid, config = count(generator), generator.grid, generator.config
    if not args.json:
        print(
            f"{preset.name} in bfloat16 at {grid.width}x{grid.height}, one chunk of "
            f"{config.chunks.rest} latent frames in a window of {config.window}, "
            f"{len(config.timesteps)} steps by the {config.sampler} sampler"
        )
        row = (
            f"{cost.launches_per_chunk:,}",
            str(cost.syncs_per_chunk),
            f"{cost.flops_per_chunk / 1e12:.1f}",
            f"{cost.cache_bytes / 1e9:.2f}",
        )
        print(table(("launches", "syncs", "TFLOP", "cache, GB"), [row]))
    return {"meta": {"model": preset.name, **asdict(cost)}}


def _headline(args: argparse.Namespace) -> dict[str, Any]:
    from causvid.benchmark import headline
    from causvid.training.recipes import POCKET

    preset, pipe, setting = _load(args)
    teacher = headline.load_teacher(preset, pipe)
    teacher_steps, guidance = headline.TEACHER_STEPS, POCKET.trajectories.guidance
    fps, steps = pipe.generation.fps, len(pipe.generation.timesteps)
    trained = max(phase.frames for phase in POCKET.teacher.phases)
    asked = pipe.generator().grid.latent_frames(math.ceil(args.seconds * fps))
    if not args.json:
        print(
            f"student: {steps} steps and the clean pass, streamed; teacher: "
            f"{teacher_steps} steps, guidance {guidance:g}"
        )
    races = {}
    for name, latents in (("trained_length", trained), ("asked_length", asked)):
        races[name] = headline.race(
            pipe,
            teacher,
            latent_frames=latents,
            steps=teacher_steps,
            guidance=guidance,
            rounds=args.repeats,
        )
        if not args.json:
            _print_race(races[name], fps)
    return {
        "hardware": setting.pop("hardware"),
        "headline": {
            "throughput_ratio": races["asked_length"].throughput_ratio,
            "latency_ratio": races["asked_length"].latency_ratio,
            "seconds_asked": args.seconds,
            **setting,
            "fps": fps,
            "student_steps": steps,
            "teacher_steps": teacher_steps,
            "teacher_guidance": guidance,
            "teacher_trained_latent_frames": trained,
            **{name: result.to_dict() for name, result in races.items()},
        },
    }


def _print_race(result: "Race", fps: int) -> None:
    seconds = result.teacher.pixel_frames / fps
    print(f"a video of {result.teacher.pixel_frames} frames, {seconds:.1f} s, in seconds:")
    header = ("", "first", "text", "denoise", "decode", "other", "all", "CPU", "frames/s")
    rows = []
    for name, side in (("student", result.student), ("teacher", result.teacher)):
        values = (side.first_picture, *side.seconds.values(), side.cpu_seconds)
        rows.append((name, *(f"{it:.3f}" for it in values), f"{side.frames_per_second:.2f}"))
    print(table(header, rows))
    print(
        f"throughput x {result.throughput_ratio:.1f} ({result.cpu_ratio:.1f} by CPU time), "
        f"first picture x {result.latency_ratio:.0f}",
        flush=True,
    )


def _suite(args: argparse.Namespace) -> int:
    from pathlib import Path

    import torch

    from causvid.benchmark import suite

    device = execution.from_args(args).device
    budget_seconds = args.budget_seconds
    if budget_seconds is None:
        on_gpu = torch.device(device).type == "cuda"
        budget_seconds = suite.BUDGET_SECONDS if on_gpu else suite.CPU_BUDGET_SECONDS
    report = suite.run(suite.Plan(args.model, device), Path(args.suite), budget_seconds)
    print(f"\n{report.markdown()}")
    return 0 if any(result.figures for result in report.results) else 1


def _budget(args: argparse.Namespace) -> dict[str, Any]:
    import torch

    from causvid.benchmark.budget import budget, ceilings
    from causvid.benchmark.counts import full_size
    from causvid.benchmark.timing import Hardware
    from causvid.presets.registry import get_preset

    how = execution.from_args(args)
    device, dtype = torch.device(how.device), torch.bfloat16
    preset, hardware = get_preset(args.model or "self-forcing"), Hardware.of(device)
    at = ceilings(device, dtype)
    rows = list(budget(full_size(preset), dtype, at))
    if not args.json:
        print(f"{hardware}\nat best {at.flops / 1e12:.4g} TFLOP/s, {at.bandwidth / 1e9:.4g} GB/s")
        header = ("window", "products", "attention, TFLOP", "cache", "between, GB", "at best, ms")
        cells = [
            (
                str(row.visible),
                f"{row.products / 1e12:.4g}",
                f"{row.attention / 1e12:.4g}",
                f"{row.cache / 1e9:.4g}",
                f"{row.activations / 1e9:.4g}",
                f"{1000 * row.at_best:.4g}",
            )
            for row in rows
        ]
        print(table(header, cells))
    return {
        "hardware": asdict(hardware),
        "budget": {
            "model": preset.name,
            **asdict(at),
            "passes": [row.to_dict() for row in rows],
        },
    }


def _pieces(args: argparse.Namespace) -> dict[str, Any]:
    from causvid.benchmark.pieces import measure_pieces, measure_stream, profile_chunk

    _, pipe, setting = _load(args)
    if args.profile:
        print(profile_chunk(pipe, decoder=args.decoder))
        return {}
    pieces = list(measure_pieces(pipe, repeats=args.repeats, decoder=args.decoder))
    run = measure_stream(pipe, seconds=args.seconds, decoder=args.decoder)
    measured = [(it.name, it.seconds, it.frames_per_second) for it in pieces]
    if not args.json:
        rows = [
            (name, f"{it.median:.4f}", f"{it.p95:.4f}", "" if rate is None else f"{rate:.1f}")
            for name, it, rate in (*measured, ("chunk interval", run.steps, run.frames_per_second))
        ]
        print(table(("seconds of", "median", "p95", "frames/s"), rows))
        print(
            f"first pictures after {run.first_frame:.2f} s; "
            f"{run.frames_per_second / run.playback_rate:.2f} times playback rate; "
            f"memory {run.peak_memory / 2**30:.2f} GiB"
        )
    return {
        **setting,
        "untrained": args.untrained,
        "decoder": args.decoder,
        "compiled": pipe.transformer.compiled,
        "pieces": {
            name: {**seconds.to_dict(), "frames_per_second": rate}
            for name, seconds, rate in measured
        },
        "stream": {
            "first_frame": run.first_frame,
            "step": run.steps.to_dict(),
            "frames_per_second": run.frames_per_second,
            "playback_rate": run.playback_rate,
            "peak_memory": run.peak_memory,
        },
    }


def _load(args: argparse.Namespace) -> tuple["Preset", "CausVidPipeline", dict[str, Any]]:
    """The model, and what of it and of the machine a measurement needs beside it."""
    from causvid.benchmark.timing import Hardware
    from causvid.benchmark.untrained import untrained_pipeline
    from causvid.model.cpu import arithmetic_of
    from causvid.presets.loading import load
    from causvid.presets.registry import default_preset, get_preset

    how = execution.from_args(args)
    preset = get_preset(args.model or default_preset(how.device))
    if args.untrained:
        pipe = untrained_pipeline(preset, how)
    else:
        pipe = load(preset, how, tiny_decoder=args.decoder == "tiny")
    hardware, grid = Hardware.of(pipe.transformer.device), pipe.generator().grid
    in_force = execution.in_force(pipe)
    if not args.json:
        print(f"{hardware}\n{preset.name} at {grid.width}x{grid.height}; {in_force}", flush=True)
    setting = {
        "model": preset.name,
        "width": grid.width,
        "height": grid.height,
        "dtype": arithmetic_of(pipe.transformer),
        "execution": in_force,
    }
    return preset, pipe, {"hardware": asdict(hardware), **setting}
