"""A preset's models at full size with random weights: how fast it is, without a download.

Neither time nor memory depends on what the weights have learned. The pictures are noise.
"""

import copy
import dataclasses
from typing import Any, TypeVar

import torch
from torch import nn

from causvid.model.checkpoint import parameter_dtype
from causvid.pipeline import CausVidPipeline
from causvid.presets.costs import empty_models
from causvid.presets.execution import Execution
from causvid.presets.preset import Preset
from causvid.world import VOCABULARY
from causvid.world.tokenizer import word_tokenizer

Module = TypeVar("Module", bound=nn.Module)


def untrained_pipeline(
    preset: Preset, execution: Execution | None = None, **settings: Any
) -> CausVidPipeline:
    """What `load` would return, tiny decoder included, but for weights and vocabulary.

    Args:
        execution, settings: as for `load`.
    """
    execution = dataclasses.replace(execution or Execution(), **settings).resolved()
    device, dtype = torch.device(execution.device), execution.torch_dtype
    models = empty_models(preset)
    length = models.transformer.config.text_length
    pipe = CausVidPipeline(
        tokenizer=word_tokenizer(VOCABULARY, length),
        text_encoder=_filled(models.text_encoder, device, dtype),
        transformer=_filled(models.transformer, device, dtype),
        vae=_filled(models.vae, device, dtype),
        tiny_vae=None if models.tiny_vae is None else _filled(models.tiny_vae, device, dtype),
        generation=preset.generation,
    )
    execution.apply(pipe)
    return pipe


def as_loaded(empty: Module, dtype: torch.dtype) -> Module:
    """A copy of a model on `meta`, its parameters in the types that a load would give."""
    model = copy.deepcopy(empty).requires_grad_(False)
    for name, parameter in model.named_parameters():
        parameter.data = parameter.data.to(parameter_dtype(model, name, dtype))
    return model


def _filled(empty: Module, device: torch.device, dtype: torch.dtype) -> Module:
    """A copy of a model on `meta`, its weights drawn so that signals neither vanish nor explode."""
    model = as_loaded(empty, dtype).to_empty(device=device)
    generator = torch.Generator(device).manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1:
                fan_in = parameter[0].numel()
                parameter.normal_(std=fan_in**-0.5, generator=generator)
            else:
                parameter.fill_(float(not name.endswith("bias")))
    return model.eval()
