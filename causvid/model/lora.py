"""LoRA adapters of a pipeline: diffusers' interface, with `adapters.py` in place of its readers.

diffusers understands some namings, and drops or half applies what it does not. Here a file is
applied exactly or refused, and fusing can be undone to the last bit.
"""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diffusers.loaders import WanLoraLoaderMixin
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn

from causvid.model.adapter_files import download_adapter, open_adapter
from causvid.model.adapters import Adapter, read_adapter

logger = logging.getLogger(__name__)


class LoraLoader(WanLoraLoaderMixin):
    """What a pipeline with a `transformer` does with adapters."""

    transformer: Any  # a `CausalWanTransformer`
    _lora_loadable_modules = ["transformer"]  # noqa: RUF012 (diffusers' interface)

    def __init__(self) -> None:
        super().__init__()
        self._adapters: dict[str, Adapter] = {}
        self._unfused: dict[nn.Parameter, Tensor] = {}

    @property
    def adapters(self) -> Mapping[str, Adapter]:
        """The loaded LoRA adapters by name: which layers each adapts, how, what was left out."""
        known = getattr(self.transformer, "peft_config", {})
        return {name: it for name, it in self._adapters.items() if name in known}

    def load_lora_weights(
        self,
        pretrained_model_name_or_path_or_dict: str | Path | dict[str, Tensor],
        adapter_name: str | None = None,
        hotswap: bool = False,
        **options: Any,
    ) -> None:
        """Load an adapter of any published naming: of a folder, a file, a Hub id, or tensors.

        It is applied exactly; `adapters` tells to which layers. A plain LoRA and differences of
        weights and biases are applied; differences of norms are left out with a warning.

        Args:
            pretrained_model_name_or_path_or_dict: where it is.
            adapter_name, hotswap, options: as diffusers has them.

        Raises:
            ValueError: if nothing is there, or it is damaged, for another model, or of a kind that
                cannot be applied.
        """
        source = pretrained_model_name_or_path_or_dict
        settings: dict[str, Any] = {}
        origin = "the adapter" if isinstance(source, dict) else source
        if isinstance(source, dict):
            state = source
        elif Path(source).exists():
            state, settings = open_adapter(Path(source), options.get("weight_name"))
        elif isinstance(source, Path) or source.count("/") != 1 or source[0] in "./~":
            raise ValueError(
                f"there is no LoRA {source}: expected a .safetensors file, a folder with one, "
                f"or a Hub id owner/name"
            )
        else:
            state, settings = open_adapter(download_adapter(source, **options))
        adapter = read_adapter(state, _base_weights(self.transformer), settings, origin)
        if adapter.left_out:
            logger.warning(
                "%s: %d differences of norms or modulation are not applied (%s, …)",
                origin,
                len(adapter.left_out),
                adapter.left_out[0],
            )
        known = set(getattr(self.transformer, "peft_config", {}))
        self.transformer.load_lora_adapter(
            dict(adapter.tensors),
            prefix=None,
            adapter_name=adapter_name,
            hotswap=hotswap,
            metadata=adapter.config(),
            low_cpu_mem_usage=options.get("low_cpu_mem_usage", True),
            _pipeline=self,
        )
        added = set(self.transformer.peft_config) - known or {adapter_name}
        name = str(added.pop())
        self._adapters[name] = adapter
        parameters = dict(self.transformer.named_parameters())
        for key, value in adapter.tensors.items():
            # PEFT stores it as the layer's weights are, which may be lowered.
            layer, half, kind = key.rsplit(".", 2)
            placed = parameters[f"{layer}.{half}.{name}.{kind}"]
            placed.data = value.to(placed.device, self.transformer.dtype, copy=True)

    def fuse_lora(self, *args: Any, **options: Any) -> None:
        """diffusers' own, but what it adds to is kept, so that `unfuse_lora` is exact."""
        for layer in self.transformer.modules():
            if isinstance(layer, BaseTunerLayer):
                for part in layer.get_base_layer().parameters():
                    if part not in self._unfused:
                        self._unfused[part] = part.detach().to("cpu", copy=True)
        super().fuse_lora(*args, **options)

    def unfuse_lora(self, *args: Any, **options: Any) -> None:
        """diffusers' own, and then the weights of before: a sum and a difference are rounded."""
        super().unfuse_lora(*args, **options)
        for part, before in self._unfused.items():
            part.data.copy_(before)
        self._unfused.clear()

    def unload_lora_weights(self) -> None:
        """diffusers' own: what is fused stays so."""
        super().unload_lora_weights()
        self._unfused.clear()


def _base_weights(transformer: nn.Module) -> dict[str, Tensor]:
    """Its own parameters by their own names, whatever adapters are loaded already."""
    return {
        name.replace(".base_layer", ""): value
        for name, value in transformer.state_dict().items()
        if ".lora_" not in name
    }
