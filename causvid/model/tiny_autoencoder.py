"""A small causal video autoencoder made of 2-D convolutions with one frame of memory.

With its default configuration the parameter names and the arithmetic are those of TAEHV's Wan 2.1
weights (`taew2_1`, https://github.com/madebyollin/taehv), so that published checkpoints load by
name. Three options go further: a coarser stride (`patch_size`, `space_scales`), a linear shortcut
around the convolutions, which can be fitted in closed form before any training, and motion that is
undone before all of that and done again after it (`causvid.model.motion`).

The module is stateless. What a stream must remember between calls is a `Memory` that the caller
owns; a clip in one call equals the same clip in pieces. The module knows neither the alignment of a
stream (its short first group) nor latent normalisation beyond storing it; see `codec.py`.

Shapes: pixels [b, t, 3, H, W] in [0, 1]; latents [b, f, c, h, w] with t = 4 f and H = stride * h.
"""

from collections.abc import Iterable, Sequence
from math import prod
from typing import Any

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.utils.accelerate_utils import apply_forward_hook
from torch import Tensor, nn
from torch.nn import functional as F

from causvid.model.interruption import pause
from causvid.model.motion import align, displace, estimate_motion

Memory = dict[str, Tensor]
"""Last frames seen by the layers of one direction of one stream, by layer name."""


class SoftClamp(nn.Module):
    """Bounds latents to (-3, 3) smoothly, so that outliers cannot blow up the decoder."""

    def forward(self, x: Tensor) -> Tensor:
        return 3 * torch.tanh(x / 3)


class MemoryBlock(nn.Module):
    """Residual block over the current frame and the one before it (zeros before the first)."""

    def __init__(self, channels: int, leak: float) -> None:
        super().__init__()
        self.leak = leak
        self.conv = nn.Sequential(
            nn.Conv2d(2 * channels, channels, 3, padding=1),
            nn.LeakyReLU(leak),
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.LeakyReLU(leak),
            nn.Conv2d(channels, channels, 3, padding=1),
        )

    def forward(self, x: Tensor, past: Tensor | None) -> Tensor:
        """`x` [b, t, c, h, w], `past` [b, 1, c, h, w] is the frame before it."""
        past = torch.zeros_like(x[:, :1]) if past is None else past.to(x)
        # Joined picture by picture, not as [b, t, …], which would undo a channels-last order.
        clips = zip(past, x[:, :-1], strict=True)
        pictures, earlier = x.flatten(0, 1), torch.cat([part for clip in clips for part in clip])
        residual = self.conv(torch.cat([pictures, earlier], dim=1))
        return F.leaky_relu(pictures + residual, self.leak).unflatten(0, x.shape[:2])


class TimePool(nn.Module):
    """Merges every `stride` frames into one."""

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.conv = nn.Conv2d(channels * stride, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        b, t, c, h, w = x.shape
        merged = x.reshape(b * t // self.stride, self.stride * c, h, w)
        return self.conv(merged).unflatten(0, (b, -1))


class TimeGrow(nn.Module):
    """Makes `time` frames of one; before they are enlarged, which commutes with it, as that is
    cheaper than the published order."""

    def __init__(self, channels: int, time: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels * time, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        b, _, c, h, w = x.shape
        grown = self.conv(x.flatten(0, 1))
        if not grown.is_contiguous():  # channels last, and to stay so
            grown = grown.unflatten(1, (-1, c)).permute(0, 1, 3, 4, 2).flatten(0, 1)
            return grown.permute(0, 3, 1, 2).unflatten(0, (b, -1))
        return grown.reshape(b, -1, c, h, w)


class EnlargingConv(nn.Conv2d):
    """A 3x3 convolution of a picture that is `scale` times larger (nearest neighbour).

    The large picture is never made. Of its 3x3 pixels only 2x2 differ, so the same sums come from
    a transposed convolution of the small one, at less than half the products: its kernel is this
    one's, every weight spread over `scale` x `scale` pixels.

    On a CPU, that is. On a GPU transposed convolutions add up in an order that changes from run to
    run, and the same seed would no longer give the same frames.
    """

    def __init__(self, inputs: int, outputs: int, scale: int) -> None:
        super().__init__(inputs, outputs, 3, padding=1, bias=False)
        self.scale = scale
        self._made_of: tuple[Any, ...] = ()
        self._kept = torch.empty(0)

    def forward(self, x: Tensor) -> Tensor:
        if self.scale == 1:
            return super().forward(x)
        if x.device.type != "cpu":  # what is counted on `meta` is meant for a GPU
            return super().forward(F.interpolate(x, scale_factor=self.scale))
        return F.conv_transpose2d(x, self._kernel(), stride=self.scale, padding=1)

    def _kernel(self) -> Tensor:
        """The transposed convolution's, made once for the weights as they are."""
        weight = self.weight
        if torch.is_grad_enabled() and weight.requires_grad:
            return self._spread()
        made_of = weight.data_ptr(), weight.dtype, 0 if weight.is_inference() else weight._version
        if self._made_of != made_of:
            self._kept, self._made_of = self._spread(), made_of
        return self._kept

    def _spread(self) -> Tensor:
        place = torch.arange(self.scale + 2, device=self.weight.device)[:, None]
        place = place - torch.arange(3, device=self.weight.device)
        spread = ((place >= 0) & (place < self.scale)).to(self.weight)  # [scale + 2, 3]
        kernel = torch.einsum("ay,oiyx,bx->ioab", spread, self.weight.flip(2, 3), spread)
        last = self.weight.is_contiguous(memory_format=torch.channels_last)
        return kernel.contiguous(
            memory_format=torch.channels_last if last else torch.contiguous_format
        )


class LinearShortcut(nn.Module):
    """Linear autoencoder of patches of `stride` x `stride` pixels and `frames` frames.

    The encoder sees one patch; the decoder sees 3x3 patches of the current latent and of
    `latents - 1` earlier ones (the first latent stands in for its missing predecessors, since a
    stream begins as if its first picture had always been there). Seeing neighbours is what keeps
    the patch grid invisible.

    Thousands of pixels depend on far fewer mixtures of what is seen. With a `rank`, those are made
    first (`mixer`), and pixels of them, at a fraction of the products and of the weights.

    The last two channels may be motion, which has no pixels of its own. Neighbours tell of it, too.
    """

    def __init__(
        self, channels: int, stride: int, frames: int, latents: int, rank: int, motion: bool
    ) -> None:
        super().__init__()
        self.stride, self.frames, self.latents = stride, frames, latents
        pictured = channels - 2 if motion else channels
        self.encoder = nn.Conv2d(3 * frames, pictured, stride, stride=stride)
        self.motion = self._neighbours(channels, 2) if motion else None
        seen, pixels = latents * channels, 3 * frames * stride**2
        if not 0 <= rank <= pixels:
            raise ValueError(f"a shortcut's rank is at most {pixels}, its pixels, got {rank}")
        self.mixer = None
        if rank:
            self.mixer = self._neighbours(seen, rank, bias=False)
            self.decoder = nn.Conv2d(rank, pixels, 1)
        else:
            self.decoder = self._neighbours(seen, pixels)

    @staticmethod
    def _neighbours(inputs: int, outputs: int, *, bias: bool = True) -> nn.Conv2d:
        return nn.Conv2d(inputs, outputs, 3, padding=1, padding_mode="replicate", bias=bias)

    def encode(self, pixels: Tensor) -> Tensor:
        b, t, c, h, w = pixels.shape
        groups = pixels.reshape(b * t // self.frames, self.frames * c, h, w)
        return self.encoder(groups).unflatten(0, (b, -1))

    def decode(self, latents: Tensor, memory: Memory) -> Tensor:
        frames = latents.shape[1]
        past = memory.get("shortcut")
        if past is None:
            past = latents[:, :1].expand(-1, self.latents - 1, -1, -1, -1)
        history = torch.cat([past.to(latents), latents], dim=1)
        memory["shortcut"] = history[:, frames:].clone()
        seen = [history[:, i : i + frames] for i in reversed(range(self.latents))]
        mixed = torch.cat(seen, dim=2).flatten(0, 1)
        if self.mixer is not None:
            mixed = self.mixer(mixed)
        groups = F.pixel_shuffle(self.decoder(mixed), self.stride)
        return groups.reshape(latents.shape[0], -1, 3, *groups.shape[-2:])


def _conv(inputs: int, outputs: int, *, stride: int = 1, bias: bool = True) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=bias)


def _stack(layers: Iterable[nn.Module | None]) -> nn.ModuleDict:
    """Layers named by their position in the published layout; None leaves its position out."""
    return nn.ModuleDict({str(i): layer for i, layer in enumerate(layers) if layer is not None})


def _run(stack: nn.ModuleDict, x: Tensor, memory: Memory) -> Tensor:
    """All layers on all frames at once; memory blocks get the sequence shifted by one frame."""
    for name, layer in stack.items():
        pause()
        if isinstance(layer, MemoryBlock):
            last = x[:, -1:].clone()
            x = layer(x, memory.get(name))
            memory[name] = last
        elif isinstance(layer, (TimePool, TimeGrow)):
            x = layer(x)
        else:
            x = layer(x.flatten(0, 1)).unflatten(0, (x.shape[0], -1))
    return x


class TinyAutoencoder(ModelMixin, ConfigMixin):
    """Causal video autoencoder: 4x in time, `patch_size * prod(space_scales)` in space.

    Args:
        latent_channels: channels of a latent.
        patch_size: side of the pixel blocks folded into channels at the picture end.
        encoder_channels: widths at full resolution and after each stage; empty for no
            convolutional encoder (which needs `shortcut_latents` > 0).
        decoder_channels: widths of each stage and at full resolution; empty for no
            convolutional decoder.
        encoder_blocks, decoder_blocks: memory blocks per stage, in order of computation.
        space_scales: spatial scale of each decoder stage; the encoder runs them backwards.
        time_scales: temporal scale of each decoder stage; the encoder runs them backwards.
        shortcut_latents: latents seen by the linear decoder shortcut; 0 for no shortcut.
        shortcut_rank: mixtures of them that its pixels are made of; 0 for no such bound.
        motion: whether the frames of a latent are encoded as they are in the middle of their time,
            and how they move (pixels a frame) is what the last two channels hold.
        decoder_gain: factor on the output of the convolutional decoder. Beside a shortcut it should
            be about as small as what the shortcut leaves to explain: Adam's first steps know no
            scale, and at full size they are noise that the network learns to avoid by dying.
        leak: slope of the activations below zero; 0 is the published ReLU.
        latents_mean, latents_std: per-channel normalisation of latents; None for none. Stored
            here because it travels with the weights, applied by the codec.

    Raises:
        ValueError: if widths, blocks and scales do not describe the same number of stages,
            one direction has neither convolutions nor a shortcut, or the shortcut's rank exceeds
            the pixels of a latent.
    """

    __module__ = "causvid"  # its public address, which saved pipelines name

    _supports_gradient_checkpointing = False

    @register_to_config
    def __init__(
        self,
        latent_channels: int = 16,
        patch_size: int = 1,
        encoder_channels: Sequence[int] = (64, 64, 64, 64),
        decoder_channels: Sequence[int] = (256, 128, 64, 64),
        encoder_blocks: Sequence[int] = (3, 3, 3),
        decoder_blocks: Sequence[int] = (3, 3, 3),
        space_scales: Sequence[int] = (2, 2, 2),
        time_scales: Sequence[int] = (1, 2, 2),
        shortcut_latents: int = 0,
        shortcut_rank: int = 0,
        motion: bool = False,
        decoder_gain: float = 1.0,
        leak: float = 0.0,
        latents_mean: Sequence[float] | None = None,
        latents_std: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        if len(space_scales) != len(time_scales):
            raise ValueError(
                f"space_scales {tuple(space_scales)} and time_scales {tuple(time_scales)} must "
                "name the same number of stages"
            )
        for side, channels, blocks in (
            ("encoder", encoder_channels, encoder_blocks),
            ("decoder", decoder_channels, decoder_blocks),
        ):
            stages = len(space_scales)
            if channels and (len(channels) != stages + 1 or len(blocks) != stages):
                raise ValueError(
                    f"{side}: {stages} stages need {stages + 1} widths and {stages} block counts, "
                    f"got {tuple(channels)} and {tuple(blocks)}"
                )
            if motion and (encoder_channels or not shortcut_latents or latent_channels < 3):
                raise ValueError(
                    "motion takes two latent channels beside those of a linear encoder: give "
                    "encoder_channels=(), shortcut_latents > 0 and latent_channels > 2"
                )
            if not channels and not shortcut_latents:
                raise ValueError(
                    f"{side}: no convolutions and no shortcut; give {side}_channels or "
                    "shortcut_latents > 0"
                )

        self.spatial_stride = patch_size * prod(space_scales)
        self.temporal_stride = prod(time_scales)
        self.encoder = self.decoder = self.shortcut = None

        if encoder_channels:
            layers: list[nn.Module | None] = [
                _conv(3 * patch_size**2, encoder_channels[0]),
                nn.LeakyReLU(leak),
            ]
            scales = zip(reversed(space_scales), reversed(time_scales), strict=True)
            for i, (space, time) in enumerate(scales):
                width = encoder_channels[i + 1]
                layers += [
                    TimePool(encoder_channels[i], time),
                    _conv(encoder_channels[i], width, stride=space, bias=False),
                    *(MemoryBlock(width, leak) for _ in range(encoder_blocks[i])),
                ]
            layers.append(_conv(encoder_channels[-1], latent_channels))
            self.encoder = _stack(layers)

        if decoder_channels:
            layers = [SoftClamp(), _conv(latent_channels, decoder_channels[0]), nn.LeakyReLU(leak)]
            for i, (space, time) in enumerate(zip(space_scales, time_scales, strict=True)):
                width = decoder_channels[i]
                layers += [
                    *(MemoryBlock(width, leak) for _ in range(decoder_blocks[i])),
                    None,  # the published layout enlarges here
                    TimeGrow(width, time),
                    EnlargingConv(width, decoder_channels[i + 1], space),
                ]
            layers += [nn.LeakyReLU(leak), _conv(decoder_channels[-1], 3 * patch_size**2)]
            self.decoder = _stack(layers)

        if shortcut_latents:
            self.shortcut = LinearShortcut(
                latent_channels,
                self.spatial_stride,
                self.temporal_stride,
                shortcut_latents,
                shortcut_rank,
                motion,
            )

    @apply_forward_hook
    def encode(self, pixels: Tensor, memory: Memory | None = None) -> Tensor:
        """Latents [b, t/4, c, h, w] of pixels [b, t, 3, H, W] in [0, 1].

        Args:
            memory: an empty dict at the start of a stream, the same dict afterwards; it is
                updated in place. None encodes a clip on its own.

        Raises:
            ValueError: if t, H or W is not a multiple of its stride.
        """
        t, channels, height, width = pixels.shape[1:]
        if channels != 3 or t % self.temporal_stride or t == 0:
            raise ValueError(
                f"expected pixels [b, t, 3, H, W] with t a multiple of {self.temporal_stride}, "
                f"got {tuple(pixels.shape)}"
            )
        if height % self.spatial_stride or width % self.spatial_stride:
            raise ValueError(
                f"height and width must be multiples of {self.spatial_stride}, "
                f"got {height}x{width}; crop or pad first"
            )
        memory = {} if memory is None else memory
        parts, motion = [], None
        if self.config.motion:
            pixels, motion = self.compensated(pixels)
        if self.shortcut is not None:
            parts.append(self.shortcut.encode(pixels))
        if self.encoder is not None:
            folded = F.pixel_unshuffle(pixels, self.config.patch_size)
            parts.append(_run(self.encoder, folded, memory))
        latents = sum(parts[1:], start=parts[0])
        return latents if motion is None else torch.cat([latents, motion], dim=2)

    @apply_forward_hook
    def decode(self, latents: Tensor, memory: Memory | None = None) -> Tensor:
        """Pixels [b, 4 f, 3, H, W] in [0, 1] of latents [b, f, c, h, w].

        The first 3 frames of a stream are run-up (they stand for repetitions of the first
        picture) and belong to no clip; dropping them is the caller's business.

        Args:
            memory: as for `encode`.

        Raises:
            ValueError: if the latents have another number of channels.
        """
        if latents.ndim != 5 or latents.shape[2] != self.config.latent_channels:
            raise ValueError(
                f"expected latents [b, f, {self.config.latent_channels}, h, w], "
                f"got {tuple(latents.shape)}"
            )
        # The class's own: offloading hooks, which hand it copies of dicts, replace an object's.
        return TinyAutoencoder.forward(self, latents, memory).clamp(0, 1)

    def forward(self, latents: Tensor, memory: Memory | None = None) -> Tensor:
        """The decoder before its pixels are clamped to [0, 1], as a loss wants it."""
        memory = {} if memory is None else memory
        parts = []
        if self.shortcut is not None:
            parts.append(self.shortcut.decode(latents, memory))
        if self.decoder is not None:
            # Beside an exact shortcut the convolutions may be of a smaller type.
            dtype = self.decoder.get_parameter("1.weight").dtype
            folded = _run(self.decoder, latents.to(dtype), memory)
            pixels = F.pixel_shuffle(folded, self.config.patch_size).to(latents.dtype)
            parts.append(self.config.decoder_gain * pixels)
        pixels = sum(parts[1:], start=parts[0])
        if self.shortcut is not None and self.shortcut.motion is not None:
            motion = self.shortcut.motion(latents.flatten(0, 1))
            groups = pixels.unflatten(1, (-1, self.temporal_stride)).flatten(0, 1)
            pixels = displace(groups, motion.detach()).view(pixels.shape)
        return pixels

    def compensated(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Pixels without their motion, and that motion [b, f, 2, h, w], pixels a frame.

        It is found in cells of twice the stride: smaller ones see too little.
        """
        groups = pixels.unflatten(1, (-1, self.temporal_stride)).flatten(0, 1).float()
        rows, columns = (size // self.spatial_stride for size in pixels.shape[-2:])
        motion = estimate_motion(groups, 2 * self.spatial_stride)
        motion = F.interpolate(motion, scale_factor=2, mode="bilinear", align_corners=False)
        motion = motion[..., :rows, :columns]
        aligned = align(groups, motion).clamp(0, 1).view(pixels.shape)
        motion = motion.unflatten(0, (pixels.shape[0], -1))
        return aligned.to(pixels.dtype), motion.to(pixels.dtype)
