"""Cases of single transformer passes: cached, block-causal, bidirectional, and inside one pass."""

import re
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor

from causvid.generation.schedule import FlowSchedule, clean_from_velocity
from causvid.model.attention import (
    block_causal_mask,
    rotary_pairs,
    rotary_table,
    rotate,
    teacher_forcing_mask,
    time_rotation,
)
from causvid.model.cache import KVCache, TextCache
from causvid.model.transformer import CausalWanTransformer, sinusoid
from causvid.training.losses import per_frame, table_sigmas
from tests.parity.case import BFLOAT16_TOLERANCE, Case
from tests.parity.folder import ReferenceFolder, Settings

# Official names of modules, as far as they differ from ours.
_MODULES = {
    r"^time_embedding$": "condition_embedder.time_embedder",
    r"^time_projection$": "condition_embedder.time_proj",
    r"^text_embedding$": "condition_embedder.text_embedder",
    r"^head$": "proj_out",
    r"\bself_attn\b": "attn1",
    r"\bcross_attn\b": "attn2",
    r"\.(q|k|v)$": r".to_\1",
    r"\.o$": ".to_out.0",
}


def clean_at(noisy: Tensor, velocity: Tensor, timesteps: Tensor, shift: float) -> Tensor:
    """Clean latents `[b, f, …]` by the σ that the table has nearest to each timestep `[b, f]`."""
    sigmas = per_frame(table_sigmas(timesteps, FlowSchedule(shift)))
    return clean_from_velocity(noisy.double(), velocity.double(), sigmas.double()).float()


def times_of(timesteps: Tensor) -> Tensor:
    """Timesteps in 0 … 1000 as the times that our transformer takes."""
    return timesteps.double() / 1000


def cache_for(model: CausalWanTransformer, latents: Tensor) -> KVCache:
    """A cache that holds all frames of `latents` `[b, f, c, h, w]`."""
    rows, columns = (side // model.config.patch_size[1] for side in latents.shape[3:])
    return KVCache(
        num_layers=model.config.num_layers,
        batch=latents.shape[0],
        heads=model.config.num_attention_heads,
        head_dim=model.config.attention_head_dim,
        grid=(rows, columns),
        window=latents.shape[1],
        dtype=model.dtype,
    )


@dataclass(frozen=True)
class _Passes:
    """Passes of one model against one cache, compared as they are made."""

    case: Case
    model: CausalWanTransformer
    text: TextCache
    cache: KVCache
    shift: float

    def check(self, name: str, noisy: Tensor, timesteps: Tensor) -> None:
        """Compare the velocity and the clean latents of the open chunk."""
        velocity = self.run(noisy, timesteps)
        self.case.check(f"{name}.flow", velocity)
        self.case.check(f"{name}.x0", clean_at(noisy, velocity, timesteps, self.shift))

    def run(self, noisy: Tensor, timesteps: Tensor) -> Tensor:
        return self.model(noisy, times_of(timesteps), self.text, memory=self.cache).float()

    def chunk(self, index: int, noisy: Tensor, clean: Tensor, *, check_write: bool) -> None:
        """All noisy calls of a chunk, each over the last one's keys, then the clean one."""
        self.cache.open(noisy.shape[1])
        for t in self.case.setting("timesteps"):
            self.check(f"chunk{index}.t{t}", noisy, torch.full(noisy.shape[:2], t))
        written = torch.zeros(noisy.shape[:2])
        if check_write:
            self.check(f"chunk{index}.write", clean, written)
        else:
            self.run(clean, written)
        self.cache.advance()


def cached(case: Case, folder: ReferenceFolder) -> None:
    """Chunks against a cache: noisy calls that overwrite each other, then the clean write."""
    model = folder.transformer(folder.weights(case))
    shift, size = folder.shift(case), folder.frames_per_chunk(case)
    noisy, clean = case["xt"], case["clean"]
    text, cache = model.encode_text(case["prompt_embeds"]), cache_for(model, noisy)
    passes = _Passes(case, model, text, cache, shift)
    chunks = zip(noisy.split(size, dim=1), clean.split(size, dim=1), strict=True)
    for index, chunk in enumerate(chunks):
        passes.chunk(index, *chunk, check_write=True)
    for match in case.matching(r"cache\.layer(\d+)\.([kv])"):
        stored = cache.keys if match[2] == "k" else cache.values
        case.check(match.string, stored[int(match[1])].transpose(1, 2))
    for match in case.matching(r"crossattn\.layer(\d+)\.([kv])"):
        kept = text.keys if match[2] == "k" else text.values
        case.check(match.string, kept[int(match[1])])
    if "b2.xt" in case:
        _cached_batch(case, model, shift)


def _cached_batch(case: Case, model: CausalWanTransformer, shift: float) -> None:
    """A batch with a timestep of its own for every frame: frame by frame, and all in one call."""
    noisy, timesteps = case["b2.xt"], case["b2.timestep"]
    text, cache = model.encode_text(case["b2.prompt_embeds"]), cache_for(model, noisy)
    passes = _Passes(case, model, text, cache, shift)
    for frame in range(noisy.shape[1]):
        cache.open(1)
        one = slice(frame, frame + 1)
        passes.check(f"b2.frame{frame}", noisy[:, one], timesteps[:, one])
        cache.advance()
    for match in case.matching(r"(b2\.chunk\d+_mixed_t)\.flow"):
        cache.reset()
        cache.open(noisy.shape[1])
        passes.check(match[1], noisy, timesteps)


def cached_bfloat16(case: Case, folder: ReferenceFolder) -> None:
    """The first chunks of the neighbouring `cached` case, in bfloat16; compared loosely."""
    case.tolerance = BFLOAT16_TOLERANCE
    inputs = folder.open(folder.near(case.name, is_cached))
    model = folder.transformer(folder.weights(inputs), dtype=torch.bfloat16)
    shift, size = folder.shift(inputs), folder.frames_per_chunk(inputs)
    noisy, clean, embeds = (
        inputs[name].to(torch.bfloat16) for name in ("xt", "clean", "prompt_embeds")
    )
    cache = cache_for(model, noisy)
    passes = _Passes(case, model, model.encode_text(embeds), cache, shift)
    count = 1 + max(int(match[1]) for match in case.matching(r"chunk(\d+)\..+"))
    chunks = zip(noisy.split(size, dim=1), clean.split(size, dim=1), strict=True)
    for index, chunk in enumerate(islice(chunks, count)):
        passes.chunk(index, *chunk, check_write=False)


def activations(case: Case, folder: ReferenceFolder) -> None:
    """What the modules of one cached call give, the rotary table, and the time features."""
    model = folder.transformer(folder.weights(case))
    noisy = case["xt"]
    timesteps = torch.full(noisy.shape[:2], case.setting("timestep"))
    wanted = {match.string: _module_name(match[1]) for match in case.matching(r"act\.(.+)")}
    if "rope_q_layer0_chunk0" in case:
        wanted["query of layer 0"] = "blocks.0.attn1.norm_q"
    seen: dict[str, Tensor] = {}
    with ExitStack() as hooks:
        for name, module in wanted.items():
            record = _recorder(seen, name)
            hooks.callback(model.get_submodule(module).register_forward_hook(record).remove)
        text, cache = model.encode_text(case["prompt_embeds"]), cache_for(model, noisy)
        cache.open(noisy.shape[1])
        velocity = model(noisy, times_of(timesteps), text, memory=cache)
    case.check("flow", velocity)
    case.check("x0", clean_at(noisy, velocity, timesteps, folder.shift(case)))
    for match in case.matching(r"act\..+"):
        # Ours keep frames and tokens, or batch and frames, as axes of their own.
        case.check(match.string, seen[match.string].reshape(case[match.string].shape))
    features = sinusoid(times_of(timesteps), model.config.freq_dim)
    case.check("sinusoid", features.flatten(0, 1).float())
    _check_rotation(case, model, seen, noisy)


def _recorder(seen: dict[str, Tensor], name: str):
    def record(module, inputs, output):
        seen[name] = output

    return record


def _module_name(official: str) -> str:
    for pattern, ours in _MODULES.items():
        official = re.sub(pattern, ours, official)
    return official


def _check_rotation(
    case: Case, model: CausalWanTransformer, seen: dict[str, Tensor], latents: Tensor
) -> None:
    head_dim, patch = model.config.attention_head_dim, model.config.patch_size[1]
    frames, rows, columns = latents.shape[1], latents.shape[3] // patch, latents.shape[4] // patch
    for match in case.matching(r"rope_q_layer0_chunk(\d+)"):
        query = seen["query of layer 0"].unflatten(-1, (model.config.num_attention_heads, -1))
        positions = torch.arange(frames) + int(match[1]) * frames
        case.check(match.string, rotate(query, rotary_table(positions, rows, columns, head_dim)))
    count = len(case["freqs_real"])
    time, height, _ = rotary_pairs(head_dim)
    origin = torch.zeros(1)
    down = rotary_table(origin, count, 1, head_dim)[:, 0, time : time + height]
    right = rotary_table(origin, 1, count, head_dim)[:, 0, time + height :]
    table = torch.cat([time_rotation(torch.arange(count), head_dim), down, right], dim=-2)
    case.check("freqs_real", table[..., 0])
    case.check("freqs_imag", table[..., 1])


def block_causal(case: Case, folder: ReferenceFolder) -> None:
    """Whole clips under the block-causal mask, for every chunk length that the case has."""
    model = folder.transformer(folder.weights(case))
    noisy, text = case["x"], case["prompt_embeds"]
    for match in case.matching(r"block(\d+)\.flow"):
        size = int(match[1])
        timesteps = case[f"timestep_block{size}"]
        mask = block_causal_mask([len(part) for part in torch.arange(noisy.shape[1]).split(size)])
        velocity = model(noisy, times_of(timesteps), text, frame_mask=mask)
        case.check(match.string, velocity)
        case.check(f"block{size}.x0", clean_at(noisy, velocity, timesteps, folder.shift(case)))


def bidirectional(case: Case, folder: ReferenceFolder) -> None:
    """The teacher: whole clips without a mask, one time for a clip (that of its first frame)."""
    model = folder.transformer(folder.weights(case))
    noisy, timesteps = case["x"], case["timestep"]
    told = timesteps[:, :1].expand_as(timesteps)
    velocity = model(noisy, times_of(told), case["prompt_embeds"])
    case.check("flow", velocity)
    case.check("x0", clean_at(noisy, velocity, timesteps, folder.shift(case)))


def teacher_forcing(case: Case, folder: ReferenceFolder) -> None:
    """Noisy chunks that see the clean chunks before them, in one pass over both."""
    model = folder.transformer(folder.weights(case))
    noisy, clean, timesteps = case["x"], case["clean_x"], case["timestep"]
    frames = noisy.shape[1]
    sizes = [len(part) for part in torch.arange(frames).split(folder.frames_per_chunk(case))]
    frame, past = torch.arange(frames), sum(sizes[:-1])
    velocity = model(
        torch.cat([clean[:, :past], noisy], dim=1),
        times_of(torch.cat([torch.zeros_like(timesteps[:, :past]), timesteps], dim=1)),
        case["prompt_embeds"],
        frame_mask=teacher_forcing_mask(sizes),
        positions=torch.cat([frame[:past], frame]),
    )[:, past:]
    case.check("flow", velocity)
    case.check("x0", clean_at(noisy, velocity, timesteps, folder.shift(case)))


def is_cached(settings: Settings) -> bool:
    """Whether a JSON describes a `cached` case."""
    return {"xt", "clean", "prompt_embeds"} <= set(settings.get("tensors", {}))
