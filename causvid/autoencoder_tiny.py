"""Where pipelines saved by version 0.1 look for the tiny autoencoder."""

from causvid.model.tiny_autoencoder import TinyAutoencoder as TinyAutoencoder
