"""Where an offloaded module computes, and bringing it there.

diffusers' offloading hooks a module's `forward`. Code that enters a module by another door, as
streaming does, must pull the hook itself.
"""

import torch
from torch import nn


def execution_device(module: nn.Module) -> torch.device:
    """The device that `module` computes on, wherever its weights wait meanwhile."""
    for part in module.modules():
        device = getattr(getattr(part, "_hf_hook", None), "execution_device", None)
        if device is not None:
            return torch.device(device)
    return next(module.parameters()).device


def onload(module: nn.Module) -> None:
    """Bring `module` to its execution device, if it is offloaded; else do nothing."""
    hook = getattr(module, "_hf_hook", None)
    if hook is not None:
        hook.pre_forward(module)
