"""How a model is computed is one value; compiled layers are the same layers, compiled once.

What decides how often a model is compiled is tracing, so these tests need no compiler.
"""

import argparse
import copy

import pytest
import torch
from torch._dynamo.utils import counters
from torch._inductor import config as inductor

from causvid.model.cpu import use_onednn
from causvid.pipeline import CausVidPipeline
from causvid.presets import execution
from causvid.presets.execution import (
    CompileError,
    Execution,
    ExecutionError,
    compile_layers,
    in_force,
)
from causvid.presets.loading import load
from causvid.serving.models import Models
from causvid.serving.settings import Settings
from tests.standin import save_standin

PROMPT = "a red car drives"


@pytest.fixture(autouse=True)
def anew():
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()


@pytest.fixture
def fresh(pipeline) -> CausVidPipeline:
    """A pipeline whose transformer may be changed."""
    return CausVidPipeline(
        **{**pipeline.components, "transformer": copy.deepcopy(pipeline.transformer)},
        generation=pipeline.generation,
    )


def frames(pipeline, **options):
    with pipeline.stream(PROMPT, seconds=4, **options) as stream:
        return torch.cat([torch.from_numpy(chunk.frames) for chunk in stream])


@pytest.mark.slow
def test_a_compiled_model_makes_the_same_video(pipeline, fresh):
    use_onednn(fresh.transformer)
    compile_layers(fresh, backend="aot_eager")
    difference = frames(fresh).int() - frames(pipeline).int()
    assert difference.abs().max() <= 1, "to rounding"


@pytest.mark.slow
def test_after_the_rehearsal_nothing_is_compiled_any_more(fresh):
    compile_layers(fresh, backend="eager")
    compiled = counters["stats"]["unique_graphs"]
    assert compiled > 0
    assert not counters["graph_break"]
    frames(fresh)
    frames(fresh, steps=1, window=6, sink=1)
    frames(fresh, window=12, sink=0)
    assert counters["stats"]["unique_graphs"] == compiled
    frames(fresh, height=48, width=32)
    compiled = counters["stats"]["unique_graphs"]
    frames(fresh, height=48, width=32)
    frames(fresh)
    assert counters["stats"]["unique_graphs"] == compiled, "another size is compiled once"


@pytest.mark.slow
def test_all_layers_run_the_code_of_one(fresh):
    compile_layers(fresh, backend="eager")
    of_two = counters["stats"]["unique_graphs"]
    torch._dynamo.reset()
    counters.clear()
    config = {**fresh.transformer.config, "num_layers": 12}
    deep = type(fresh.transformer).from_config(config).eval().requires_grad_(False)
    fresh.register_modules(transformer=deep)
    compile_layers(fresh, backend="eager")
    assert counters["stats"]["unique_graphs"] == of_two


@pytest.mark.slow
def test_without_a_compiler_a_sentence_says_what_to_do(fresh, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    with (
        inductor.patch({"cpp.cxx": ("no-such-compiler",), "force_disable_caches": True}),
        pytest.raises(CompileError, match=r"no C\+\+ compiler that works; install one, such as"),
    ):
        compile_layers(fresh)


def test_any_other_reason_is_given_in_one_line(fresh):
    def broken(*_):
        raise RuntimeError("this machine\ncannot")

    with pytest.raises(
        CompileError, match="cannot be compiled: this machine; do without"
    ) as caught:
        compile_layers(fresh, backend=broken)
    assert "\n" not in str(caught.value)


def test_the_setting_compiles_what_is_loaded(standin, monkeypatch):
    compiled = []
    monkeypatch.setattr(execution, "compile_layers", compiled.append)
    for wanted in (True, False):
        models = Models(Settings(model=str(standin), device="cpu", compile=wanted))
        models.open("standin")
        assert len(compiled) == 1, "once, as it was wanted once"


@pytest.fixture(scope="module")
def standin(tmp_path_factory):
    return save_standin(tmp_path_factory.mktemp("weights")).folder


def parsed(*flags: str) -> Execution:
    parser = argparse.ArgumentParser()
    execution.add_arguments(parser)
    return execution.from_args(parser.parse_args(flags))


def test_flags_variables_and_python_say_the_same():
    given = Execution(device="cpu", dtype="float32", attention="_native_math")
    assert parsed("--device=cpu", "--dtype=float32", "--attention=_native_math") == given.resolved()
    variables = {"DEVICE": "cpu", "DTYPE": "float32", "ATTENTION": "_native_math"}
    settings = Settings.from_environment({f"CAUSVID_{k}": v for k, v in variables.items()})
    assert settings.execution.resolved() == given.resolved()
    assert Execution(device=torch.device("cpu"), dtype=torch.float32).torch_dtype is torch.float32


def test_the_defaults_suit_the_device():
    chosen = Execution(device="cpu").resolved()
    assert chosen.torch_dtype is torch.float32
    assert chosen.text_encoder_device == "cpu"
    assert parsed().device == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"device": "cuda:99"}, "device is 'cuda:99'; expected cpu, or a GPU that is there"),
        ({"device": "gpu"}, "device is 'gpu'; expected cpu, or a GPU"),
        ({"text_encoder_device": "cuda:99"}, "text encoder device is 'cuda:99'"),
        ({"dtype": "float64"}, "dtype is 'float64'; expected bfloat16, float16, float32"),
        ({"quantise": "fp4"}, "quantise is 'fp4'; expected none, fp8"),
        ({"attention": "sage"}, "attention is 'sage'; expected native, .* on a CPU"),
        ({"attention": "sagee"}, "attention is 'sagee'; expected native"),
    ],
)
def test_what_cannot_be_computed_is_refused_with_a_sentence(how, message):
    with pytest.raises(ExecutionError, match=message):
        Execution(**{"device": "cpu", **how}).resolved()


@pytest.mark.parametrize(
    ("kernel", "capability", "refused"),
    [
        ("_flash_3_hub", (12, 0), "8.x or 9.x"),
        ("_flash_3", (10, 0), "8.x or 9.x"),
        ("_flash_varlen_3", (12, 1), "8.x or 9.x"),
        ("flash_4_hub", (12, 0), "9.x or 10.x or 11.x"),
        ("flash_4_hub", (8, 0), "9.x or 10.x or 11.x"),
        ("_sage_qk_int8_pv_fp8_cuda_sm90", (12, 0), "9.x"),
        ("sage_blackwell_hub", (9, 0), "10.x or 12.x"),
        ("_flash_3_hub", (9, 0), None),
        ("flash_4_hub", (10, 3), None),
        ("sage_hub", (12, 0), None),
        ("_native_cudnn", (12, 0), None),
    ],
)
def test_a_kernel_that_a_gpu_cannot_run_is_refused(monkeypatch, kernel, capability, refused):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    how = Execution(device="cuda", attention=kernel)
    if refused is None:
        assert how.resolved().attention == kernel
        return
    major, minor = capability
    with pytest.raises(
        ExecutionError, match=rf"{major}\.{minor}: {kernel} is built for {refused};"
    ):
        how.resolved()


def test_no_gpu_is_asked_about_a_kernel_that_runs_on_all(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    asked = []
    monkeypatch.setattr(torch.cuda, "get_device_capability", asked.append)
    Execution(device="cuda", attention="_native_cudnn").resolved()
    Execution(device="cuda").resolved()
    assert not asked, "it would begin to use the GPU, which ZeroGPU forbids before a run"


def test_what_is_in_force_is_found_from_the_pipeline(standin, monkeypatch):
    monkeypatch.setattr("causvid.model.cpu.native_bfloat16", lambda: False)
    assert in_force(load(standin, device="cpu")) == "cpu, float32, attention native"
    how = Execution("cpu", "bfloat16", "_native_math", "fp8", text_encoder_device="meta")
    assert in_force(load(standin, how)) == (
        "cpu, bfloat16, attention _native_math, weights in float8, prompts on meta"
    )
    monkeypatch.setattr("causvid.model.cpu.native_bfloat16", lambda: True)
    assert "float32, products in bfloat16" in in_force(load(standin, device="cpu"))
