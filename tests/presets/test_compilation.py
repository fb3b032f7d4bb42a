"""Compiled layers are the same layers, compiled once; and who cannot compile is told so.

What decides how often a model is compiled is tracing, so these tests need no compiler.
"""

import copy

import pytest
import torch
from torch._dynamo.utils import counters
from torch._inductor import config as inductor

from causvid.model import onednn
from causvid.pipeline import CausVidPipeline
from causvid.presets.compilation import CompileError, compile_layers
from causvid.serving import models
from causvid.serving.models import Models
from causvid.serving.settings import Settings

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


def test_a_compiled_model_makes_the_same_video(pipeline, fresh, monkeypatch):
    monkeypatch.setattr(onednn, "_has_avx512", lambda: True)  # what speeds up the other one
    compile_layers(fresh, backend="aot_eager")
    difference = frames(fresh).int() - frames(pipeline).int()
    assert difference.abs().max() <= 1, "to rounding"


def test_after_the_rehearsal_nothing_is_compiled_any_more(fresh):
    compile_layers(fresh, backend="eager")
    compiled = counters["stats"]["unique_graphs"]
    assert compiled > 0
    frames(fresh)
    frames(fresh, steps=1, window=6, sink=1)
    frames(fresh, window=12, sink=0)
    assert counters["stats"]["unique_graphs"] == compiled
    frames(fresh, height=48, width=32)
    compiled = counters["stats"]["unique_graphs"]
    frames(fresh, height=48, width=32)
    frames(fresh)
    assert counters["stats"]["unique_graphs"] == compiled, "another size is compiled once"


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


@pytest.mark.parametrize("wanted", [True, False])
def test_the_setting_compiles_what_is_loaded(fresh, monkeypatch, wanted):
    compiled = []
    monkeypatch.setattr(models, "load", lambda *_, **__: fresh)
    monkeypatch.setattr(models, "compile_layers", compiled.append)
    Models(Settings(model="pocket", device="cpu", compile=wanted)).load_first()
    assert compiled == ([fresh] if wanted else [])
