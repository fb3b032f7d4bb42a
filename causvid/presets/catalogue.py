"""The models that come with causvid, as data: where their weights are, and how they generate.

A preset is a difference from its base (`dataclasses.replace`), so what it states is what is special
about it. Its numbers are the published ones; where the published sampler does something that ours
does not, `notes` says so. Revisions are pinned where a commit is known, as authors may replace
files under the same name; a deployed Space has a file with commits for the rest.
"""

import dataclasses

from causvid.generation.config import GenerationConfig
from causvid.generation.geometry import ChunkPattern, Size
from causvid.model.checkpoint import FLAT
from causvid.presets.preset import HubFile, HubFolder, Licence, Preset, TransformerSize
from causvid.resources import ROOT

APACHE = Licence("Apache-2.0", "https://www.apache.org/licenses/LICENSE-2.0", True)
NON_COMMERCIAL = Licence(
    "CC BY-NC-SA 4.0", "https://creativecommons.org/licenses/by-nc-sa/4.0/", False
)

# 1560 tokens a frame each: what the Wan 1.3B models were distilled at.
WAN_SIZES = (Size(480, 832), Size(832, 480), Size(624, 640))

WAN_BASE = HubFolder("Wan-AI/Wan2.1-T2V-1.3B-Diffusers", "0fad780a534b6463e45facd96134c9f345acfa5b")
TAEHV = HubFile("Kijai/WanVideo_comfy", path="taew2_1.safetensors", entries=(FLAT,))

_FOUR_STEPS = (1000.0, 750.0, 500.0, 250.0)
_FULL_WINDOW = (
    "Trained on 21 latent frames (5 s) with the whole past in view; longer videos use a window of "
    "that length, which was not trained. A sink of 3 frames helps there."
)

POCKET = Preset(
    name="pocket",
    title="Pocket: toy world, runs on a CPU",
    source="this repository",
    licence=APACHE,
    folder=ROOT / "assets" / "pocket",
    sizes=(Size(128, 224), Size(224, 128), Size(160, 176)),  # 112, 112 and 110 tokens a frame
    notes="Knows the captioned toy world that it was trained on and nothing else.",
)

POCKET_2 = Preset(
    name="pocket-2",
    title="Pocket 2: keeps your picture, runs on a CPU",
    source="this repository",
    licence=APACHE,
    folder=ROOT / "assets" / "pocket-2",
    modes=("image", "video"),
    sizes=(Size(192, 320), Size(320, 192), Size(240, 240)),
    mixed_sizes=True,
    notes="In the making: it keeps a picture or a video that it is given, and cannot draw things "
    "from words alone yet, so text to video is left to pocket.",
)

CAUSVID = Preset(
    name="causvid",
    title="CausVid, 3 steps",
    source="From Slow Bidirectional to Fast Autoregressive Video Diffusion Models (2412.07772)",
    licence=NON_COMMERCIAL,
    published=GenerationConfig(timesteps=(1000.0, 757.0, 522.0), shift=8.0, warp=False),
    weights=HubFile(
        "tianweiy/CausVid",
        "b545eb2728fc9d1515023a270b847f7b24b3aa89",
        path="autoregressive_checkpoint/model.pt",
        entries=("generator",),
    ),
    base=WAN_BASE,
    tiny_decoder=TAEHV,
    sizes=WAN_SIZES,
    notes=_FULL_WINDOW,
)

CAUSVID_4STEP = dataclasses.replace(
    CAUSVID,
    name="causvid-4step",
    title="CausVid, 4 steps",
    published=GenerationConfig(timesteps=_FOUR_STEPS, shift=8.0, warp=True),
    weights=dataclasses.replace(
        CAUSVID.weights, path="autoregressive_checkpoint_warp_4step_cfg2/model.pt"
    ),
)

SELF_FORCING = dataclasses.replace(
    CAUSVID,
    name="self-forcing",
    title="Self-Forcing, DMD",
    source="Self Forcing: Bridging the Train-Test Gap in Autoregressive Video Diffusion "
    "(2506.08009)",
    published=GenerationConfig(timesteps=_FOUR_STEPS, shift=5.0, warp=True),
    weights=HubFile(
        "gdhe17/Self-Forcing",
        "2f8b779212da279d212c22a509b66ad6552f350e",
        path="checkpoints/self_forcing_dmd.pt",
        entries=("generator_ema",),
    ),
)

SELF_FORCING_SID = dataclasses.replace(
    SELF_FORCING,
    name="self-forcing-sid",
    title="Self-Forcing, SiD",
    weights=dataclasses.replace(SELF_FORCING.weights, path="checkpoints/self_forcing_sid.pt"),
)

SELF_FORCING_GAN = dataclasses.replace(
    SELF_FORCING,
    name="self-forcing-gan",
    title="Self-Forcing, GAN",
    weights=dataclasses.replace(SELF_FORCING.weights, path="checkpoints/self_forcing_gan.pt"),
)

CAUSAL_FORCING = dataclasses.replace(
    SELF_FORCING,
    name="causal-forcing",
    title="Causal Forcing, chunkwise",
    source="Causal Forcing (2602.02214)",
    licence=APACHE,
    weights=HubFile(
        "zhuhz22/Causal-Forcing",
        "2f8eb8bb6eeb1238da9d13e5420d342a74d634a6",
        path="chunkwise/causal_forcing.pt",
        entries=("generator",),
    ),
)

CAUSAL_FORCING_FRAME = dataclasses.replace(
    CAUSAL_FORCING,
    name="causal-forcing-frame",
    title="Causal Forcing, framewise",
    published=dataclasses.replace(CAUSAL_FORCING.published, chunks=ChunkPattern(1, 1)),
    weights=dataclasses.replace(
        CAUSAL_FORCING.weights,
        path="framewise/causal_forcing.pt",
        entries=("generator_ema",),
    ),
)

CAUSAL_FORCING_2STEP = dataclasses.replace(
    CAUSAL_FORCING_FRAME,
    name="causal-forcing-2step",
    title="Causal Forcing++, framewise, 2 steps",
    source="Causal Forcing++ (2605.15141)",
    published=dataclasses.replace(
        CAUSAL_FORCING_FRAME.published,
        timesteps=(1000.0, 500.0),
        first_chunk_timesteps=_FOUR_STEPS,
    ),
    weights=dataclasses.replace(
        CAUSAL_FORCING_FRAME.weights, path="causal-forcing++/framewise-2step.pt"
    ),
)

CAUSAL_FORCING_1STEP = dataclasses.replace(
    CAUSAL_FORCING_2STEP,
    name="causal-forcing-1step",
    title="Causal Forcing++, framewise, 1 step",
    published=dataclasses.replace(CAUSAL_FORCING_2STEP.published, timesteps=(1000.0,)),
    weights=dataclasses.replace(
        CAUSAL_FORCING_FRAME.weights, path="causal-forcing++/framewise-1step.pt"
    ),
)

LONGLIVE = dataclasses.replace(
    SELF_FORCING,
    name="longlive",
    title="LongLive, for long and steered video",
    source="LongLive: Real-time Interactive Long Video Generation (2509.22622)",
    licence=dataclasses.replace(
        NON_COMMERCIAL, note="as the weights' card says; the code became Apache-2.0 in 2025-11"
    ),
    published=dataclasses.replace(SELF_FORCING.published, window=12, sink=3),
    weights=HubFile(
        "Efficient-Large-Model/LongLive-1.3B",
        "cda9138d93872ef109d9a74c270184eb3a5acc6e",
        path="models/longlive_base.pt",
        entries=("generator", "generator_ema", "model"),
    ),
    lora=HubFile(
        "Efficient-Large-Model/LongLive-1.3B",
        "cda9138d93872ef109d9a74c270184eb3a5acc6e",
        path="models/lora.pt",
        entries=("generator_lora", FLAT),
    ),
    notes="Trained with its window, sink and recache hand-overs: change prompts with `recache`. "
    "The sink follows the window, as in the published endless mode; the published default leaves "
    "it in place and ends after 240 s.",
)

REWARD_FORCING = dataclasses.replace(
    SELF_FORCING,
    name="reward-forcing",
    title="Reward Forcing",
    source="Reward Forcing (2512.04678)",
    licence=Licence(
        "not stated for the weights",
        "https://huggingface.co/JaydenLu666/Reward-Forcing-T2V-1.3B",
        False,
        note="the code is Apache-2.0; ask the authors before commercial use",
    ),
    published=dataclasses.replace(SELF_FORCING.published, window=9, sink=3, sink_decay=0.999),
    weights=HubFile(
        "JaydenLu666/Reward-Forcing-T2V-1.3B",
        path="rewardforcing.pt",
        entries=(FLAT, "generator_ema", "generator"),
    ),
    notes="Frames that leave the window are blended into the sink, as published; its moving "
    "average is kept in float32 here, as a share of 0.001 is mostly rounded away in the bfloat16 "
    "of the published sampler.",
)

STREAMDIFFUSION_V2 = dataclasses.replace(
    SELF_FORCING,
    name="streamdiffusion-v2",
    title="StreamDiffusionV2, video to video",
    source="StreamDiffusionV2 (2511.07399)",
    licence=APACHE,
    published=GenerationConfig(
        timesteps=(700.0, 500.0),
        shift=8.0,
        warp=False,
        sampler="history",
        chunks=ChunkPattern(first=2, rest=1),
        window=6,
        sink=3,
        source_time_offset=100.0,
    ),
    weights=HubFile(
        "jerryfeng/StreamDiffusionV2",
        "2373eb2b39278b3a1aa174964a724ee78ead96f0",
        path="wan_causal_dmd_v2v/model.pt",
        entries=("generator", "generator_ema", "state_dict", FLAT),
    ),
    modes=("video",),
    notes="Steps are the first two of the published 700, 500, 400, 200. Every step has a cache of "
    "its own and no chunk is passed clean, as published; but the sink is remembered clean and "
    "stays, where the published one is replaced when the scene changes.",
)

KREA_14B = dataclasses.replace(
    SELF_FORCING,
    name="krea-14b",
    title="Krea Realtime 14B",
    source="https://www.krea.ai/blog/krea-realtime-14b",
    licence=APACHE,
    published=GenerationConfig(
        timesteps=(1000.0, 937.0, 833.0, 625.0),
        shift=5.0,
        warp=False,
        sampler="recompute",
        window=6,
    ),
    weights=HubFile(
        "krea/krea-realtime-video",
        "6b5d204f9d14c3c3a59608e49d1da7fad90daf8d",
        path="krea-realtime-video-14b.safetensors",
        entries=(FLAT,),
    ),
    transformer=TransformerSize(num_layers=40, num_attention_heads=40, ffn_dim=13824),
    notes="The keys of the three context frames are computed anew before every chunk, as "
    "published; its optional attention bias on the past is left out. Needs 40 GB and more.",
)

PRESETS: dict[str, Preset] = {
    preset.name: preset
    for preset in (
        POCKET,
        POCKET_2,
        SELF_FORCING,
        CAUSAL_FORCING,
        CAUSAL_FORCING_FRAME,
        CAUSAL_FORCING_2STEP,
        CAUSAL_FORCING_1STEP,
        LONGLIVE,
        CAUSVID,
        CAUSVID_4STEP,
        SELF_FORCING_SID,
        SELF_FORCING_GAN,
        REWARD_FORCING,
        STREAMDIFFUSION_V2,
        KREA_14B,
    )
}
