"""Cases of the video codecs: the Wan VAE, whole and streamed, and the tiny autoencoder."""

import math
import re
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from causvid.model.checkpoint import fill
from causvid.model.codec import CodecState, TinyCodec, WanCodec
from causvid.model.tiny_autoencoder import TinyAutoencoder
from tests.parity.case import Case, Mismatch
from tests.parity.folder import ReferenceFolder


def wan(case: Case, folder: ReferenceFolder) -> None:
    """Encoding and decoding in one call and in chunks.

    The reference's tensors are `[b, c, t, h, w]`, and its decoder's output is not clamped, which
    its wrapper does and ours with it.
    """
    vae = folder.vae(folder.weights(case, "vae"))
    codec = WanCodec(vae)
    video, latents = case["video"].transpose(1, 2), case["z"].transpose(1, 2)
    case.check("moments", vae.encode(case["video"]).latent_dist.parameters)
    case.check("latents", codec.encode(video, codec.start()).transpose(1, 2))
    first = codec.encode(video[:, :1], codec.start())
    case.check("latents_first_frame", first.transpose(1, 2))

    whole = codec.decode(latents, codec.start())
    case.check_against("decoded", whole.transpose(1, 2), case["decoded"].clamp(-1, 1))
    state = codec.start()
    for name, chunk in _chunks(case, latents, r"stream\.chunk\d+"):
        expected = case[name].clamp(-1, 1)
        case.check_against(name, codec.decode(chunk, state).transpose(1, 2), expected)
    state, dropped = _all_zero(codec, latents), codec.temporal_stride - 1
    for name, chunk in _chunks(case, latents, r"demo_zero_cache\.chunk\d+"):
        case.check(name, codec.decode(chunk, state)[:, dropped:])
        dropped = 0


def _chunks(case: Case, latents: Tensor, pattern: str) -> list[tuple[str, Tensor]]:
    names = [match.string for match in case.matching(pattern)]
    chunks = latents.split(case.setting("stream_chunk"), dim=1)
    if not names:
        return []
    if len(names) != len(chunks):
        raise Mismatch(f"has {len(names)} streamed chunks, but latents for {len(chunks)}")
    return list(zip(names, chunks, strict=True))


def _all_zero(codec: WanCodec, latents: Tensor) -> CodecState:
    """The state that a published demo starts from: full of zeros where a new stream has nothing.

    Its first latent therefore gives as many frames as any other, and its pictures are inexact.
    """
    state = codec.start()
    for latent in latents[:, :1].expand(-1, 3, -1, -1, -1).split(1, dim=1):
        codec.decode(latent, state)  # by the third latent every memory has its full length
    for memory in state.decoder.memory.values():
        memory.zero_()
    return state


def tiny(case: Case, folder: ReferenceFolder) -> None:
    """TAEHV, with weights made by a formula; clips as its own wrapper aligns them, in [0, 1]."""
    shapes = case.setting("keys")
    with torch.device("meta"):
        model = TinyAutoencoder(**_tiny_config(shapes))
    fill(model, _formula_weights(shapes), source=case.name)
    stride, video, latents = model.temporal_stride, case["video"], case["latents"]
    missing = -video.shape[1] % stride
    padded = torch.cat([video, video[:, -1:].expand(-1, missing, -1, -1, -1)], dim=1)
    case.check("encoded", model.encode(padded))
    case.check("decoded", model.decode(latents)[:, stride - 1 :])
    codec = TinyCodec(model)
    state = codec.start()
    pieces = [codec.decode(latent, state) for latent in latents.split(1, dim=1)]
    case.check("decoded_stream", (torch.cat(pieces, dim=1) + 1) / 2)


def _formula_weights(shapes: Mapping[str, Sequence[int]]) -> dict[str, Tensor]:
    """The k-th tensor in alphabetical order: √2 cos(2π frac(φ i + 0.1234567 k)) · 1.1 / √fan."""
    weights = {}
    for k, (name, shape) in enumerate(sorted(shapes.items())):
        fan = math.prod(shape[1:]) if len(shape) > 1 else 16
        i = torch.arange(math.prod(shape), dtype=torch.float64)
        phase = torch.frac(i * 0.6180339887498949 + k * 0.1234567)
        values = math.sqrt(2) * torch.cos(2 * math.pi * phase) * 1.1 / math.sqrt(fan)
        weights[name] = values.float().view(*shape)
    return weights


def _tiny_config(shapes: Mapping[str, Sequence[int]]) -> dict[str, object]:
    """Widths, blocks and strides in time, as the shapes of the parameters tell them.

    Enlargement in space leaves no trace there; every published stage doubles.
    """
    config: dict[str, object] = {"latent_channels": shapes["decoder.1.weight"][1]}
    config["patch_size"] = math.isqrt(shapes["encoder.0.weight"][1] // 3)
    for side, first in (("encoder", 0), ("decoder", 1)):
        layers = _indices(shapes, rf"{side}\.(\d+)\.conv\.weight")  # resample time
        blocks = _indices(shapes, rf"{side}\.(\d+)\.conv\.0\.weight")
        widths = [shapes[f"{side}.{first}.weight"][0]]
        widths += [shapes[f"{side}.{layer + 1}.weight"][0] for layer in layers]
        ends = [*layers[1:], math.inf] if side == "encoder" else layers
        starts = layers if side == "encoder" else [0, *layers[:-1]]
        config[f"{side}_channels"] = tuple(widths)
        config[f"{side}_blocks"] = tuple(
            sum(start < block < end for block in blocks)
            for start, end in zip(starts, ends, strict=True)
        )
    grow = [shapes[f"decoder.{layer}.conv.weight"] for layer in layers]
    config["time_scales"] = tuple(shape[0] // shape[1] for shape in grow)
    config["space_scales"] = (2,) * len(grow)
    return config


def _indices(shapes: Mapping[str, Sequence[int]], pattern: str) -> list[int]:
    return sorted(int(m[1]) for name in shapes if (m := re.fullmatch(pattern, name)))
