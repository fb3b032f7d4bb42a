"""A whole model of the real classes with random weights, saved as an ordinary diffusers folder.

What the app does with a model does not depend on what the model has learned.
"""

from pathlib import Path

import torch

from causvid.generation.config import GenerationConfig
from causvid.generation.geometry import ChunkPattern
from causvid.model.tiny_autoencoder import TinyAutoencoder
from causvid.model.transformer import CausalWanTransformer
from causvid.pipeline import CausVidPipeline
from causvid.presets.preset import Preset
from causvid.presets.registry import get_preset
from causvid.world.tokenizer import tiny_text_encoder, word_tokenizer
from tests.conftest import TEXT_LENGTH, WORDS, randomise


def save_standin(folder: Path) -> Preset:
    """Write the model to `folder/standin`; the preset of that name that loads it."""
    folder = folder / "standin"
    transformer = CausalWanTransformer(
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
    autoencoder = TinyAutoencoder(
        latent_channels=8, encoder_channels=(8, 8, 8, 8), decoder_channels=(16, 8, 8, 8)
    )
    randomise(transformer, seed=1)
    randomise(autoencoder, seed=2, gain=1.5)
    torch.manual_seed(3)
    tokenizer = word_tokenizer(WORDS, TEXT_LENGTH)
    pipeline = CausVidPipeline(
        tokenizer=tokenizer,
        text_encoder=tiny_text_encoder(len(tokenizer), width=16, layers=1),
        transformer=transformer,
        vae=autoencoder,
        generation=GenerationConfig(
            timesteps=(1000.0, 500.0),
            chunks=ChunkPattern(1, 3),
            window=8,
            sink=2,
            height=64,
            width=96,
            fps=16,
        ),
    )
    pipeline.save_pretrained(folder)
    return get_preset(folder)
