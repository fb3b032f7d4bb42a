"""The losses of the recipe as plain functions on tensors.

Nothing here samples, runs a network or knows a stage: noise, timesteps and predictions come in,
losses and targets go out, so every number can be compared with a reference run. Latents are
`[b, f, c, h, w]`; times that count from 0 to 1000 are called timesteps.

Sources: flow matching, arXiv 2210.02747; distribution matching distillation (DMD), arXiv
2311.18828 section 3 and 2405.14867 section 4; the causal recipe, arXiv 2412.07772 section 4.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from causvid.generation.geometry import ChunkPattern
from causvid.generation.schedule import TABLE_SIZE, FlowSchedule, add_noise

SCORE_RANGE = (20.0, 980.0)  # scores are unreliable at the ends: 2 % and 98 % of 1000


def flow_matching_loss(velocity: Tensor, clean: Tensor, noise: Tensor) -> Tensor:
    """Mean squared error against the velocity `noise - clean`.

    The teacher minimises it on data, the critic (fake score) on the student's own output.
    """
    return F.mse_loss(velocity.float(), (noise - clean).float())


def flicker_loss(velocity: Tensor, clean: Tensor, noise: Tensor, counted: Tensor) -> Tensor:
    """Mean square of how much the velocity's error changes from frame to frame.

    Added to `flow_matching_loss` it is the same regression in another metric: a quadratic form of
    the error `e`, `|e|² + λ |Δe|²`, is least at the conditional mean whatever λ is, so the model
    that is sought stays the same. What is left of the error then goes less into flicker, which is
    what an eye sees first.

    Args:
        velocity, clean, noise: `[b, f, c, h, w]`, f of 2 or more.
        counted: bool `[b, f]`; changes between two counted frames count.
    """
    change = (velocity.float() - (noise - clean).float()).diff(dim=1)
    return change[counted[:, 1:] & counted[:, :-1]].square().mean()


def regression_loss(predicted: Tensor, target: Tensor, timesteps: Tensor) -> Tensor:
    """Mean squared error over the frames that were noisy at all (ODE regression).

    Args:
        predicted, target: clean latents `[b, f, c, h, w]`.
        timesteps: `[b, f]`; frames at timestep 0 were given clean and carry no lesson.
    """
    noisy = timesteps != 0
    return F.mse_loss(predicted[noisy], target[noisy])


def guided(conditional: Tensor, unconditional: Tensor, scale: float) -> Tensor:
    """Classifier-free guidance (arXiv 2207.12598) in the usual scale, 1 for none.

    The published recipes state `scale - 1`.
    """
    return unconditional + scale * (conditional - unconditional)


def distribution_matching_gradient(generated: Tensor, real: Tensor, fake: Tensor) -> Tensor:
    """The direction from what the teacher believes to what the critic believes.

    `(fake - real) / mean|generated - real|`, the mean taken per sample (arXiv 2311.18828,
    equations 7 and 8). Where the normaliser vanishes the gradient is zero.

    Args:
        generated: the student's clean prediction; `real`, `fake`: clean predictions of teacher
            and critic from a re-noised copy of it. All `[b, f, c, h, w]`.
    """
    scale = (generated - real).abs().mean(dim=(1, 2, 3, 4), keepdim=True)
    return ((fake - real) / scale).nan_to_num()


def in_flicker_metric(gradient: Tensor, weight: float) -> Tensor:
    """`(1 + λ ΔᵀΔ) gradient`, Δ the change from frame to frame: `gradient` in the metric of
    `flicker_loss`. Where it vanishes, and only there, `gradient` does.

    Args:
        gradient: `[b, f, c, h, w]`.
    """
    change = gradient.diff(dim=1)
    before, after = (0, 0) * 3 + (1, 0), (0, 0) * 3 + (0, 1)
    return gradient + weight * (F.pad(change, before) - F.pad(change, after))


def distribution_matching_loss(generated: Tensor, gradient: Tensor) -> Tensor:
    """A float64 scalar whose derivative by `generated` is `gradient / generated.numel()`."""
    target = (generated.double() - gradient.double()).detach()
    return 0.5 * F.mse_loss(generated.double(), target)


def score_timesteps(
    drawn: Tensor, shift: float, bounds: tuple[float, float] = SCORE_RANGE
) -> Tensor:
    """Integers drawn from 0 … 999 as timesteps of the scores: shifted, then clamped."""
    return (FlowSchedule(shift).shifted(drawn.float() / 1000) * 1000).clamp(*bounds)


def table_sigmas(timesteps: Tensor, schedule: FlowSchedule) -> Tensor:
    """σ of each timestep: that of the nearest row of the training table; same shape, float32."""
    table = torch.as_tensor(schedule.table, dtype=torch.float64, device=timesteps.device)
    rows = (timesteps.double()[..., None] - table * TABLE_SIZE).abs().argmin(dim=-1)
    return table[rows].float()


def per_frame(values: Tensor) -> Tensor:
    """`[b, f]` numbers, shaped to multiply latents `[b, f, c, h, w]`."""
    return values[:, :, None, None, None]


def same_within_chunks(drawn: Tensor, chunks: ChunkPattern) -> Tensor:
    """Give every frame of a chunk the number that its first frame drew. `[b, f]` → `[b, f]`."""
    first = [chunks.start(chunks.chunk_of(frame)) for frame in range(drawn.shape[1])]
    return drawn[:, first]


class NoisyInput(NamedTuple):
    """What a few-step student is shown: latents `[b, f, c, h, w]` and timesteps `[b, f]`."""

    latents: Tensor
    timesteps: Tensor


def from_data(
    clean: Tensor, noises: Tensor, steps: Tensor, choice: Tensor, sigmas: Tensor | None = None
) -> NoisyInput:
    """Diffusion-forcing input: each frame of a real clip at the step that `choice` names.

    Args:
        clean: `[b, f, c, h, w]`.
        noises: one draw per step, `[s, b, f, c, h, w]`; that of a step at timestep 0 is unused.
        steps: the student's timesteps `[s]`.
        choice: `[b, f]` indices into `steps`, equal within chunks (`same_within_chunks`).
        sigmas: noise levels of the steps `[s]` where they are not the steps themselves (see
            `table_sigmas`).
    """
    timesteps = steps[choice]
    picked = _pick(noises, choice)
    levels = (steps if sigmas is None else sigmas)[choice]
    noisy = add_noise(clean, picked, per_frame(levels))
    return NoisyInput(torch.where(per_frame(timesteps == 0), clean, noisy), timesteps)


def from_trajectory(trajectory: Tensor, steps: Tensor, choice: Tensor) -> NoisyInput:
    """Each frame of a stored teacher trajectory at the step that `choice` names.

    Args:
        trajectory: `[b, s, f, c, h, w]`, noisiest first; `steps`: its timesteps `[s]`.
        choice: `[b, f]` as for `from_data`.
    """
    return NoisyInput(_pick(trajectory.transpose(0, 1), choice), steps[choice])


def _pick(stack: Tensor, choice: Tensor) -> Tensor:
    """`stack[choice[b, f], b, f]` for a stack `[s, b, f, …]`."""
    batch = torch.arange(choice.shape[0], device=choice.device)[:, None]
    frame = torch.arange(choice.shape[1], device=choice.device)[None]
    return stack[choice, batch, frame]
