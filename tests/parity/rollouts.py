"""Cases of whole rollouts: CausVid's, its overlapping long videos, Self-Forcing's and LongLive's.

All run through `Generator`, with the reference's draws in place of its seeded noise. Step lists are
those visited, already warped where they were.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from causvid.generation.config import GenerationConfig
from causvid.generation.generator import Generator, Memory
from causvid.generation.geometry import ChunkPattern, LatentGrid
from causvid.generation.schedule import CLEAN
from causvid.model.cache import KVCache
from causvid.model.codec import WanCodec
from causvid.model.transformer import CausalWanTransformer
from tests.parity.case import Case, Mismatch
from tests.parity.folder import ReferenceFolder


def in_order(cache: KVCache, layer: int) -> tuple[Tensor, Tensor]:
    """Remembered keys and values `[b, m, heads, d]`: the sink, then the rest, oldest first, as the
    published caches keep them. Read from a snapshot, which has slots and counters."""
    state = cache.tensors()
    cursor, sink_origin, ring_origin, _ = state["counters"].tolist()
    sink_end = min(cursor, sink_origin + cache.sink)
    oldest = max(sink_end, ring_origin, cursor - cache.ring)
    slots = [
        *range(sink_end - sink_origin),
        *(cache.sink + (frame - ring_origin) % cache.ring for frame in range(oldest, cursor)),
    ]
    by_frame = state["storage"][layer].unflatten(-2, (-1, cache.tokens_per_frame))
    keys, values = by_frame[..., slots, :, :].flatten(-3, -2).unbind()
    return keys.transpose(1, 2), values.transpose(1, 2)


class LongLiveCache(KVCache):
    """LongLive's cache while a sink longer than one chunk fills, which ours does otherwise.

    Its code attends to sink rows that nothing was written to yet, as zeros; and it lets only the
    first, noisy pass of a chunk write into the sink, the very first chunk excepted.
    """

    @classmethod
    def of(cls, generator: Generator, batch: int) -> "LongLiveCache":
        """An empty cache for what `generator` makes."""
        model, config = generator.transformer.config, generator.config
        return cls(
            num_layers=model.num_layers,
            batch=batch,
            heads=model.num_attention_heads,
            head_dim=model.attention_head_dim,
            grid=generator.grid.tokens,
            window=config.window,
            sink=config.sink,
            sink_rotation=config.sink_rotation,
            dtype=generator.transformer.dtype,
        )

    def open(self, frames: int, ahead: int = 0) -> None:
        super().open(frames, ahead)
        self._noisy: dict[int, tuple[Tensor, Tensor]] = {}  # layer → what its first pass wrote

    def reopen(self, *, keep_sink: bool, frames: int | None = None) -> tuple[int, int]:
        self._noisy = {}
        return super().reopen(keep_sink=keep_sink, frames=frames)

    def write(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        first = int(self.positions[0])
        in_sink = max(0, self.sink_end - first) * self.tokens_per_frame if first else 0
        early = self._noisy.setdefault(layer, (keys[:, :in_sink].clone(), values[:, :in_sink]))
        merged = (
            torch.cat([old, new[:, in_sink:]], dim=1)
            for old, new in zip(early, (keys, values), strict=True)
        )
        visible = super().write(layer, *merged)
        missing = max(0, self.sink * self.tokens_per_frame - visible[0].shape[1])
        padded = (torch.nn.functional.pad(rows, (0, 0, 0, 0, 0, missing)) for rows in visible)
        return tuple(padded)


def _generator(model: CausalWanTransformer, config: GenerationConfig, latents: Tensor) -> Generator:
    """A generator of latents of this size."""
    height, width = latents.shape[3:]
    patch = model.config.patch_size[1]
    return Generator(model, config, LatentGrid(height, width, spatial_stride=1, patch=patch))


class Rollout:
    """Makes a clip chunk by chunk, drawing from a list.

    Args:
        noise: where chunks start, `[b, f, c, h, w]`, for the new frames.
        draws: one for every renoising, `[b · frames, c, h, w]`, in the order of their use.
        prefix: latents that the clip begins with, cached clean.
    """

    def __init__(
        self,
        generator: Generator,
        cache: KVCache,
        noise: Tensor,
        draws: Sequence[Tensor],
        prefix: Tensor | None = None,
    ):
        self.generator = generator
        self.cache = cache
        self.noise = noise
        self.draws = iter(draws)
        self.given = 0 if prefix is None else prefix.shape[1]
        self.sizes = generator.config.chunks.sizes(self.given + noise.shape[1])
        self.latents = noise[:, :0] if prefix is None else prefix
        self.chunk = self.position = 0

    def extend(self, memory: Memory) -> None:
        """Make (or, inside the prefix, cache) the next chunk."""
        start, frames = self.position, self.sizes[self.chunk]
        self.cache.open(frames)
        if start + frames <= self.given:
            prefix = self.latents[:, start : start + frames]
            self.generator.predict_clean(prefix, CLEAN, memory)
        elif start < self.given:
            raise Mismatch("its prefix does not fill whole chunks")
        else:
            beginning = self.noise[:, start - self.given :][:, :frames]

            def draw(step: int) -> Tensor:
                if step == 0:
                    return beginning
                drawn = next(self.draws, None)
                if drawn is None:
                    raise Mismatch("has fewer draws than the rollout needs")
                return drawn.view_as(beginning)

            made = self.generator.denoise(self.generator.config.levels(self.chunk), draw, memory)
            self.latents = torch.cat([self.latents, made], dim=1)
        self.cache.advance()
        self.position += frames
        self.chunk += 1

    def finish(self, memory: Memory) -> Tensor:
        """Make all that is left: latents `[b, f, c, h, w]`, the prefix included."""
        while self.chunk < len(self.sizes):
            self.extend(memory)
        if next(self.draws, None) is not None:
            raise Mismatch("has more draws than the rollout needs")
        return self.latents


def causvid(case: Case, folder: ReferenceFolder) -> None:
    """Rollouts with a full cache: one, a second on the same cache, one that continues a prefix."""
    steps, noise = case["denoising_step_list"], case["noise"]
    _agree(steps, case.setting("denoising_step_list"))
    size = folder.frames_per_chunk(case)
    config = GenerationConfig(
        timesteps=tuple(steps.tolist()),
        warp=False,
        shift=folder.shift(case),
        chunks=ChunkPattern(size, size),
        window=noise.shape[1],
    )
    generator = _generator(folder.transformer(folder.weights(case)), config, noise)
    cache = generator.new_cache(len(noise))
    memory = Memory(cache, generator.encode_text(case["prompt_embeds"]))
    case.check("latents", Rollout(generator, cache, noise, case.draws()).finish(memory))
    if "second.noise" in case:
        cache.reset()
        other = Memory(cache, generator.encode_text(case["second.prompt_embeds"]))
        rollout = Rollout(generator, cache, case["second.noise"], case.draws("second."))
        case.check("second.latents", rollout.finish(other))
    if "start.start_latents" in case:
        cache.reset()
        prefix = case["start.start_latents"]
        new = noise[:, prefix.shape[1] :]
        rollout = Rollout(generator, cache, new, case.draws("start."), prefix)
        case.check("start.latents", rollout.finish(memory))


def long_video(case: Case, folder: ReferenceFolder) -> None:
    """CausVid's overlapping rollouts, pixels and latents handed from one to the next.

    A rollout continues the last `overlap` latents of the one before: the first of them re-encoded
    from its last pixel frame alone, as the first latent of a clip must be, the others as they are.
    The frames of those latents are cut from the end of every rollout's video, and made again.
    """
    overlap, size = case.setting("num_overlap_frames"), folder.frames_per_chunk(case)
    config = GenerationConfig(
        timesteps=tuple(case.setting("denoising_step_list")),
        warp=False,
        shift=folder.shift(case),
        chunks=ChunkPattern(size, size),
        window=case.setting("latent_frames"),
    )
    codec = WanCodec(folder.vae(folder.weights(case, "vae")))
    model = folder.transformer(folder.weights(case))
    repeated = codec.temporal_stride * (overlap - 1) + 1
    prefix, videos = None, []
    for index in range(case.setting("num_rollout")):
        name = f"rollout{index}"
        noise = case[f"{name}.noise"]
        generator = _generator(model, config, noise)
        cache = generator.new_cache(len(noise))
        memory = Memory(cache, generator.encode_text(case["prompt_embeds"]))
        if prefix is not None:
            case.check(f"{name}.start_latents", prefix)
            noise = noise[:, overlap:]
        draws = case.draws(f"{name}.")
        latents = Rollout(generator, cache, noise, draws, prefix).finish(memory)
        case.check(f"{name}.latents", latents)
        pixels = codec.decode(latents, codec.start())
        kept, cut = pixels[:, :-repeated], pixels[:, -repeated:]
        case.check(f"{name}.reencoded_frame", cut[:, :1])
        again = codec.encode(cut[:, :1], codec.start())
        prefix = torch.cat([again, latents[:, latents.shape[1] - overlap + 1 :]], dim=1)
        videos.append((kept + 1) / 2)
    case.check("video", torch.cat(videos, dim=1))


def self_forcing(case: Case, folder: ReferenceFolder) -> None:
    """Rollouts with a rolling window and a sink, a prefix, an independent first frame, a batch."""
    steps, noise = case["denoising_step_list"], case["noise"]
    _agree(steps, case.setting("denoising_step_list"))
    size, window = folder.frames_per_chunk(case), case.setting("local_attn_size")
    prefix = case.get("initial_latent")
    frames = noise.shape[1] + (0 if prefix is None else prefix.shape[1])
    config = GenerationConfig(
        timesteps=tuple(steps.tolist()),
        warp=False,
        shift=folder.shift(case),
        chunks=ChunkPattern(1 if case.setting("independent_first_frame") else size, size),
        window=frames if window < 0 else window,
        sink=0 if window < 0 else case.setting("sink_size"),
        sink_rotation="absolute",
        context_timestep=case.setting("context_noise"),
    )
    generator = _generator(folder.transformer(folder.weights(case)), config, noise)
    cache = generator.new_cache(len(noise))
    memory = Memory(cache, generator.encode_text(case["prompt_embeds"]))
    rollout = Rollout(generator, cache, noise, case.draws(), prefix)
    case.check("latents", rollout.finish(memory))
    _check_cache(case, cache)


def longlive(case: Case, folder: ReferenceFolder) -> None:
    """Rollouts with a sink, whose prompt changes at given frames with the window recached."""
    noise = case["noise"]
    size, window, sink = (
        case.setting(name) for name in ("num_frame_per_block", "local_attn_size", "sink_size")
    )
    config = GenerationConfig(
        timesteps=tuple(case.setting("denoising_step_list")),
        warp=False,
        shift=folder.shift(case),
        chunks=ChunkPattern(size, size),
        window=noise.shape[1] + sink if window < 0 else window,
        sink=sink,
        sink_rotation="absolute",
        context_timestep=case.setting("context_noise"),
    )
    generator = _generator(folder.transformer(folder.weights(case)), config, noise)
    # A case holds embeddings of more prompts than it uses.
    prompts = {m[1]: case[m.string] for m in case.matching(r"prompt_embeds_(.+)")}
    unknown = set(case.setting("prompts")) - set(prompts)
    if unknown:
        raise Mismatch(f"has no embeddings of prompt {', '.join(sorted(unknown))}")
    switches = zip(case.setting("switch_frame_indices"), case.setting("prompts")[1:], strict=True)
    upcoming = list(switches)
    cache = LongLiveCache.of(generator, len(noise))
    memory = Memory(cache, generator.encode_text(prompts[case.setting("prompts")[0]]))
    rollout = Rollout(generator, cache, noise, case.draws())
    while rollout.chunk < len(rollout.sizes):
        if upcoming and rollout.position >= upcoming[0][0]:
            memory = Memory(cache, generator.encode_text(prompts[upcoming.pop(0)[1]]))
            first, frames = cache.reopen(keep_sink=case.setting("global_sink"))
            generator.remember(rollout.latents[:, first : first + frames], memory)
            cache.advance()
        rollout.extend(memory)
    case.check("latents", rollout.finish(memory))
    _check_cache(case, cache)


def _agree(tensor: Tensor, listed: Sequence[float]) -> None:
    if not torch.allclose(tensor, torch.tensor(listed, dtype=tensor.dtype)):
        raise Mismatch("'denoising_step_list' is not the same in the JSON and among the tensors")


def _check_cache(case: Case, cache: KVCache) -> None:
    for match in case.matching(r"cache\.layer(\d+)\.([kv])"):
        expected = case[match.string]
        held = in_order(cache, int(match[1]))["kv".index(match[2])]
        if held.shape[1] > expected.shape[1]:
            raise Mismatch(f"{match.string} has fewer rows than the cache holds tokens")
        # Rows beyond the tokens held are left over in the published buffers.
        case.check_against(match.string, held, expected[:, : held.shape[1]])
    seen, held = cache.cursor * cache.tokens_per_frame, in_order(cache, 0)[0].shape[1]
    for name, value in {"global_end_index": seen, "local_end_index": held}.items():
        if f"cache.{name}" in case:
            case.check(f"cache.{name}", torch.tensor([value]))
