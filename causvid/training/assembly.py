"""Models of the recipe from settings, from run folders, and into a diffusers folder."""

from dataclasses import asdict

import torch

from causvid.training.prompted import PromptedTransformer
from causvid.training.stages import TransformerShape
from causvid.training.words import tiny_text_encoder
from causvid.transformer import CausalWanTransformer


def new_model(shape: TransformerShape, vocabulary: int, seed: int) -> PromptedTransformer:
    """A randomly initialised transformer with its text encoder, the same for the same seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        transformer = CausalWanTransformer(**asdict(shape))
        # Nothing is predicted at first, so the loss starts at that of the mean.
        torch.nn.init.zeros_(transformer.proj_out.weight)
        torch.nn.init.zeros_(transformer.proj_out.bias)
        return PromptedTransformer(transformer, tiny_text_encoder(vocabulary, width=shape.text_dim))
