"""Compiling a pipeline's transformer before its first viewer comes, or saying why that failed."""

import math

from torch._dynamo.exc import TorchDynamoException
from torch._inductor.exc import InductorError, InvalidCxxCompiler

from causvid.pipeline import CausVidPipeline


class CompileError(ValueError):
    """Compiling failed; the message says why and what to do."""


def compile_layers(pipeline: CausVidPipeline, **options) -> None:
    """Compile the transformer's layers and rehearse a stream, so that no later one waits for it.

    The rehearsal goes on until chunks have left the window: from then on nothing is new. Other
    windows and steps run the same code; another picture size may add to it, once.

    Args:
        pipeline: on its device, with adapters, attention backend and quantisation as they stay.
        options: of `torch.compile`.

    Raises:
        CompileError: if there is no compiler, or the model is none that can be compiled.
    """
    pipeline.transformer.compile_repeated_blocks(**{"dynamic": True, **options})
    chunks = pipeline.generation.chunks.covering(pipeline.generation.window) + 2
    try:
        with pipeline.stream("a rehearsal", seconds=math.inf) as stream:
            for _ in range(chunks):
                stream.step()
    except (TorchDynamoException, InductorError) as error:
        raise CompileError(f"the model cannot be compiled: {_reason(error)}") from error


def _reason(error: BaseException) -> str:
    while (cause := getattr(error, "inner_exception", None) or error.__cause__) is not None:
        error = cause
    if isinstance(error, InvalidCxxCompiler):
        return (
            "there is no C++ compiler that works; install one, such as g++, name it in CXX, or do "
            "without it"
        )
    first = next(iter(str(error).strip().splitlines()), type(error).__name__)
    return f"{first:.200}; do without it"
