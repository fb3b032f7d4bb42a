"""Where pipelines saved by version 0.1 look for the transformer."""

from diffusers import ModelMixin as ModelMixin  # tells diffusers how to load it

from causvid.model.transformer import CausalWanTransformer as CausalWanTransformer
