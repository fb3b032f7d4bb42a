"""`python -m causvid benchmark`: speed, memory and operator launches, with the hardware.

    (nothing)    the parts of a preset and a whole stream of it, timed; with --untrained and
                 random weights, its full size is timed without a download
    --meta       one chunk at full size, counted on the `meta` device: ours and a plain baseline
    --compare    the same two, timed on the CPU at a size between pocket and Wan
    --headline   the student against its teacher of 50 guided steps: throughput, first picture
    --player     the page in a browser: how soon and how smoothly chunks are shown

`baseline` is what ours is compared with; equal outputs are tested.
"""

import argparse
import dataclasses
import json
import math
from typing import Any

import torch

from causvid.benchmark.comparison import (
    CPU,
    VISIBLE,
    Comparison,
    Pair,
    compare,
    comparison_generator,
)
from causvid.benchmark.counts import ChunkCost, count_baseline, count_ours, full_size
from causvid.benchmark.headline import Race, Side, TeacherConfig, load_teacher, race
from causvid.benchmark.pieces import Piece, StreamRun, measure_pieces, measure_stream
from causvid.benchmark.timing import Hardware, Seconds
from causvid.benchmark.untrained import untrained_pipeline
from causvid.model.cpu import arithmetic_of
from causvid.pipeline import CausVidPipeline
from causvid.presets import execution
from causvid.presets.loading import load
from causvid.presets.preset import Preset
from causvid.presets.registry import default_preset, get_preset
from causvid.training.recipes import POCKET

__all__ = ["add_arguments", "main"]

COMPARE_THREADS = 2  # of the machine that the goals were set on


def add_arguments(parser: argparse.ArgumentParser) -> None:
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--meta",
        action="store_true",
        help="count operations, launches and synchronisations of a full-size chunk instead",
    )
    what.add_argument(
        "--compare", action="store_true", help="time ours against a plain baseline on the CPU"
    )
    what.add_argument(
        "--headline",
        action="store_true",
        help="time the student against its teacher over the same length of video; takes minutes",
    )
    what.add_argument(
        "--player", action="store_true", help="measure how the page plays chunks, in Chromium"
    )
    parser.add_argument("--model", help="what to time: a name from `models`, a folder, or a Hub id")
    parser.add_argument(
        "--untrained",
        action="store_true",
        help="with random weights of the model's full size: nothing is downloaded",
    )
    parser.add_argument(
        "--decoder", choices=("full", "tiny"), default="full", help="of the model's two decoders"
    )
    parser.add_argument("--seconds", type=float, default=10.0, help="length of the timed stream")
    parser.add_argument("--repeats", type=int, default=5, help="timed runs of every part")
    parser.add_argument("--json", action="store_true", help="the figures, as JSON")
    execution.add_arguments(parser)


def main(args: argparse.Namespace) -> int:
    if args.repeats < 1:
        raise ValueError(f"--repeats must be at least 1, got {args.repeats}")
    other = args.player or args.meta or args.compare or args.headline
    if other and (args.untrained or args.compile or args.decoder != "full"):
        raise ValueError(
            "--untrained, --compile and --decoder are for the parts and the stream of a preset: "
            "leave out --meta, --compare, --headline and --player, or these"
        )
    if args.player:
        from causvid.benchmark import player  # here only, as it loads the whole web app

        figures = player.main(show=not args.json)
        if args.json:
            print(json.dumps(figures, indent=2))
        return 0
    if args.meta:
        figures = _meta(args)
    elif args.compare:
        figures = _compare(args)
    elif args.headline:
        figures = _headline(args)
    else:
        figures = _pieces(args)
    if args.json:
        print(json.dumps(figures, indent=2))
    return 0


def _meta(args: argparse.Namespace) -> dict[str, Any]:
    generator = full_size()
    costs = {"ours": count_ours(generator), "baseline": count_baseline(generator)}
    if not args.json:
        grid, config = generator.grid, generator.config
        print(
            f"Wan 1.3B in bfloat16 at {grid.width}x{grid.height}, one chunk of "
            f"{config.chunks.rest} latent frames in a window of {config.window}, "
            f"{len(config.timesteps)} steps and the clean pass"
        )
        print(f"{'':10}{'launches':>10}{'syncs':>8}{'TFLOP':>10}{'cache, GB':>12}")
        for name, cost in costs.items():
            print(_cost_row(name, cost))
    return {"meta": {name: dataclasses.asdict(cost) for name, cost in costs.items()}}


def _cost_row(name: str, cost: ChunkCost) -> str:
    return (
        f"{name:10}{cost.launches_per_chunk:10,}{cost.syncs_per_chunk:8}"
        f"{cost.flops_per_chunk / 1e12:10.1f}{cost.cache_bytes / 1e9:12.2f}"
    )


def _compare(args: argparse.Namespace) -> dict[str, Any]:
    torch.set_num_threads(COMPARE_THREADS)
    generator = comparison_generator()
    hardware = Hardware.of(CPU)
    if not args.json:
        print(hardware)
        print(
            f"chunk of 3 latent frames, {generator.grid.tokens_per_frame} tokens each; medians of "
            f"{args.repeats} in seconds, ours and the baseline in turns"
        )
        print(f"{'sees':>6}{'':8}{'ours':>9}{'baseline':>10}{'ratio':>8}{'CPU ratio':>11}")
    results = []
    for result in compare(generator, VISIBLE, repeats=args.repeats):
        results.append(result)
        if not args.json:
            _print_comparison(result)
    return {
        "hardware": dataclasses.asdict(hardware),
        "compare": {str(result.visible): _comparison_figures(result) for result in results},
    }


def _print_comparison(result: Comparison) -> None:
    for name, pair in (("pass", result.one_pass), ("chunk", result.chunk)):
        print(
            f"{result.visible:6}  {name:6}{pair.ours.median:9.3f}{pair.baseline.median:10.3f}"
            f"{pair.ratio:8.2f}{pair.cpu_ratio:11.2f}",
            flush=True,
        )
    print("        CPU seconds of a pass:")
    for name in result.parts[0]:
        ours, baseline = (parts[name] for parts in result.parts)
        print(f"{name:>16}{ours:9.3f}{baseline:10.3f}", flush=True)


def _comparison_figures(result: Comparison) -> dict[str, Any]:
    def figures(pair: Pair) -> dict[str, Any]:
        return {
            "ours": _seconds(pair.ours),
            "baseline": _seconds(pair.baseline),
            "ratio": pair.ratio,
            "cpu_ratio": pair.cpu_ratio,
        }

    ours, baseline = result.parts
    return {
        "pass": figures(result.one_pass),
        "chunk": figures(result.chunk),
        "cpu_seconds_of_a_pass": {"ours": ours, "baseline": baseline},
    }


def _headline(args: argparse.Namespace) -> dict[str, Any]:
    preset, pipe = _load(args)
    teacher = load_teacher(preset, pipe)
    config = TeacherConfig(guidance=POCKET.trajectories.guidance)
    setting = {**_setting(preset, pipe), "fps": pipe.generation.fps}
    hardware = Hardware.of(pipe.transformer.device)
    grid = pipe.generator().grid
    asked = grid.latent_frames(math.ceil(args.seconds * pipe.generation.fps))
    trained = max(phase.frames for phase in POCKET.teacher.phases)
    if not args.json:
        print(hardware)
        print("{model} at {width}x{height}; {execution}".format(**setting))
        print(
            f"student: {len(pipe.generation.timesteps)} steps and the clean pass, streamed; "
            f"teacher: {config.steps} steps, guidance {config.guidance:g}"
        )
    races = {}
    for name, latents in (("trained_length", trained), ("asked_length", asked)):
        races[name] = race(pipe, teacher, config, latent_frames=latents, rounds=args.repeats)
        if not args.json:
            _print_race(races[name], pipe.generation.fps)
    headline = races["asked_length"]
    return {
        "hardware": dataclasses.asdict(hardware),
        "headline": {
            "throughput_ratio": headline.throughput_ratio,
            "latency_ratio": headline.latency_ratio,
            "seconds_asked": args.seconds,
            **setting,
            "student_steps": len(pipe.generation.timesteps),
            "teacher_steps": config.steps,
            "teacher_guidance": config.guidance,
            "teacher_trained_latent_frames": trained,
            **{name: _race_figures(result) for name, result in races.items()},
        },
    }


def _print_race(result: Race, fps: int) -> None:
    seconds = result.teacher.pixel_frames / fps
    print(f"a video of {result.teacher.pixel_frames} frames, {seconds:.1f} s, in seconds:")
    columns = ("first", "text", "denoise", "decode", "other", "all", "CPU")
    print(f"{'':9}" + "".join(f"{name:>9}" for name in columns) + f"{'frames/s':>11}")
    for name, side in (("student", result.student), ("teacher", result.teacher)):
        spent = side.seconds
        values = (
            *(side.first_picture, spent.text, spent.denoise, spent.decode, spent.other),
            *(spent.total, side.cpu_seconds),
        )
        cells = "".join(f"{value:9.3f}" for value in values)
        print(f"{name:9}{cells}{side.frames_per_second:11.2f}")
    print(
        f"throughput x {result.throughput_ratio:.1f} ({result.cpu_ratio:.1f} by CPU time), "
        f"first picture x {result.latency_ratio:.0f}",
        flush=True,
    )


def _race_figures(result: Race) -> dict[str, Any]:
    def figures(side: Side) -> dict[str, Any]:
        return {
            **dataclasses.asdict(side),
            "seconds": {**dataclasses.asdict(side.seconds), "total": side.seconds.total},
            "frames_per_second": side.frames_per_second,
        }

    return {
        "throughput_ratio": result.throughput_ratio,
        "latency_ratio": result.latency_ratio,
        "cpu_ratio": result.cpu_ratio,
        "student": figures(result.student),
        "teacher": figures(result.teacher),
    }


def _load(args: argparse.Namespace) -> tuple[Preset, CausVidPipeline]:
    how = execution.from_args(args)
    preset = get_preset(args.model or default_preset(how.device))
    if args.untrained:
        return preset, untrained_pipeline(preset, how)
    return preset, load(preset, how, tiny_decoder=args.decoder == "tiny")


def _setting(preset: Preset, pipe: CausVidPipeline) -> dict[str, Any]:
    grid = pipe.generator().grid
    return {
        "model": preset.name,
        "width": grid.width,
        "height": grid.height,
        "dtype": arithmetic_of(pipe.transformer),
        "execution": execution.in_force(pipe),
    }


def _pieces(args: argparse.Namespace) -> dict[str, Any]:
    preset, pipe = _load(args)
    hardware = Hardware.of(pipe.transformer.device)
    setting = {
        **_setting(preset, pipe),
        "untrained": args.untrained,
        "decoder": args.decoder,
        "compiled": pipe.transformer.compiled,
    }
    if not args.json:
        print(hardware)
        print("{model} at {width}x{height}; {execution}".format(**setting))
        print(f"{'seconds of':20}{'median':>9}{'p95':>9}{'frames/s':>11}")
    pieces = []
    for piece in measure_pieces(pipe, repeats=args.repeats, decoder=args.decoder):
        pieces.append(piece)
        if not args.json:
            print(_piece_row(piece), flush=True)
    run = measure_stream(pipe, seconds=args.seconds, decoder=args.decoder)
    if not args.json:
        _print_stream(run)
    return {
        "hardware": dataclasses.asdict(hardware),
        **setting,
        "pieces": {
            piece.name: {
                **_seconds(piece.seconds),
                "frames_per_second": piece.frames_per_second,
            }
            for piece in pieces
        },
        "stream": {
            "first_frame": run.first_frame,
            "step": _seconds(run.steps),
            "frames_per_second": run.frames_per_second,
            "playback_rate": run.playback_rate,
            "peak_memory": run.peak_memory,
        },
    }


def _piece_row(piece: Piece) -> str:
    rate = piece.frames_per_second
    return (
        f"{piece.name:20}{piece.seconds.median:9.4f}{piece.seconds.p95:9.4f}"
        f"{'' if rate is None else f'{rate:.1f}':>11}"
    )


def _print_stream(run: StreamRun) -> None:
    print(
        f"{'stream step':20}{run.steps.median:9.4f}{run.steps.p95:9.4f}"
        f"{run.frames_per_second:11.1f}"
    )
    print(
        f"first pictures after {run.first_frame:.2f} s; "
        f"{run.frames_per_second / run.playback_rate:.2f} times playback rate; "
        f"memory {run.peak_memory / 2**30:.2f} GiB"
    )


def _seconds(seconds: Seconds) -> dict[str, Any]:
    return {
        "median": seconds.median,
        "p95": seconds.p95,
        "median_cpu": seconds.median_cpu,
        "samples": len(seconds.wall),
    }
