"""CausVid Live: causal few-step video diffusion that streams while it generates."""

__version__ = "0.1.0"
