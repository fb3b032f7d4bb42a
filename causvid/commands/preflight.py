"""`python -m causvid preflight`: what a video would cost, and whether it fits."""

import argparse
import dataclasses
import json

from causvid.generation.parameters import parse_size


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", nargs="?", help="a preset, a folder, or a Hub id")
    parser.add_argument("--size", help="WxH in pixels (default: as trained)")
    parser.add_argument("--seconds", type=float, default=5.0, help="length of the video")
    parser.add_argument("--window", type=int, help="latent frames that a chunk can see")
    parser.add_argument("--decoder", choices=("full", "tiny"), default="full")
    parser.add_argument("--source", action="store_true", help="the video starts from pictures")
    parser.add_argument(
        "--text-encoder-on-cpu", action="store_true", help="keep the text encoder off the device"
    )
    parser.add_argument(
        "--device", help="cpu, cuda, … (default: a GPU if there is one or --memory is given)"
    )
    parser.add_argument("--memory", type=float, help="GB that the device has (default: ask it)")
    parser.add_argument("--json", action="store_true", help="the figures, as JSON")


def main(args: argparse.Namespace) -> int:
    import torch

    from causvid.presets.preflight import preflight
    from causvid.presets.registry import default_preset

    on_gpu = args.memory is not None or torch.cuda.is_available()
    device = args.device or ("cuda" if on_gpu else "cpu")
    result = preflight(
        args.model or default_preset(device),
        parse_size(args.size),
        args.seconds,
        device,
        decoder=args.decoder,
        window=args.window,
        source=args.source,
        text_encoder_on_cpu=args.text_encoder_on_cpu,
        memory_bytes=None if args.memory is None else round(args.memory * 1e9),
    )
    if args.json:
        figures = {**dataclasses.asdict(result), "fits": result.fits, "message": result.message}
        figures["total_bytes"] = result.total_bytes
        print(json.dumps(figures, indent=2))
    else:
        print(result.message)
    return 0 if result.fits else 1
