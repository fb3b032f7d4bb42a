"""Where pipelines saved by version 0.1 look for the tiny autoencoder."""

from diffusers import ModelMixin as ModelMixin  # tells diffusers how to load it

from causvid.model.tiny_autoencoder import TinyAutoencoder as TinyAutoencoder
