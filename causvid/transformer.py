"""Where pipelines saved by version 0.1 look for the transformer."""

from causvid.model.transformer import CausalWanTransformer as CausalWanTransformer
