"""Cases of training: distribution matching and ODE regression, down to every gradient.

The losses are `causvid.training.losses`; the networks, the order of the draws and the optimiser's
settings are those of the reference.
"""

import copy

import torch
from torch import Tensor, nn

from causvid.generation.geometry import ChunkPattern
from causvid.generation.schedule import (
    FlowSchedule,
    add_noise,
    clean_from_velocity,
    velocity_from_clean,
)
from causvid.model.attention import block_causal_mask
from causvid.model.checkpoint import transformer_names
from causvid.model.transformer import CausalWanTransformer
from causvid.training.losses import (
    NoisyInput,
    distribution_matching_gradient,
    distribution_matching_loss,
    flow_matching_loss,
    from_data,
    from_trajectory,
    guided,
    per_frame,
    regression_loss,
    same_within_chunks,
    score_timesteps,
    table_sigmas,
)
from tests.parity.case import Case, Mismatch
from tests.parity.folder import ReferenceFolder
from tests.parity.keys import name_map
from tests.parity.transformer import times_of

# Of both published configurations; a case may state others.
_OPTIMISER = {"lr": 2e-6, "beta1": 0.9, "beta2": 0.999, "weight_decay": 0.01, "clip_norm": 10.0}


class _Setup:
    """The networks of a case and what they share."""

    def __init__(self, case: Case, folder: ReferenceFolder):
        self.case = case
        self.folder = folder
        self.schedule = FlowSchedule(folder.shift(case))
        size = folder.frames_per_chunk(case)
        self.chunks = ChunkPattern(size, size)

    def network(self, role: str) -> CausalWanTransformer:
        return self.folder.transformer(self.folder.weights(self.case, role))

    def is_causal(self, role: str) -> bool:
        task = self.case.setting(f"{role}_task", "causal_video")
        return task.startswith("causal")

    def predict(
        self, model: CausalWanTransformer, given: NoisyInput, text: Tensor, *, causal: bool
    ) -> Tensor:
        """Clean latents, as the σ of the table's nearest entry says."""
        mask = None
        if causal:
            mask = block_causal_mask(self.chunks.sizes(given.latents.shape[1]))
        velocity = model(given.latents, times_of(given.timesteps), text, frame_mask=mask)
        return clean_from_velocity(given.latents, velocity, self.sigmas(given.timesteps))

    def sigmas(self, timesteps: Tensor) -> Tensor:
        return per_frame(table_sigmas(timesteps, self.schedule))

    def shared(self, drawn: Tensor, *, causal: bool) -> Tensor:
        """One draw for every chunk, or for the clip where all frames see each other."""
        if causal:
            return same_within_chunks(drawn, self.chunks)
        return drawn[:, :1].expand_as(drawn)

    def check_gradients(self, prefix: str, model: nn.Module) -> None:
        """Every `{prefix}param_grad.*`, named as the official parameters are."""
        names = self._names(model)
        gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
        for match in self.case.matching(rf"{prefix}param_grad\.(.+)"):
            self.case.check(match.string, gradients[names[match[1]]])

    def check_step(self, prefix: str, model: nn.Module) -> None:
        """One optimiser step: the parameters after it, and the far smaller changes it made."""
        settings = {name: self.case.settings.get(name, value) for name, value in _OPTIMISER.items()}
        names = self._names(model)
        before = {name: p.detach().clone() for name, p in model.named_parameters()}
        norm = nn.utils.clip_grad_norm_(model.parameters(), settings["clip_norm"])
        self.case.check(f"{prefix}grad_norm", norm)
        torch.optim.AdamW(
            model.parameters(),
            lr=settings["lr"],
            betas=(settings["beta1"], settings["beta2"]),
            weight_decay=settings["weight_decay"],
        ).step()
        after = dict(model.named_parameters())
        for match in self.case.matching(rf"{prefix}after_step\.(.+)"):
            name, expected = names[match[1]], self.case[match.string]
            self.case.check(match.string, after[name])
            change = (expected - before[name]).abs().max()
            # Both sides are rounded once, to half a unit in their last place.
            rounding = expected.abs() * torch.finfo(expected.dtype).eps
            apart = ((after[name] - expected).abs() - rounding).clamp(min=0).max()
            self.case.note(f"change of {match.string}", (apart / change).item())

    def _names(self, model: nn.Module) -> dict[str, str]:
        """Official parameter name → ours."""
        official = self.folder.settings(self.folder.weights(self.case, "generator"))["tensors"]
        return name_map(official, transformer_names)


def dmd(case: Case, folder: ReferenceFolder) -> None:
    """One generator step and one critic step of distribution matching distillation."""
    if case.setting("backward_simulation", False):
        raise Mismatch("inputs from the student's own rollouts are not covered")
    setup = _Setup(case, folder)
    student, critic = setup.network("generator"), setup.network("fake_score")
    _generator_step(setup, copy.deepcopy(student), critic)
    critic.zero_grad()
    _critic_step(setup, student, critic)


def _student_pass(
    setup: _Setup, student: CausalWanTransformer, draws: list[Tensor], step: str, output: str
) -> Tensor:
    """The student's prediction from noised data; consumes one draw per step and the choice."""
    case = setup.case
    steps = case["denoising_step_list"]
    causal = setup.is_causal("generator")
    noises = torch.stack([draws.pop(0) for _ in steps])
    choice = setup.shared(draws.pop(0).long(), causal=causal)
    sigmas = table_sigmas(steps, setup.schedule)
    given = from_data(case["clean_latent"], noises, steps, choice, sigmas)
    case.check(f"{step}.input_noisy", given.latents)
    case.check(f"{step}.input_timestep", given.timesteps)
    predicted = setup.predict(student, given, case["prompt_embeds"], causal=causal)
    case.check(f"{step}.{output}", predicted)
    return predicted


def _renoised(
    setup: _Setup, generated: Tensor, draws: list[Tensor], role: str
) -> tuple[NoisyInput, Tensor]:
    """Generated latents at a drawn score timestep, and the noise put in; consumes two draws."""
    drawn = setup.shared(draws.pop(0), causal=setup.is_causal(role))
    bounds = setup.case.setting("min_step"), setup.case.setting("max_step")
    timesteps = score_timesteps(drawn, setup.schedule.shift, bounds)
    noise = draws.pop(0)
    if draws:
        raise Mismatch(f"{len(draws)} draws are left over")
    return NoisyInput(add_noise(generated, noise, setup.sigmas(timesteps)), timesteps), noise


def _generator_step(
    setup: _Setup, student: CausalWanTransformer, critic: CausalWanTransformer
) -> None:
    case, text = setup.case, setup.case["prompt_embeds"]
    draws = case.draws("gen.")
    with torch.enable_grad():
        generated = _student_pass(setup, student, draws, "gen", "pred_x0")
    given, _ = _renoised(setup, generated.detach(), draws, "real")
    case.check("gen.score_timestep", given.timesteps)
    case.check("gen.score_noisy", given.latents)

    fake = setup.predict(critic, given, text, causal=setup.is_causal("fake"))
    case.check("gen.pred_fake", fake)
    teacher = setup.network("real_score")
    conditional, unconditional = (
        setup.predict(teacher, given, embeds, causal=setup.is_causal("real"))
        for embeds in (text, case["negative_prompt_embeds"])
    )
    # published as the usual scale less one
    scale = 1 + case.setting("real_guidance_scale")
    real = guided(conditional, unconditional, scale)
    case.check("gen.pred_real", real)

    gradient = distribution_matching_gradient(generated.detach(), real, fake)
    case.check("gen.grad", gradient)
    case.check("gen.grad_abs_mean", gradient.abs().mean())
    with torch.enable_grad():
        loss = distribution_matching_loss(generated, gradient)
    loss.backward()
    case.check("gen.loss", loss)
    setup.check_gradients(r"gen\.", student)
    setup.check_step("gen.", student)


def _critic_step(
    setup: _Setup, student: CausalWanTransformer, critic: CausalWanTransformer
) -> None:
    case = setup.case
    draws = case.draws("critic.")
    generated = _student_pass(setup, student, draws, "critic", "generated")
    given, noise = _renoised(setup, generated, draws, "fake")
    case.check("critic.timestep", given.timesteps)
    case.check("critic.noisy", given.latents)
    with torch.enable_grad():
        predicted = setup.predict(
            critic, given, case["prompt_embeds"], causal=setup.is_causal("fake")
        )
        sigmas = setup.sigmas(given.timesteps)
        velocity = velocity_from_clean(given.latents, predicted, sigmas)
        loss = flow_matching_loss(velocity, generated, noise)
    loss.backward()
    case.check("critic.pred_x0", predicted)
    case.check("critic.loss", loss)
    setup.check_gradients(r"critic\.", critic)


def ode_regression(case: Case, folder: ReferenceFolder) -> None:
    """Regression of a causal student onto the end of stored teacher trajectories."""
    setup = _Setup(case, folder)
    student, trajectory = setup.network("generator"), case["ode_latent"]
    steps = torch.tensor(case.setting("denoising_step_list"))
    (drawn,) = case.draws()
    given = from_trajectory(trajectory, steps, same_within_chunks(drawn, setup.chunks))
    case.check("noisy_input", given.latents)
    case.check("timestep", given.timesteps)
    target = trajectory[:, -1]
    with torch.enable_grad():
        predicted = setup.predict(student, given, case["prompt_embeds"], causal=True)
        loss = regression_loss(predicted, target, given.timesteps)
    loss.backward()
    case.check("pred_x0", predicted)
    case.check("loss", loss)
    case.check("unnormalized_loss", (predicted - target).square().mean(dim=(1, 2, 3, 4)))
    setup.check_gradients("", student)
