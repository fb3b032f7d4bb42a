"""Streaming video codecs: pixels ↔ normalised latents, piece by piece.

One interface over two kinds of weights: diffusers' `AutoencoderKLWan` and our `TinyAutoencoder`.
Everything a viewer's stream must remember lives in a `CodecState`, never in the module, so any
number of streams share one set of weights, and a state can be stored and resumed bit by bit. A call
that raises leaves the state as it was.

A stream starts with one picture: its first latent stands for 1 pixel frame, every other latent for
`temporal_stride` (4). Pieces of any length give the same result as the whole at once.

Shapes: pixels [b, t, 3, H, W] in [-1, 1]; latents [b, f, c, h, w], normalised per channel by the
mean and standard deviation of the weights' config. The codec knows no chunk lengths and no prompts.
"""

from dataclasses import dataclass, field, replace

import torch
from diffusers import AutoencoderKLWan, ModelMixin
from diffusers.models.autoencoders.autoencoder_kl_wan import (
    WanResidualBlock,
    patchify,
    unpatchify,
)
from torch import Tensor, nn

from causvid.model.interruption import pausing
from causvid.model.offload import onload
from causvid.model.tiny_autoencoder import Memory, TinyAutoencoder


@dataclass
class CodecSide:
    """What one direction of a stream remembers.

    Attributes:
        position: latents made or consumed so far.
        shape: batch, latent height and width of the stream, () before its first call.
        memory: layer memories.
    """

    position: int = 0
    shape: tuple[int, ...] = ()
    memory: Memory = field(default_factory=dict)

    def claim(self, shape: tuple[int, ...]) -> None:
        """Fixes the stream's shape on first use.

        Raises:
            ValueError: if a later call comes with another batch or picture size.
        """
        if self.shape and self.shape != shape:
            raise ValueError(
                f"this stream has batch, latent height, latent width {self.shape}, got {shape}; "
                "use one CodecState per stream"
            )
        self.shape = shape

    def begun(self) -> "CodecSide":
        """A copy to work on; layer memories are replaced and never written to."""
        return replace(self, memory=dict(self.memory))


@dataclass
class CodecState:
    """Memories of one stream; encoding and decoding are independent of each other."""

    encoder: CodecSide = field(default_factory=CodecSide)
    decoder: CodecSide = field(default_factory=CodecSide)

    def tensors(self) -> dict[str, Tensor]:
        """The whole state as a flat dict, fit for safetensors; `VideoCodec.restore` reads it."""
        flat: dict[str, Tensor] = {}
        for name, side in (("encoder", self.encoder), ("decoder", self.decoder)):
            flat[f"{name}.position"] = torch.tensor(side.position)
            flat[f"{name}.shape"] = torch.tensor(side.shape, dtype=torch.int64)
            for key, value in side.memory.items():
                flat[f"{name}.memory.{key}"] = value.contiguous()
        return flat


class VideoCodec:
    """Streaming encoder and decoder over shared, stateless weights.

    Checks, state keeping and normalisation are here; what is run depends on the kind of weights.
    """

    spatial_stride: int
    temporal_stride: int
    latent_channels: int

    def __init__(self, module: ModelMixin) -> None:
        self.module = module
        mean, std = module.config.latents_mean, module.config.latents_std
        self._mean = None if mean is None else torch.tensor(mean).view(-1, 1, 1)
        self._std = None if std is None else torch.tensor(std).view(-1, 1, 1)

    @property
    def dtype(self) -> torch.dtype:
        """What the module takes and returns."""
        return self.module.dtype

    def start(self) -> CodecState:
        """State of a new stream."""
        return CodecState()

    def restore(self, tensors: dict[str, Tensor]) -> CodecState:
        """State from `CodecState.tensors`."""
        state = CodecState()
        sides = {"encoder": state.encoder, "decoder": state.decoder}
        missing = {f"{s}.{k}" for s in sides for k in ("position", "shape")} - tensors.keys()
        if missing:
            raise ValueError(
                f"not a codec state: {sorted(missing)} missing; pass what CodecState.tensors() made"
            )
        for name, side in sides.items():
            prefix = f"{name}.memory."
            side.position = int(tensors[f"{name}.position"])
            side.shape = tuple(tensors[f"{name}.shape"].tolist())
            side.memory = {
                key.removeprefix(prefix): value.to(self.module.device, copy=True)
                for key, value in tensors.items()
                if key.startswith(prefix)
            }
        return state

    def encode(self, pixels: Tensor, state: CodecState) -> Tensor:
        """Next latents [b, f, c, h, w] of pixels [b, t, 3, H, W] in [-1, 1].

        t is 1 + 4 k in the first call of a stream and 4 k in every other.
        """
        if pixels.ndim != 5 or pixels.shape[2] != 3:
            raise ValueError(f"expected pixels [b, t, 3, H, W], got {tuple(pixels.shape)}")
        b, t, _, height, width = pixels.shape
        stride, side = self.spatial_stride, state.encoder.begun()
        if height % stride or width % stride:
            raise ValueError(
                f"height and width must be multiples of {stride}, got {height}x{width}; "
                "crop or pad first"
            )
        lead = 0 if side.position else 1
        if t == 0 or t % self.temporal_stride != lead:
            raise ValueError(
                f"{'the first call' if lead else 'a later call'} of a stream takes "
                f"{'1 + ' if lead else ''}{self.temporal_stride}k pixel frames, got {t}"
            )
        side.claim((b, height // stride, width // stride))
        latents = self._encode(pixels.to(self.dtype), side)
        side.position += latents.shape[1]
        state.encoder = side
        if self._mean is not None:
            latents = latents - self._mean.to(latents)
        if self._std is not None:
            latents = latents / self._std.to(latents)
        return latents.to(pixels.dtype)

    def decode(self, latents: Tensor, state: CodecState) -> Tensor:
        """Next pixels [b, t, 3, H, W] in [-1, 1] of latents [b, f, c, h, w].

        t is 1 + 4 (f - 1) in the first call of a stream and 4 f in every other.
        """
        if latents.ndim != 5 or latents.shape[2] != self.latent_channels or latents.shape[1] == 0:
            raise ValueError(
                f"expected latents [b, f, {self.latent_channels}, h, w] with f > 0, "
                f"got {tuple(latents.shape)}"
            )
        b, f, _, height, width = latents.shape
        side = state.decoder.begun()
        side.claim((b, height, width))
        raw = latents.to(self.dtype)
        if self._std is not None:
            raw = raw * self._std.to(raw)
        if self._mean is not None:
            raw = raw + self._mean.to(raw)
        pixels = self._decode(raw, side)
        side.position += f
        state.decoder = side
        return pixels.to(latents.dtype)

    def _encode(self, pixels: Tensor, side: CodecSide) -> Tensor:
        raise NotImplementedError

    def _decode(self, latents: Tensor, side: CodecSide) -> Tensor:
        raise NotImplementedError


# diffusers marks an upsampling layer that has seen only the first latent with a word in place of a
# tensor. In a state of tensors an empty one stands for it.
_FIRST_LATENT_SEEN = "Rep"


class WanCodec(VideoCodec):
    """Streams through diffusers' `AutoencoderKLWan`, bit for bit as its one-shot calls.

    The module keeps its convolution caches in attributes that `encode` and `decode` clear; here the
    two networks are called with the stream's own caches, so those attributes are never touched.
    Latents are the mode of the posterior. Tiling and slicing do not apply.
    """

    module: AutoencoderKLWan

    def __init__(self, module: AutoencoderKLWan) -> None:
        super().__init__(module)
        self.spatial_stride = module.config.scale_factor_spatial
        self.temporal_stride = module.config.scale_factor_temporal
        self.latent_channels = module.config.z_dim
        self._slots = {
            side: module._cached_conv_counts[side]  # one cache slot per causal convolution
            for side in ("encoder", "decoder")
        }
        self._layers = [it for it in module.modules() if isinstance(it, WanResidualBlock)]

    def _encode(self, pixels: Tensor, side: CodecSide) -> Tensor:
        onload(self.module)
        video = pixels.to(self.module.device).transpose(1, 2)  # [b, 3, t, H, W]
        if self.module.config.patch_size is not None:
            video = patchify(video, patch_size=self.module.config.patch_size)
        cache = self._load(side.memory, self._slots["encoder"])
        sizes = [] if side.position else [1]
        sizes += [self.temporal_stride] * (video.shape[2] // self.temporal_stride)
        with pausing(self._layers):
            encoded = [
                self.module.encoder(group, feat_cache=cache, feat_idx=[0])
                for group in video.split(sizes, dim=2)
            ]
        side.memory = self._store(cache)
        moments = self.module.quant_conv(torch.cat(encoded, dim=2))
        return moments[:, : self.latent_channels].transpose(1, 2)

    def _decode(self, latents: Tensor, side: CodecSide) -> Tensor:
        onload(self.module)
        hidden = self.module.post_quant_conv(latents.to(self.module.device).transpose(1, 2))
        cache = self._load(side.memory, self._slots["decoder"])
        with pausing(self._layers):
            decoded = [
                self.module.decoder(
                    frame, feat_cache=cache, feat_idx=[0], first_chunk=position == 0
                )
                for position, frame in enumerate(hidden.split(1, dim=2), start=side.position)
            ]
        side.memory = self._store(cache)
        video = torch.cat(decoded, dim=2)
        if self.module.config.patch_size is not None:
            video = unpatchify(video, patch_size=self.module.config.patch_size)
        return video.clamp(-1, 1).transpose(1, 2)

    @staticmethod
    def _load(memory: Memory, slots: int) -> list[Tensor | str | None]:
        cache: list[Tensor | str | None] = [None] * slots
        for key, value in memory.items():
            cache[int(key)] = value if value.numel() else _FIRST_LATENT_SEEN
        return cache

    def _store(self, cache: list[Tensor | str | None]) -> Memory:
        empty = torch.empty(0, device=self.module.device)
        return {
            str(slot): value if isinstance(value, Tensor) else empty
            for slot, value in enumerate(cache)
            if value is not None
        }


class TinyCodec(VideoCodec):
    """Streams through a `TinyAutoencoder`.

    The first picture is repeated to fill its group of `temporal_stride` frames; the decoder's
    frames that correspond to the repetitions are dropped. The weights' range [0, 1] is mapped to
    the protocol's [-1, 1].
    """

    module: TinyAutoencoder

    # Latents decoded at once. Bounds the memory of a long clip; the result does not depend on it.
    SPAN = 4

    def __init__(self, module: TinyAutoencoder) -> None:
        super().__init__(module)
        self.spatial_stride = module.spatial_stride
        self.temporal_stride = module.temporal_stride
        self.latent_channels = module.config.latent_channels

    @property
    def dtype(self) -> torch.dtype:
        # Its convolutions may have been lowered (`causvid.model.cpu`).
        shortcut = self.module.shortcut
        return self.module.dtype if shortcut is None else shortcut.decoder.weight.dtype

    def _encode(self, pixels: Tensor, side: CodecSide) -> Tensor:
        if side.position == 0:
            repeated = pixels[:, :1].expand(-1, self.temporal_stride - 1, -1, -1, -1)
            pixels = torch.cat([repeated, pixels], dim=1)
        spans = pixels.split(self.SPAN * self.temporal_stride, dim=1)
        return torch.cat([self.module.encode((s + 1) / 2, side.memory) for s in spans], dim=1)

    def _decode(self, latents: Tensor, side: CodecSide) -> Tensor:
        spans = latents.split(self.SPAN, dim=1)
        pixels = torch.cat([self.module.decode(s, side.memory) for s in spans], dim=1)
        run_up = 0 if side.position else self.temporal_stride - 1
        return pixels[:, run_up:] * 2 - 1


def codec_for(module: nn.Module) -> VideoCodec:
    """The codec that streams through the given weights.

    Raises:
        ValueError: if the module is none of the known autoencoders.
    """
    if isinstance(module, AutoencoderKLWan):
        return WanCodec(module)
    if isinstance(module, TinyAutoencoder):
        return TinyCodec(module)
    raise ValueError(
        f"no streaming codec for {type(module).__name__}; expected AutoencoderKLWan or "
        "TinyAutoencoder"
    )
