"""Foreign files become our state dicts, or explain themselves."""

import json
import pickle
from pathlib import Path

import pytest
import torch
from accelerate import init_empty_weights
from diffusers import AutoencoderKLWan, WanTransformer3DModel
from safetensors.torch import load_file, save_file
from torch.testing import assert_close
from transformers import UMT5Config, UMT5EncoderModel

from causvid.model.checkpoint import (
    FLAT,
    CheckpointError,
    fill,
    merge_lora,
    read_state,
    transformer_names,
)
from causvid.model.transformer import CausalWanTransformer
from tests.parity.official import umt5_names, vae_names

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.fixture(scope="module")
def official() -> dict[str, torch.Tensor]:
    """A tiny generator as released: official names, prefix `model.`."""
    return load_file(GOLDEN / "dit/weights.safetensors")


@pytest.fixture(scope="module")
def config() -> dict:
    official = json.loads((GOLDEN / "dit/weights.json").read_text())["config"]
    return {
        "num_attention_heads": official["num_heads"],
        "attention_head_dim": official["dim"] // official["num_heads"],
        "text_dim": official["text_dim"],
        "freq_dim": official["freq_dim"],
        "ffn_dim": official["ffn_dim"],
        "num_layers": official["num_layers"],
    }


def empty(config: dict, model=CausalWanTransformer):
    with init_empty_weights():
        return model(**config)


def other(state):
    """The same names with other numbers, to tell entries of a file apart."""
    return {key: value + 1 for key, value in state.items()}


class TestReading:
    def test_the_asked_entry_of_a_nested_file_is_taken(self, tmp_path, official):
        path = tmp_path / "model.pt"
        torch.save({"generator": other(official), "generator_ema": official}, path)
        assert_close(read_state(path, ["generator_ema", "generator"]), official)
        assert_close(read_state(path, ["generator"]), other(official))

    def test_a_flat_file_and_a_single_entry_need_no_name(self, tmp_path, official):
        torch.save(official, tmp_path / "flat.pt")
        torch.save({"model": official, "step": 3000}, tmp_path / "nested.pt")
        save_file(official, tmp_path / "flat.safetensors")
        for name in ("flat.pt", "nested.pt", "flat.safetensors"):
            assert_close(read_state(tmp_path / name), official)
        assert_close(read_state(tmp_path / "flat.pt", ["generator", FLAT]), official)

    def test_a_missing_entry_is_answered_with_those_that_exist(self, tmp_path, official):
        path = tmp_path / "model.pt"
        torch.save({"critic": official, "generator": official}, path)
        with pytest.raises(CheckpointError, match=r"holds 'critic', 'generator', but 'model'"):
            read_state(path, ["model"])
        with pytest.raises(CheckpointError, match="no entry by name was asked for"):
            read_state(path)

    def test_the_old_format_without_zip_still_loads(self, tmp_path, official):
        path = tmp_path / "old.pt"
        torch.save(official, path, _use_new_zipfile_serialization=False)
        assert_close(read_state(path), official)

    def test_a_pickle_that_could_run_code_is_refused(self, tmp_path):
        path = tmp_path / "model.pt"
        torch.save({"generator": {"w": torch.zeros(1)}, "path": Path("/")}, path)
        with pytest.raises(CheckpointError, match="not a file of plain tensors"):
            read_state(path)
        path.write_bytes(pickle.dumps(Path("/"), protocol=2))
        with pytest.raises(CheckpointError, match="not a file of plain tensors"):
            read_state(path)

    @pytest.mark.parametrize("name", ["model.pt", "model.safetensors"])
    def test_a_truncated_file_is_called_incomplete(self, tmp_path, official, name):
        path = tmp_path / name
        torch.save(official, path) if name.endswith("pt") else save_file(official, path)
        path.write_bytes(path.read_bytes()[:-2000])
        with pytest.raises(CheckpointError, match="damaged or incomplete"):
            read_state(path)

    def test_files_that_are_no_weights_say_what_they_are(self, tmp_path):
        with pytest.raises(CheckpointError, match="there is no file"):
            read_state(tmp_path / "nothing.pt")
        (tmp_path / "lfs.pt").write_text("version https://git-lfs.github.com/spec/v1\noid …")
        with pytest.raises(CheckpointError, match="git lfs pull"):
            read_state(tmp_path / "lfs.pt")
        torch.save({"epoch": 3}, tmp_path / "log.pt")
        with pytest.raises(CheckpointError, match="holds no tensors"):
            read_state(tmp_path / "log.pt")
        torch.save([torch.zeros(1)], tmp_path / "list.pt")
        with pytest.raises(CheckpointError, match="holds a list"):
            read_state(tmp_path / "list.pt")


class TestNames:
    @pytest.mark.parametrize(
        "prefix",
        ["", "model.", "model._fsdp_wrapped_module.", "net.", "module.model.", "_orig_mod."],
    )
    def test_every_known_wrapping_gives_the_same_names(self, official, config, prefix):
        wrapped = {prefix + key.removeprefix("model."): v for key, v in official.items()}
        names = transformer_names(wrapped)
        assert names.keys() == empty(config).state_dict().keys()
        assert_close(names, transformer_names(official))

    def test_names_of_diffusers_stay_as_they_are(self, official):
        ours = transformer_names(official)
        assert_close(transformer_names(ours), ours)

    def test_the_same_weights_load_into_the_model_of_diffusers(self, official, config):
        model = empty({**config, "rope_max_seq_len": 32}, WanTransformer3DModel)
        fill(model, transformer_names(official))
        assert not any(p.is_meta for p in model.parameters())

    @pytest.mark.parametrize(
        ("residual_blocks", "multipliers", "time"),
        [(2, [1, 2, 4, 4], [False, True, True]), (1, [1, 2, 2], [True, True])],
    )
    def test_official_vae_names_fit_at_any_depth(self, residual_blocks, multipliers, time):
        with init_empty_weights():
            model = AutoencoderKLWan(
                base_dim=8,
                dim_mult=multipliers,
                num_res_blocks=residual_blocks,
                temperal_downsample=time,
            )
        ours = {key: torch.zeros(p.shape) for key, p in model.state_dict().items()}
        stage = residual_blocks + 2
        foreign = {official_vae_key(key, stage): value for key, value in ours.items()}
        assert foreign.keys() != ours.keys()
        fill(model, vae_names(foreign))

    def test_official_text_encoder_names_fit_and_tied_weights_stay_tied(self):
        model = tiny_umt5()
        golden = load_file(GOLDEN / "text/umt5_tiny.safetensors")
        weights = {k.removeprefix("weight."): v for k, v in golden.items() if "weight." in k}
        fill(model, umt5_names(weights), dtype=torch.bfloat16)
        assert model.shared.weight is model.encoder.embed_tokens.weight
        assert_close(model.shared.weight, weights["token_embedding.weight"].bfloat16())


class TestFilling:
    def test_filling_equals_loading(self, official, config):
        model, reference = empty(config), CausalWanTransformer(**config)
        fill(model, transformer_names(official))
        reference.load_state_dict(transformer_names(official))
        assert_close(dict(model.state_dict()), dict(reference.state_dict()))

    def test_modules_that_need_float32_keep_it(self, official, config):
        model = empty(config)
        fill(model, transformer_names(official), dtype=torch.bfloat16)
        assert model.blocks[0].ffn.net[2].weight.dtype == torch.bfloat16
        assert model.blocks[0].scale_shift_table.dtype == torch.float32
        assert model.condition_embedder.time_embedder.linear_1.weight.dtype == torch.float32

    def test_a_linear_patch_embedding_becomes_the_equal_convolution(self, official, config):
        state = transformer_names(official)
        linear = dict(state)
        linear["patch_embedding.weight"] = state["patch_embedding.weight"].flatten(1)
        model = empty(config)
        fill(model, linear)
        assert_close(model.patch_embedding.weight.data, state["patch_embedding.weight"])

    def test_the_error_lists_missing_left_over_and_misshapen_keys(self, official, config):
        state = transformer_names(official)
        state["extra.weight"] = state.pop("proj_out.weight")
        state["proj_out.bias"] = torch.zeros(3)
        with pytest.raises(CheckpointError) as error:
            fill(empty(config), state, source="model.pt")
        message = str(error.value)
        assert "model.pt does not fit CausalWanTransformer (96 parameters)" in message
        assert "1 missing: proj_out.weight" in message
        assert "1 left over: extra.weight" in message
        assert "proj_out.bias is (3,), should be (64,)" in message

    def test_long_lists_of_keys_are_counted_not_spelled_out(self, official, config):
        with pytest.raises(CheckpointError, match=r"27 left over: .*, …\. Check"):
            fill(empty({**config, "num_layers": 2}), transformer_names(official))


class TestLora:
    RANK = 4

    @pytest.fixture
    def lora(self, official):
        """An adapter of every linear layer, PEFT names over official ones."""
        generator = torch.Generator().manual_seed(0)
        pairs = {}
        for key, weight in official.items():
            name = key.removeprefix("model.").removesuffix(".weight")
            if "blocks." in key and weight.ndim == 2:
                rows, columns = weight.shape
                root = f"base_model.model.{name}"
                down = torch.randn(self.RANK, columns, generator=generator)
                pairs[f"{root}.lora_A.weight"] = down
                pairs[f"{root}.lora_B.weight"] = torch.randn(rows, self.RANK, generator=generator)
        assert len(pairs) == 2 * 3 * 10
        return pairs

    def test_merging_equals_the_adapter_of_diffusers(self, official, config, lora):
        state = transformer_names(official)
        adapted = CausalWanTransformer(**config)
        adapted.load_state_dict(state)
        adapted.load_lora_adapter(transformer_names(lora), prefix=None)
        merge_lora(state, transformer_names(lora))
        merged = empty(config)
        fill(merged, state)
        latents, times = torch.randn(1, 2, 16, 4, 4), torch.full((1, 2), 0.5)
        text = torch.randn(1, 16, 32)
        with torch.no_grad():
            assert_close(merged(latents, times, text), adapted(latents, times, text))

    def test_alpha_scales_and_adapter_names_are_ignored(self, official, lora):
        by_scale, by_alpha = transformer_names(official), transformer_names(official)
        merge_lora(by_scale, transformer_names(lora), scale=0.5)
        named = {key.replace(".weight", ".default.weight"): v for key, v in lora.items()}
        for key in lora:
            if "lora_A" in key:
                named[key.replace("lora_A.weight", "alpha")] = torch.tensor(self.RANK / 2)
        merge_lora(by_alpha, transformer_names(named))
        assert_close(by_scale, by_alpha)

    def test_half_precision_weights_keep_their_dtype(self, official, lora):
        state = {key: value.bfloat16() for key, value in transformer_names(official).items()}
        merge_lora(state, transformer_names(lora))
        assert {value.dtype for value in state.values()} == {torch.bfloat16}

    def test_an_adapter_that_does_not_fit_is_refused(self, official, lora):
        state = transformer_names(official)
        keys = list(lora)
        half = {key: lora[key] for key in keys[1:]}
        with pytest.raises(CheckpointError, match="1 with one half missing"):
            merge_lora(dict(state), transformer_names(half))
        deeper = {key.replace("blocks.0", "blocks.7"): v for key, v in lora.items()}
        with pytest.raises(CheckpointError, match=r"10 unknown to the model \(blocks.7"):
            merge_lora(dict(state), transformer_names(deeper))
        with pytest.raises(CheckpointError, match="is not a LoRA key"):
            merge_lora(dict(state), {"blocks.0.attn1.to_q.weight": torch.zeros(1)})
        thin = {**lora, keys[0]: lora[keys[0]][:, 1:]}
        with pytest.raises(CheckpointError, match="do not multiply to the weight's"):
            merge_lora(dict(state), transformer_names(thin))


def tiny_umt5() -> UMT5EncoderModel:
    size = json.loads((GOLDEN / "text/umt5_tiny.json").read_text())["config"]
    with init_empty_weights():
        return UMT5EncoderModel(
            UMT5Config(
                vocab_size=size["vocab"],
                d_model=size["dim"],
                d_kv=size["dim_attn"] // size["num_heads"],
                d_ff=size["dim_ffn"],
                num_layers=size["num_layers"],
                num_heads=size["num_heads"],
                relative_attention_num_buckets=size["num_buckets"],
                feed_forward_proj="gated-gelu",
            )
        )


def official_vae_key(key: str, stage: int) -> str:
    """The official name of a diffusers VAE parameter; `stage` modules make one decoder stage."""
    parts = key.split(".")
    if key.startswith("decoder.up_blocks."):
        block, kind, index = int(parts[2]), parts[3], int(parts[4])
        module = block * stage + (index if kind == "resnets" else stage - 1)
        key = ".".join(["decoder.upsamples", str(module), *parts[5:]])
    for ours, theirs in {
        "quant_conv.": "conv1.",
        "post_conv1.": "conv2.",
        "encoder.conv_in.": "encoder.conv1.",
        "decoder.conv_in.": "decoder.conv1.",
        "encoder.down_blocks.": "encoder.downsamples.",
        "mid_block.resnets.0.": "middle.0.",
        "mid_block.attentions.0.": "middle.1.",
        "mid_block.resnets.1.": "middle.2.",
        "norm_out.": "head.0.",
        "conv_out.": "head.2.",
        "conv_shortcut.": "shortcut.",
    }.items():
        key = key.replace(ours, theirs)
    if "middle" in key or "samples" in key:
        for ours, theirs in {
            ".norm1.": ".residual.0.",
            ".conv1.": ".residual.2.",
            ".norm2.": ".residual.3.",
            ".conv2.": ".residual.6.",
        }.items():
            key = key.replace(ours, theirs)
    return key
