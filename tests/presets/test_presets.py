"""From a name to a pipeline that streams, with a folder standing in for the Hub."""

import dataclasses
import shutil
from pathlib import Path

import httpx
import pytest
import torch
from diffusers import AutoencoderKLWan
from huggingface_hub import errors
from safetensors.torch import load_file, save_file

from causvid.model.checkpoint import FLAT, transformer_names
from causvid.model.cpu import is_lowered
from causvid.model.tiny_autoencoder import TinyAutoencoder
from causvid.presets import hub as hub_access
from causvid.presets import loading as presets
from causvid.presets.catalogue import PRESETS
from causvid.presets.loading import load
from causvid.presets.preset import HubFile, Preset, PresetError, TransformerSize
from causvid.presets.registry import default_preset, get_preset
from causvid.world.tokenizer import tiny_text_encoder, word_tokenizer

GOLDEN = Path(__file__).parents[1] / "golden/dit"
TEXT_LENGTH = 16


@pytest.fixture(autouse=True)
def no_bfloat16(monkeypatch):
    """Weights arrive as they are, on whatever processor."""
    monkeypatch.setattr("causvid.model.cpu.native_bfloat16", lambda: False)


@pytest.fixture(scope="module")
def weights() -> dict[str, torch.Tensor]:
    return load_file(GOLDEN / "weights.safetensors")


@pytest.fixture(scope="module")
def hub(tmp_path_factory, weights) -> Path:
    """`hub/repo/path`: small models in the layout of the published repositories."""
    root = tmp_path_factory.mktemp("hub")
    base = root / "base"
    torch.manual_seed(0)
    tokenizer = word_tokenizer(["a", "red", "car"], TEXT_LENGTH)
    tokenizer.save_pretrained(base / "tokenizer")
    tiny_text_encoder(len(tokenizer), width=32, layers=1).save_pretrained(base / "text_encoder")
    AutoencoderKLWan(base_dim=4, num_res_blocks=1).save_pretrained(base / "vae")
    (root / "weights").mkdir()
    other = {key: value + 1 for key, value in weights.items()}
    torch.save({"critic": other, "generator": weights}, root / "weights/model.pt")
    down = torch.randn(2, 64)
    adapter = {
        "base_model.model.blocks.0.self_attn.q.lora_A.weight": down,
        "base_model.model.blocks.0.self_attn.q.lora_B.weight": torch.ones(64, 2),
    }
    torch.save({"generator_lora": adapter, "critic_lora": adapter}, root / "weights/lora.pt")
    small = TinyAutoencoder(encoder_channels=(4,) * 4, decoder_channels=(8, 4, 4, 4))
    save_file(small.state_dict(), root / "weights/tiny.safetensors")
    return root


@pytest.fixture
def downloads(hub, monkeypatch) -> list[tuple]:
    """Serves the folder in place of the Hub; what was asked for, in order."""
    asked = []

    def hf_hub_download(repo, path, *, revision=None, token=None, local_files_only):
        assert token in (None, "hf_secret")
        asked.append((repo, path, revision))
        if not (hub / repo / path).is_file():
            raise errors.RemoteEntryNotFoundError("404", response=response(404))
        return str(hub / repo / path)

    def snapshot_download(repo, *, revision=None, allow_patterns, token=None, local_files_only):
        assert token in (None, "hf_secret")
        asked.append((repo, allow_patterns and tuple(allow_patterns), revision))
        return str(hub / repo)

    monkeypatch.setattr(hub_access, "hf_hub_download", hf_hub_download)
    monkeypatch.setattr(hub_access, "_reachable", lambda: True)
    monkeypatch.setattr(hub_access, "snapshot_download", snapshot_download)
    return asked


@pytest.fixture
def preset() -> Preset:
    """Self-Forcing, but small."""
    published = PRESETS["self-forcing"]
    return dataclasses.replace(
        published,
        name="small",
        weights=HubFile("weights", "0" * 40, path="model.pt", entries=("generator",)),
        base=dataclasses.replace(published.base, repo="base"),
        published=dataclasses.replace(published.generation, height=32, width=48, window=6),
        transformer=TransformerSize(
            num_layers=3,
            num_attention_heads=4,
            attention_head_dim=16,
            ffn_dim=128,
            freq_dim=32,
            text_dim=32,
            text_length=TEXT_LENGTH,
        ),
    )


def response(status: int) -> httpx.Response:
    return httpx.Response(status, request=httpx.Request("GET", "https://huggingface.co"))


def test_a_preset_becomes_a_pipeline_that_streams(preset, downloads, weights):
    pipe = load(preset, device="cpu")
    state = pipe.transformer.state_dict()
    assert all(torch.equal(state[k], v) for k, v in transformer_names(weights).items())
    assert pipe.generation == preset.generation
    assert not any(p.requires_grad or p.is_meta for p in pipe.transformer.parameters())
    with pipe.stream("a red car", seconds=0.5) as stream:
        assert [chunk.frames.shape for chunk in stream] == [(9, 32, 48, 3)]
    assert downloads == [
        ("base", ("vae/*", "text_encoder/*", "tokenizer/*"), preset.base.revision),
        ("weights", "model.pt", "0" * 40),
    ]


def test_products_are_lowered_where_the_processor_has_bfloat16(preset, downloads, monkeypatch):
    monkeypatch.setattr("causvid.model.cpu.native_bfloat16", lambda: True)
    pipe = load(preset, device="cpu")
    assert is_lowered(pipe.transformer)
    with pipe.stream("a red car", seconds=0.5) as stream:
        assert [chunk.frames.shape for chunk in stream] == [(9, 32, 48, 3)]


def test_a_lora_is_merged_into_the_weights(preset, downloads, weights):
    adapted = dataclasses.replace(
        preset, lora=HubFile("weights", path="lora.pt", entries=("generator_lora", FLAT))
    )
    plain = load(preset, device="cpu").transformer.blocks[0]
    merged = load(adapted, device="cpu").transformer.blocks[0]
    change = merged.attn1.to_q.weight - plain.attn1.to_q.weight
    assert change.abs().max() > 0.1
    assert torch.linalg.matrix_rank(change) == 1
    assert torch.equal(merged.attn1.to_k.weight, plain.attn1.to_k.weight)


def test_half_precision_is_the_callers_choice(preset, downloads):
    pipe = load(preset, device="cpu", dtype=torch.bfloat16)
    assert pipe.transformer.blocks[0].ffn.net[2].weight.dtype == torch.bfloat16
    assert pipe.transformer.scale_shift_table.dtype == torch.float32
    assert pipe.vae.dtype == pipe.text_encoder.dtype == torch.bfloat16


def test_the_tiny_decoder_comes_when_asked_for(preset, downloads, monkeypatch):
    monkeypatch.setattr(
        presets,
        "TinyAutoencoder",
        lambda: TinyAutoencoder(encoder_channels=(4,) * 4, decoder_channels=(8, 4, 4, 4)),
    )
    small = dataclasses.replace(
        preset, tiny_decoder=HubFile("weights", path="tiny.safetensors", entries=(FLAT,))
    )
    assert load(small, device="cpu").tiny_vae is None
    pipe = load(small, device="cpu", tiny_decoder=True)
    with pipe.stream("a car", seconds=0.5, decoder="tiny") as stream:
        assert next(stream).frames.shape == (9, 32, 48, 3)
    with pytest.raises(ValueError, match="has no tiny decoder"):
        load(dataclasses.replace(preset, tiny_decoder=None), tiny_decoder=True)


def test_a_local_folder_needs_no_hub(preset, downloads, tmp_path):
    load(preset, device="cpu").save_pretrained(tmp_path)
    downloads.clear()
    local = dataclasses.replace(preset, folder=tmp_path, published=None, weights=None)
    pipe = load(local, device="cpu")
    assert pipe.generation == local.generation == preset.generation
    assert downloads == []
    shutil.rmtree(tmp_path)
    with pytest.raises(PresetError, match="cloned completely"):
        load(local, device="cpu")


def test_the_text_encoder_can_live_elsewhere(preset, downloads):
    pipe = load(preset, device="cpu", text_encoder_device="meta")
    assert pipe.text_encoder.device.type == "meta"
    assert pipe.transformer.device.type == "cpu"


class TestErrors:
    def test_an_unknown_name_is_answered_with_near_ones(self):
        with pytest.raises(PresetError, match="did you mean self-forcing"):
            get_preset("self_forcing")
        with pytest.raises(PresetError, match="'xyz'; there are pocket, pocket-2, self-forcing"):
            get_preset("xyz")

    def test_keys_of_another_model_are_listed(self, preset, downloads):
        deeper = dataclasses.replace(preset.transformer, num_layers=4)
        with pytest.raises(PresetError, match=r"preset 'small': .*27 missing: blocks.3"):
            load(dataclasses.replace(preset, transformer=deeper))

    def test_a_missing_entry_names_those_that_exist(self, preset, downloads):
        file = dataclasses.replace(preset.weights, entries=("generator_ema",))
        with pytest.raises(PresetError, match=r"'critic', 'generator', but 'generator_ema'"):
            load(dataclasses.replace(preset, weights=file))

    def test_a_missing_file_points_to_the_repository(self, preset, downloads):
        file = dataclasses.replace(preset.weights, path="moved.pt")
        with pytest.raises(PresetError, match=r"moved.pt .*no such file any more; see https://"):
            load(dataclasses.replace(preset, weights=file))

    @pytest.mark.parametrize(
        ("error", "cure"),
        [
            (errors.GatedRepoError("401", response=response(401)), "accept the conditions"),
            (errors.RepositoryNotFoundError("404", response=response(404)), "gone or private"),
            (errors.RevisionNotFoundError("404", response=response(404)), "pick another"),
            (errors.LocalEntryNotFoundError("no network"), "connect once"),
            (errors.OfflineModeIsEnabled("offline"), "HF_HUB_OFFLINE"),
            (errors.HfHubHTTPError("503", response=response(503)), "try again later"),
            (OSError(28, "No space left on device"), "free some disk space"),
        ],
        ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
    )
    def test_every_failure_of_the_hub_names_its_cure(self, preset, monkeypatch, error, cure):
        def fail(*args, **kwargs):
            raise error

        monkeypatch.setattr(hub_access, "_reachable", lambda: True)
        monkeypatch.setattr(hub_access, "snapshot_download", fail)
        with pytest.raises(PresetError, match=cure) as caught:
            load(preset, device="cpu")
        assert "preset 'small' needs its components from base" in str(caught.value)
        assert caught.value.__cause__ is error


def test_without_a_gpu_the_default_is_the_pocket_model():
    assert default_preset("cpu").name == "pocket"
    assert default_preset("cuda").name == "self-forcing"
