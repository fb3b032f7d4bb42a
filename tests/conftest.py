"""A whole model of the real classes, too small to have learned anything: random, but fixed.

Laws hold for any weights, so these tests need no trained ones.
"""

import causvid  # noqa: F401  (before torch: it says how torch's threads wait)

# isort: split
import os
import time

import pytest
import torch
from accelerate.state import AcceleratorState

from causvid.generation.config import GenerationConfig
from causvid.generation.generator import Generator
from causvid.generation.geometry import ChunkPattern, LatentGrid
from causvid.generation.prompts import PromptSchedule
from causvid.generation.stream import Stream
from causvid.model.codec import TinyCodec
from causvid.model.text import PromptEncoder
from causvid.model.tiny_autoencoder import TinyAutoencoder
from causvid.model.transformer import CausalWanTransformer
from causvid.pipeline import CausVidPipeline
from causvid.world.tokenizer import tiny_text_encoder, word_tokenizer

WORDS = [
    "a",
    "red",
    "blue",
    "green",
    "car",
    "ball",
    "boat",
    "drives",
    "rolls",
    "over",
    "the",
    "sea",
    "at",
    "night",
    "by",
    "day",
]
TEXT_LENGTH = 12


def randomise(module: torch.nn.Module, seed: int, gain: float = 1.0) -> None:
    """Weights large enough that no term of the network is close to zero."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        fan_in = max(1, parameter[0].numel()) if parameter.ndim > 1 else 10
        with torch.no_grad():
            parameter.copy_(gain * noise / fan_in**0.5)


@pytest.fixture(scope="session")
def transformer() -> CausalWanTransformer:
    model = CausalWanTransformer(
        patch_size=(1, 1, 1),
        num_attention_heads=2,
        attention_head_dim=16,
        in_channels=8,
        out_channels=8,
        text_dim=16,
        freq_dim=32,
        ffn_dim=64,
        num_layers=2,
        text_length=TEXT_LENGTH,
        position_features=18,
    )
    randomise(model, seed=1)
    return model.eval().requires_grad_(False)


@pytest.fixture(scope="session")
def autoencoder() -> TinyAutoencoder:
    model = TinyAutoencoder(
        latent_channels=8,
        encoder_channels=(8, 8, 8, 8),
        decoder_channels=(16, 8, 8, 8),
    )
    randomise(model, seed=2, gain=1.5)
    return model.eval().requires_grad_(False)


@pytest.fixture(scope="session")
def prompt_encoder() -> PromptEncoder:
    torch.manual_seed(3)
    tokenizer = word_tokenizer(WORDS, TEXT_LENGTH)
    encoder = tiny_text_encoder(len(tokenizer), width=16, layers=1).eval().requires_grad_(False)
    return PromptEncoder(tokenizer, encoder, TEXT_LENGTH)


@pytest.fixture(scope="session")
def config() -> GenerationConfig:
    """A rolling window that 1, 3, 3, … chunks outgrow soon, with a sink."""
    return GenerationConfig(
        timesteps=(1000.0, 500.0),
        chunks=ChunkPattern(1, 3),
        window=8,
        sink=2,
        height=32,
        width=48,
        fps=8,
    )


@pytest.fixture(scope="session")
def generator(transformer, config) -> Generator:
    return Generator(transformer, config, LatentGrid(32, 48, spatial_stride=8, patch=1))


@pytest.fixture(scope="session")
def pipeline(transformer, autoencoder, prompt_encoder, config) -> CausVidPipeline:
    pipe = CausVidPipeline(
        tokenizer=prompt_encoder.tokenizer,
        text_encoder=prompt_encoder.text_encoder,
        transformer=transformer,
        vae=autoencoder,
        generation=config,
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture(scope="session")
def open_stream(generator, autoencoder, prompt_encoder):
    """A function that opens a stream on the shared weights."""

    def open_(prompt="a red car", *, generator=generator, **options) -> Stream:
        schedule = PromptSchedule.parse(prompt)
        return Stream(generator, TinyCodec(autoencoder), prompt_encoder, schedule, **options)

    return open_


@pytest.fixture
def unhurried(monkeypatch):
    """Streams in this process take time for a chunk, as a model's do: a stand-in would have made a
    whole video before a client on a busy machine steers it."""
    step = Stream.step
    monkeypatch.setattr(Stream, "step", lambda stream: time.sleep(0.25) or step(stream))


@pytest.fixture
def forget_the_accelerator():
    """Accelerate keeps the precision of a process's first accelerator for all later ones."""
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item):
    """In CI a skip hides a gap, and fails; but not every machine has a GPU and the Hub."""
    no_gpu = item.get_closest_marker("gpu") and not torch.cuda.is_available()
    report = yield
    excused = no_gpu or item.get_closest_marker("network") or hasattr(report, "wasxfail")
    if os.environ.get("CI") and report.skipped and not excused:
        report.outcome, report.longrepr = "failed", f"skipped in CI: {report.longrepr[2]}"
    return report
