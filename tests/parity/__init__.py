"""`python -m tests.parity DIR`: compare this package with a folder of reference runs.

A reference folder holds one JSON per case, with a safetensors file of inputs and outputs beside
it. Every case is run, whatever its sizes; a case of an unknown kind, or one that raises, or one of
whose tensors some were not compared, counts as failed. The losses of training are compared too, so
this package imports `causvid.training`.
"""

import argparse
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from tests.parity import codecs, keys, rollouts, schedules, text, training, transformer
from tests.parity.case import BFLOAT16_TOLERANCE, TOLERANCE, Case, Mismatch
from tests.parity.folder import (
    CHECKPOINT,
    ReferenceFolder,
    Settings,
    is_transformer,
    is_vae,
)

__all__ = ["Result", "add_arguments", "main", "run"]


@dataclass(frozen=True)
class Result:
    """What one case came to.

    Attributes:
        case: path inside the folder.
        error: worst relative error over all its tensors; NaN if it was not compared to the end.
        tolerance: largest error that counts as agreement.
        worst: the tensor that has the worst error.
        failure: why the case failed regardless of the error, in one line; empty if it did not.
    """

    case: str
    error: float
    tolerance: float
    worst: str = ""
    failure: str = ""

    @property
    def agrees(self) -> bool:
        return not self.failure and self.error <= self.tolerance


Procedure = Callable[[Case, ReferenceFolder], None]


def _has(*tensors: str) -> Callable[[Settings], bool]:
    return lambda settings: set(tensors) <= set(settings.get("tensors", {}))


def _says(*names: str) -> Callable[[Settings], bool]:
    return lambda settings: set(names) <= set(settings)


def _chunked_flow(settings: Settings) -> bool:
    tensors = settings.get("tensors", {})
    return bool(tensors) and all(name.startswith("chunk") for name in tensors)


# What a JSON looks like → how to run its case. The first that fits counts.
_PROCEDURES: tuple[tuple[Callable[[Settings], bool], Procedure], ...] = (
    (_says(CHECKPOINT), keys.checkpoint),
    (is_transformer, keys.transformer_weights),
    (is_vae, keys.vae_weights),
    (keys.is_official_list, keys.official_transformer),
    (keys.is_diffusers_list, keys.diffusers_transformer),
    (_says(keys.RULES), keys.rename_rules),
    (_says(keys.MAP, "diffusers_config"), keys.vae_map),
    (keys.is_vae_list, keys.vae_list),
    (transformer.is_cached, transformer.cached),
    (_chunked_flow, transformer.cached_bfloat16),
    (_has("freqs_real", "sinusoid"), transformer.activations),
    (_has("x", "clean_x", "flow"), transformer.teacher_forcing),
    (_has("x", "timestep", "flow"), transformer.bidirectional),
    (_says("frames", "max_abs_diff_vs_cached_path"), transformer.block_causal),
    (_has("x0", "noise", "t", "flow"), schedules.flow_match),
    (_says("num_rollout", "num_overlap_frames"), rollouts.long_video),
    (_says("switch_frame_indices", "global_sink"), rollouts.longlive),
    (_says("local_attn_size", "independent_first_frame"), rollouts.self_forcing),
    (_has("noise", "latents", "denoising_step_list"), rollouts.causvid),
    (_has("video", "moments", "z"), codecs.wan),
    (_has("decoded_stream", "encoded"), codecs.tiny),
    (_has("ids", "mask", "hidden"), text.umt5),
    (_says("real_guidance_scale"), training.dmd),
    (_has("ode_latent"), training.ode_regression),
)


def run(folder: str | Path, report: Callable[[Result], None] | None = None) -> list[Result]:
    """Run every case of a reference folder.

    Args:
        report: called with each result as soon as it is known.

    Raises:
        ValueError: if it is not a folder, or holds no case.
    """
    reference = ReferenceFolder(folder)
    results = []
    for name in reference.names():
        results.append(_run_case(reference, name))
        if report is not None:
            report(results[-1])
    if not results:
        raise ValueError(f"{folder} holds no case: there are no JSON files in it")
    return results


def _run_case(folder: ReferenceFolder, name: str) -> Result:
    case = None
    try:
        case = folder.open(name)
        procedure = next((run for fits, run in _PROCEDURES if fits(case.settings)), None)
        if procedure is None:
            raise Mismatch("is of no known kind")
        with torch.no_grad():
            procedure(case, folder)
        case.finish()
    except Exception as error:  # whatever a broken case raises, the others must still run
        kind = "" if isinstance(error, Mismatch) else f"{type(error).__name__}: "
        reason = kind + " ".join(str(error).split())
        return Result(name, math.nan, case.tolerance if case else TOLERANCE, failure=reason)
    return Result(name, case.error, case.tolerance, case.worst)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("folder", type=Path, metavar="DIR", help="a folder of reference runs")


def main(args: argparse.Namespace) -> int:
    """Print one row per case and a summary; 0 if all cases agree.

    Raises:
        ValueError: if the folder holds no case.
    """
    print(f"{'case':44} {'relative error':>14} {'tolerance':>10}")
    results = run(args.folder, report=_print_row)
    print(
        "The relative error of a tensor is the larger of |a - e| / |e| in the Euclidean and in "
        "the maximum norm;\nthat of a case is the worst of its tensors. The summary leaves out "
        f"cases in bfloat16, held to {BFLOAT16_TOLERANCE:.0e}."
    )
    errors = [r.error for r in results if r.tolerance == TOLERANCE and not r.failure]
    worst = max(errors, default=math.nan, key=lambda e: math.inf if math.isnan(e) else e)
    agreeing = sum(result.agrees for result in results)
    print(f"parity: {agreeing} of {len(results)} cases agree, worst relative error {worst:.1e}")
    return 0 if agreeing == len(results) else 1


def _print_row(result: Result) -> None:
    row = f"{result.case:44} {result.error:14.1e} {result.tolerance:10.0e}"
    if not result.agrees:
        row += f"  FAILED: {result.failure or result.worst}"
    print(row, flush=True)
