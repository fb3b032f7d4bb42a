"""Prompts become the padded embeddings that Wan was trained on."""

import json
import logging
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from torch.testing import assert_close
from transformers import PreTrainedTokenizerFast, UMT5Config, UMT5EncoderModel

from causvid.model.checkpoint import fill
from causvid.model.text import PromptEncoder, clean_prompt, encode_tokens
from tests.parity.official import umt5_names

GOLDEN = Path(__file__).parents[1] / "golden/text"
LENGTH = 12


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    words = ["<pad>", "</s>", "<unk>", "a", "red", "blue", "car", "cat", "boat"]
    words += ["drives", "sails", "at", "night", "."]
    backend = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<unk>"))
    backend.normalizer = normalizers.Lowercase()
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )


@pytest.fixture(scope="module")
def text_encoder() -> UMT5EncoderModel:
    torch.manual_seed(0)
    config = UMT5Config(
        vocab_size=20, d_model=16, d_kv=4, d_ff=32, num_layers=2, num_heads=4, dropout_rate=0.0
    )
    return UMT5EncoderModel(config).eval()


@pytest.fixture
def encoder(tokenizer, text_encoder) -> PromptEncoder:
    return PromptEncoder(tokenizer, text_encoder, LENGTH)


@pytest.fixture
def calls(text_encoder):
    """The token ids of every run of the encoder."""
    runs = []
    hook = text_encoder.register_forward_pre_hook(
        lambda _, __, kwargs: runs.append(kwargs["input_ids"][0].tolist()), with_kwargs=True
    )
    yield runs
    hook.remove()


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        ("  a\tred \n car ", "a red car"),
        ("caf\u00c3\u00a9", "café"),
        ("salt &amp;amp; pepper", "salt & pepper"),
        ("&amp;lt;b&amp;gt;", "<b>"),
        ("a&nbsp;car&#10;", "a car"),
        ("\u201cquoted\u201d", '"quoted"'),
        ("", ""),
    ],
)
def test_prompts_are_cleaned_as_wan_does(raw, clean):
    assert clean_prompt(raw) == clean


class TestParity:
    @pytest.fixture(scope="class")
    def golden(self):
        return load_file(GOLDEN / "umt5_tiny.safetensors")

    @pytest.fixture(scope="class")
    def official(self, golden) -> UMT5EncoderModel:
        size = json.loads((GOLDEN / "umt5_tiny.json").read_text())["config"]
        model = UMT5EncoderModel(
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
        ).eval()
        weights = {k[len("weight.") :]: v for k, v in golden.items() if k.startswith("weight.")}
        fill(model, umt5_names(weights))
        return model

    @torch.no_grad()
    def test_embeddings_equal_those_of_the_official_encoder(self, golden, official):
        embeds = encode_tokens(official, golden["ids"], golden["mask"])
        # The reference differs from itself by 1e-6 between padded and unpadded runs.
        assert_close(embeds, golden["prompt_embeds"], atol=5e-6, rtol=0)

    @torch.no_grad()
    def test_a_prompt_encoded_alone_equals_its_row_of_the_padded_batch(self, golden, official):
        for ids, mask, expected in zip(
            golden["ids"], golden["mask"], golden["prompt_embeds"], strict=True
        ):
            count = int(mask.sum())
            alone = encode_tokens(official, ids[None, :count], mask[None, :count])[0]
            assert_close(alone, expected[:count], atol=5e-6, rtol=0)
            assert not expected[count:].any()


class TestShape:
    def test_rows_after_the_prompt_are_zero(self, encoder):
        embeds = encoder(["a red car", "a cat sails at night"])
        assert embeds.shape == (2, LENGTH, 16)
        for row, tokens in zip(embeds, [4, 6], strict=True):
            assert row[:tokens].any(dim=-1).all()
            assert not row[tokens:].any()

    def test_one_string_is_a_batch_of_one_and_no_prompt_is_an_error(self, encoder):
        assert_close(encoder("a red car"), encoder(["a red car"]))
        with pytest.raises(ValueError, match="at least one"):
            encoder([])

    def test_the_empty_prompt_has_an_embedding(self, encoder):
        assert encoder("")[0].any(dim=-1).sum() == 1

    def test_without_an_end_mark_the_empty_prompt_is_all_zeros(self, text_encoder, tokenizer):
        bare = PreTrainedTokenizerFast(
            tokenizer_object=Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
        )
        bare.backend_tokenizer.post_processor = processors.Sequence([])
        assert not PromptEncoder(bare, text_encoder, LENGTH)("").any()

    def test_the_result_takes_the_asked_dtype(self, encoder):
        assert encoder("a red car", dtype=torch.bfloat16).dtype == torch.bfloat16

    def test_a_prompt_does_not_depend_on_its_company(self, tokenizer, text_encoder):
        alone = PromptEncoder(tokenizer, text_encoder, LENGTH)("a red car")
        company = PromptEncoder(tokenizer, text_encoder, LENGTH)(["a cat at night", "a red car"])
        assert torch.equal(alone[0], company[1])

    def test_wrong_options_are_refused(self, tokenizer, text_encoder):
        with pytest.raises(ValueError, match="at least 1"):
            PromptEncoder(tokenizer, text_encoder, 0)


class TestLength:
    LONG = "a red car drives " * 5

    def test_long_prompts_are_cut_before_their_end_mark_with_a_warning(
        self, encoder, calls, caplog
    ):
        with caplog.at_level(logging.WARNING):
            embeds = encoder(self.LONG)
        assert embeds[0].any(dim=-1).all()
        assert "9 tokens too many and was cut to 12" in caplog.text
        assert not set(self.LONG.split()) - {"a"} & set(caplog.text.split()), "no words of users"
        assert len(calls[0]) == LENGTH and calls[0][-1] == 1

    def test_a_prompt_that_just_fits_is_left_alone(self, encoder, calls, caplog):
        encoder("a red car drives at night a blue cat sails .")  # 11 words and the end mark
        assert len(calls[0]) == LENGTH
        assert not caplog.text


class TestMemo:
    def test_a_known_prompt_is_not_encoded_again(self, encoder, calls):
        first = encoder(["a red car", "a blue cat", "a red car"])
        assert [len(ids) for ids in calls] == [4, 4]
        assert torch.equal(encoder("  a red   car"), first[:1])
        assert len(calls) == 2

    def test_the_oldest_prompts_are_forgotten_first(self, tokenizer, text_encoder, calls):
        encoder = PromptEncoder(tokenizer, text_encoder, LENGTH, remembered=2)
        for prompt in ["a car", "a cat", "a car", "a boat", "a car"]:
            encoder(prompt)
        assert len(calls) == 3
        encoder("a cat")
        assert len(calls) == 4

    def test_changed_results_do_not_change_the_memory(self, encoder):
        expected = encoder("a red car").clone()
        encoder("a red car").zero_()
        assert torch.equal(encoder("a red car"), expected)


class TestPlacement:
    """On `meta`, where devices can be told apart without a GPU."""

    def test_staying_sends_only_the_embeddings(self, encoder, text_encoder):
        embeds = encoder("a red car", device="meta")
        assert embeds.device.type == "meta"
        assert text_encoder.device.type == "cpu"
