"""How a model is computed: device, dtype, attention kernel, quantisation, compilation.

`Execution` is one value for the server, the command line and Python. torch is imported by what
needs it, as a command asks here for its flags before it knows whether it will compute anything.
"""

import argparse
import dataclasses
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, get_args

if TYPE_CHECKING:
    import torch

    from causvid.pipeline import CausVidPipeline

Quantisation = Literal["none", "fp8"]
DTYPES = ("bfloat16", "float16", "float32")

# Kernels of PyTorch itself that a CPU has, and beginnings of those that have no float32.
_ON_CPU = ("native", "_native_math", "_native_flash")
_HALF_ONLY = ("flash", "_flash", "sage", "_sage", "aiter", "_native_flash", "_native_cudnn")

# Kernels by their beginnings, and the GPUs that they are built for (major compute capability): on
# others some of them end the process.
_BUILT_FOR = (
    (("_flash_3", "_flash_varlen_3"), (8, 9)),
    (("flash_4",), (9, 10, 11)),
    (("_sage_qk_int8_pv_fp8_cuda_sm90",), (9,)),
    (("sage_blackwell",), (10, 12)),
)


class ExecutionError(ValueError):
    """What cannot be computed so: the message says what came and what can be."""

    def __init__(self, name: str, value: object, expected: str):
        super().__init__(f"{name.replace('_', ' ')} is {value!r}; expected {expected}")
        self.name, self.value, self.expected = name, value, expected


def _documented(default: Any, text: str) -> Any:
    return field(default=default, metadata={"help": text})


@dataclass(frozen=True)
class Execution:
    """How a model is computed. torch's own devices and dtypes are taken, too.

    Args:
        dtype: of all weights; by default bfloat16 on a GPU, and float32 on a CPU, whose products
            are in bfloat16 where the processor has it (`causvid.model.cpu`). Norms and embeddings
            that need float32 keep it.
        text_encoder_device: `device` by default. The CPU saves 11 GB of GPU memory for the Wan
            models and costs seconds per new prompt.
    """

    device: str = _documented("", "`cpu`, `cuda`, `cuda:1`, …; by default a GPU if there is one")
    dtype: str = _documented("", "`bfloat16`, `float16` or `float32`; by default what suits")
    attention: str = _documented("", "a diffusers attention backend, such as `sage` or `flash`")
    quantise: Quantisation = _documented(  # noqa: RUF009 (a field)
        "none", "`fp8`: keep weights as 8-bit floats"
    )
    compile: bool = _documented(False, "compile the transformer at the start")
    text_encoder_device: str = _documented("", "where prompts are encoded; `cpu` saves memory")

    def __post_init__(self):
        for name in ("device", "dtype", "attention", "text_encoder_device"):
            text = str(getattr(self, name) or "").removeprefix("torch.")
            object.__setattr__(self, name, text)

    def resolved(self) -> "Execution":
        """The same with its devices chosen and everything checked.

        Raises:
            ExecutionError: if something is not known or not there, or does not go together.
        """
        import torch
        from diffusers.models.attention_dispatch import AttentionBackendName

        device = self.device or ("cuda" if torch.cuda.is_available() else "cpu")
        encoder = self.text_encoder_device or device
        for name, value in (("device", device), ("text_encoder_device", encoder)):
            if not _is_device(value):
                raise ExecutionError(name, value, "cpu, or a GPU that is there")
        kernels = [backend.value for backend in AttentionBackendName]
        on_cpu = torch.device(device).type == "cpu"
        for name, known in (
            ("dtype", DTYPES),
            ("attention", _ON_CPU if on_cpu else kernels),
            ("quantise", get_args(Quantisation)),
        ):
            value = getattr(self, name)
            if value and value not in known:
                where = " on a CPU" if value in kernels else ""
                raise ExecutionError(name, value, f"{', '.join(known)}{where}")
        if self.attention.startswith(_HALF_ONLY) and self.dtype == "float32" and not on_cpu:
            raise ExecutionError(
                "dtype", self.dtype, f"bfloat16 or float16: {self.attention} has no float32"
            )
        if not on_cpu:
            _check_kernel(self.attention, device)
        return dataclasses.replace(self, device=device, text_encoder_device=encoder)

    @property
    def torch_dtype(self) -> "torch.dtype":
        """What weights are loaded in."""
        import torch

        return getattr(torch, self.dtype or default_dtype(self.resolved().device))

    def apply(self, pipe: "CausVidPipeline") -> None:
        """Bring a pipeline in `torch_dtype` to its devices and set its kernels, in place.

        Raises:
            ExecutionError: if the attention kernel is not installed.
            CompileError: if there is no compiler, or the model cannot be compiled.
        """
        import torch
        from diffusers.models.attention_dispatch import AttentionBackendName, attention_backend

        from causvid.model.cpu import keep_freed_memory, lower_decoder, lower_transformer
        from causvid.model.tiny_autoencoder import TinyAutoencoder

        how, transformer = self.resolved(), pipe.transformer
        for name, module in pipe.components.items():
            if isinstance(module, torch.nn.Module):  # one by one: the text encoder may never fit
                module.to(how.text_encoder_device if name == "text_encoder" else how.device)
        on_cpu = torch.device(how.device).type == "cpu"
        if on_cpu:
            keep_freed_memory()
        if on_cpu and not how.dtype and how.quantise == "none":
            lower_transformer(transformer)
            for vae in (pipe.vae, pipe.tiny_vae):
                if isinstance(vae, TinyAutoencoder):
                    lower_decoder(vae)
        if how.attention:
            try:
                # diffusers would make it the default of all other models, too.
                with attention_backend(AttentionBackendName.NATIVE):
                    transformer.set_attention_backend(how.attention)
            except (RuntimeError, ImportError) as error:
                raise ExecutionError(
                    "attention", how.attention, f"one that is installed: {error}"
                ) from error
        if how.quantise == "fp8":
            transformer.enable_layerwise_casting(torch.float8_e4m3fn, transformer.dtype)
        if how.compile:
            compile_layers(pipe)


def default_dtype(device: str) -> str:
    """What weights are kept in where nothing else is asked for."""
    return "float32" if device.partition(":")[0] == "cpu" else "bfloat16"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `Execution`, the same for every command; `from_args` reads them."""
    group = parser.add_argument_group("how it is computed")
    for item in dataclasses.fields(Execution):
        flag, text = f"--{item.name.replace('_', '-')}", item.metadata["help"].replace("`", "")
        if item.name == "compile":
            group.add_argument(flag, action="store_true", help=text)
        else:
            group.add_argument(flag, default=item.default, help=text)


def from_args(args: argparse.Namespace) -> Execution:
    """
    Raises:
        ExecutionError: as `Execution.resolved`.
    """
    names = [item.name for item in dataclasses.fields(Execution)]
    return Execution(**{name: getattr(args, name) for name in names}).resolved()


def in_force(pipe: "CausVidPipeline") -> str:
    """How a pipeline computes, found from itself:
    `"cpu, float32, products in bfloat16, attention native, compiled"`."""
    import torch

    from causvid.model.cpu import arithmetic_of

    transformer = pipe.transformer
    device, encoder = transformer.device, pipe.text_encoder.device
    chosen = transformer.blocks[0].attn1.processor._attention_backend
    words = [str(device), arithmetic_of(transformer)]
    words.append(f"attention {getattr(chosen, 'value', 'native')}")
    if any(p.dtype == torch.float8_e4m3fn for p in transformer.parameters()):
        words.append("weights in float8")
    if transformer.compiled:
        words.append("compiled")
    if transformer.passes == "captured":
        words.append("captured")
    if encoder != device:
        words.append(f"prompts on {encoder}")
    return ", ".join(words)


class CompileError(ValueError):
    """Compiling failed; the message says why and what to do."""


def compile_layers(pipe: "CausVidPipeline", **options: Any) -> None:
    """Compile the transformer's layers, on a GPU capture its passes, and rehearse a stream, so that
    no later one waits for it.

    The rehearsal goes on until chunks have left the window: from then on nothing is new. Other
    windows and steps run the same code; another picture size may add to it, once.

    Args:
        pipe: on its device, with adapters and attention backend as they stay.
        options: of `torch.compile`.

    Raises:
        CompileError: if there is no compiler, or the model is none that can be compiled.
    """
    from torch._dynamo.exc import TorchDynamoException
    from torch._inductor.exc import InductorError

    # Dynamic, as a chunk sees more tokens than the one before until the window is full.
    pipe.transformer.compile_options = {"dynamic": True, "fullgraph": True, **options}
    if pipe.transformer.device.type == "cuda":
        pipe.transformer.passes = "captured"
    chunks = pipe.generation.chunks.covering(pipe.generation.window) + 2
    try:
        with pipe.stream("a rehearsal", seconds=math.inf) as stream:
            for _ in range(chunks):
                stream.step()
    except (TorchDynamoException, InductorError) as error:
        raise CompileError(f"the model cannot be compiled: {_reason(error)}") from error


def _reason(error: BaseException) -> str:
    from torch._inductor.exc import InvalidCxxCompiler

    while (cause := getattr(error, "inner_exception", None) or error.__cause__) is not None:
        error = cause
    if isinstance(error, InvalidCxxCompiler):
        return (
            "there is no C++ compiler that works; install one, such as g++, name it in CXX, or do "
            "without it"
        )
    first = next(iter(str(error).strip().splitlines()), type(error).__name__)
    return f"{first:.200}; do without it"


def _check_kernel(kernel: str, device: str) -> None:
    """Refuse an attention kernel that is not built for this GPU."""
    import torch

    built_for = [majors for names, majors in _BUILT_FOR if kernel.startswith(names)]
    if not built_for or torch.device(device).type != "cuda" or torch.version.hip:
        return
    major, minor = torch.cuda.get_device_capability(device)
    if major not in built_for[0]:
        known = " or ".join(f"{it}.x" for it in built_for[0])
        raise ExecutionError(
            "attention",
            kernel,
            f"a kernel for this GPU, whose compute capability is {major}.{minor}: {kernel} is "
            f"built for {known}; _native_cudnn runs on all, and native is the default",
        )


def _is_device(name: str) -> bool:
    import torch

    try:
        device = torch.device(name)
    except RuntimeError:
        return False
    if device.type == "cuda":
        return torch.cuda.is_available() and (device.index or 0) < torch.cuda.device_count()
    return device.type in ("cpu", "mps", "xpu", "meta")
