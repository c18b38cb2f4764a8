"""What is claimed of attention layers that descend on next-step losses, each claim with a check."""

import numpy as np
import torch
from torch import Tensor

from icl_lessons.declare import Evidence, claim, passed, result_of, words
from icl_lessons.measures.agreement import RELATIVE_ERROR, relative_error
from icl_lessons.mesa_optimization.experiments.sequence_construction import (
    METHODS,
    SequenceConstructionsResult,
)
from icl_lessons.mesa_optimization.preconditioned_sequence import (
    one_step_attention,
    preconditioned_attention,
)
from icl_lessons.mesa_optimization.sequence_construction import (
    next_step_descent,
    next_step_tokens,
    one_step_weights,
    online_predictions,
    previous_states,
    stacked_tokens,
    stacked_weights,
    window_transition,
    windows,
)
from icl_lessons.models.attention import causal_mask, linear_attention
from icl_lessons.runtime import Scale, seeded
from icl_lessons.tasks.dynamics import Dynamics

PAPER, PAGE = "vonoswald2023uncovering", "mesa_optimization/sequence_models"


def _result(scale: Scale) -> SequenceConstructionsResult:
    return result_of("sequence_constructions", scale)


def random_sequences(count: int, *, seed: int):
    """Noisy sequences of random sizes, with a matrix, a step size and a ``lambda`` for each."""
    generator = seeded(seed)
    normal = {"generator": generator, "dtype": torch.float64}
    for _ in range(count):
        d, length = (int(torch.randint(1, most, (), generator=generator)) for most in (7, 15))
        law = Dynamics(d=d, noise_std=0.3)
        states = law.sample(3, length, **normal).states
        step_size, strength = (0.05 + torch.rand(2, **normal)).tolist()
        yield states, torch.randn(d, d, **normal), 0.1 * step_size, 3 * strength


def _by_layers(tokens: Tensor, weights, steps: int, mask) -> Tensor:
    for _ in range(steps):
        tokens = linear_attention(tokens, *weights, mask)
    return tokens


@claim(
    "vonoswald2023b-proposition-1",
    paper=PAPER,
    where="Proposition 1",
    kind="identity",
    says="One causal linear attention layer takes one gradient step on the sum of all next-step "
    "losses so far, at every position at once.",
    chapter=PAGE,
)
def proposition_1(scale: Scale) -> Evidence:
    worst = 0.0
    for states, start, step_size, _ in random_sequences(40, seed=51):
        d, length = states.shape[2], states.shape[1]
        tokens = next_step_tokens(states, start)
        after = _by_layers(tokens, one_step_weights(d, step_size, start), 1, causal_mask(length))
        expected = next_step_descent(states, step_size, 1, start)[1]
        worst = max(worst, relative_error(after[..., :d], expected))
        worst = max(worst, relative_error(after[..., d:], tokens[..., d:]))
    return Evidence(
        measured=worst,
        bound=1e-12,
        unit=RELATIVE_ERROR,
        note="40 random sizes with random initial weights; the state slots are left as they were.",
    )


@claim(
    "vonoswald2023b-binding-layer",
    paper=PAPER,
    where="two-stage circuit: token binding, then optimisation",
    kind="identity",
    says="A first layer that copies the state before makes these tokens from raw states.",
    chapter=PAGE,
)
def binding(scale: Scale) -> Evidence:
    worst = 0.0
    for states, start, step_size, _ in random_sequences(25, seed=52):
        model = one_step_attention(states.shape[2], states.shape[1], step_size, start)
        expected = next_step_descent(states, step_size, 1, start)[1]
        worst = max(worst, relative_error(model(states), expected))
        bound = model.slot_path(states, 2)[1]
        worst = max(worst, relative_error(bound, previous_states(states)))
    return Evidence(
        measured=worst,
        bound=1e-12,
        unit=RELATIVE_ERROR,
        note="A linear head over one-hot positions; the first token receives nothing.",
    )


@claim(
    "vonoswald2023b-softmax-binding",
    paper=PAPER,
    where="two-stage circuit: attention of the first layer",
    kind="experiment",
    says="A softmax binds as well, up to an error exponential in its sharpness.",
    chapter=PAGE,
)
def softmax_binding(scale: Scale) -> Evidence:
    states = Dynamics(d=3).sample(8, 10, generator=seeded(53), dtype=torch.float64).states
    expected = next_step_descent(states, 0.05, 1)[1]
    sharpness = np.array([10.0, 14.0, 18.0, 22.0])
    errors = [
        relative_error(
            one_step_attention(3, 10, 0.05, copy="softmax", sharpness=float(c))(states), expected
        )
        for c in sharpness
    ]
    slope = np.polyfit(sharpness, np.log(errors), 1)[0]
    return Evidence(
        measured=float(slope + 1),
        bound=0.02,
        comparison="within",
        unit="slope of log error against sharpness, plus 1",
        note=f"Error {errors[0]:.0e} at a sharpness of 10, {errors[-1]:.0e} at 22. An empty token "
        "in front receives what the first state has nothing to look back at.",
    )


@claim(
    "vonoswald2023b-causality",
    paper=PAPER,
    where="Propositions 1 and 2",
    kind="identity",
    says="What a constructed model says at one position depends on nothing after it.",
    chapter=PAGE,
)
def causality(scale: Scale) -> Evidence:
    worst = 0.0
    for states, start, step_size, strength in random_sequences(12, seed=54):
        d, length = states.shape[2], states.shape[1]
        changed = states.clone()
        changed[:, length // 2 :] += 1.0
        for model in (
            one_step_attention(d, length, step_size, start),
            preconditioned_attention(d, length, 3, strength, step_size=step_size),
        ):
            moved = (model(changed) - model(states))[:, : length // 2].abs()
            worst = max(worst, moved.max().item() if moved.numel() else 0.0)
    return Evidence(
        measured=worst, bound=0.0, unit="largest change before the changed position, float64"
    )


@claim(
    "vonoswald2023b-same-layer-again",
    paper=PAPER,
    where="Proposition 1, applied repeatedly",
    kind="identity",
    says="The same layer applied K times is one gradient step of K times the size.",
    chapter=PAGE,
)
def same_layer_again(scale: Scale) -> Evidence:
    worst = 0.0
    for steps, (states, start, step_size, _) in enumerate(random_sequences(20, seed=55), start=1):
        d, mask = states.shape[2], causal_mask(states.shape[1])
        weights = one_step_weights(d, step_size, start)
        after = _by_layers(next_step_tokens(states, start), weights, steps % 5 + 1, mask)
        expected = next_step_descent(states, step_size * (steps % 5 + 1), 1, start)[1]
        worst = max(worst, relative_error(after[..., :d], expected))
    return Evidence(
        measured=worst,
        bound=1e-11,
        unit=RELATIVE_ERROR,
        note="Its values are the residuals of the initial weights, whatever has been computed.",
    )


@claim(
    "vonoswald2023b-stack-that-sees-all",
    paper=PAPER,
    where="Proposition 1, stacked",
    kind="identity",
    says="Layers that also update the residuals are K gradient steps if every token sees all.",
    chapter=PAGE,
)
def stack_that_sees_all(scale: Scale) -> Evidence:
    worst = 0.0
    for steps, (states, _, step_size, _) in enumerate(random_sequences(20, seed=56), start=1):
        d = states.shape[2]
        weights = stacked_weights(d, step_size)
        after = _by_layers(stacked_tokens(states), weights, steps % 5 + 1, None)
        expected = next_step_descent(states, step_size, steps % 5 + 1)[-1]
        worst = max(worst, relative_error(after[:, -1, :d], expected[:, -1]))
    return Evidence(measured=worst, bound=1e-11, unit=RELATIVE_ERROR, note="The last position.")


@claim(
    "vonoswald2023b-stacking-is-biased",
    paper=PAPER,
    where="remark before Proposition 2",
    kind="experiment",
    says="Under a causal mask two such layers are not two gradient steps.",
    chapter=PAGE,
)
def stacking_is_biased(scale: Scale) -> Evidence:
    gap = _result(scale).gap
    return Evidence(
        measured=gap.min().item(),
        bound=1e-3,
        comparison="at least",
        unit="distance of the two predictions over the size of the second, smallest seed",
        samples=passed(gap >= 1e-3),
        note="At the best step size of one step. Each residual is corrected by its own past alone.",
    )


@claim(
    "vonoswald2023b-biased-is-worse",
    paper=PAPER,
    where="remark before Proposition 2; Ding et al. 2023 on causal masks",
    kind="dispute",
    says="Being biased, stacked causal steps predict worse than as many gradient steps.",
    chapter=PAGE,
)
def biased_is_worse(scale: Scale) -> Evidence:
    result = _result(scale)
    descent, stacked = (result.loss[METHODS.index(name)] for name in ("descent", "stacked"))
    deep = result.depths >= 2
    ratio = (stacked / descent)[:, deep]
    return Evidence(
        measured=ratio.mean().item(),
        bound=1.0,
        comparison="at least",
        unit="loss of the stack over that of gradient steps, mean over depths from 2 on",
        samples=passed(ratio.mean(1) >= 1),
        note=f"Each with the step size that suits its depth ({', '.join(map(str, result.depths))}):"
        f" stack {words(stacked.mean(0))}; steps {words(descent.mean(0))}.",
    )


@claim(
    "vonoswald2023b-stack-is-online",
    paper=PAPER,
    where="remark before Proposition 2; Ding et al. 2023 on causal masks",
    kind="identity",
    says="On states of length 1, as many causal steps of size 1 as states are one online pass that "
    "fits each transition as it comes.",
    chapter=PAGE,
)
def stack_is_online(scale: Scale) -> Evidence:
    worst = 0.0
    for states, *_ in random_sequences(20, seed=63):
        states = states / states.norm(dim=-1, keepdim=True)
        length = states.shape[1]
        weights = stacked_weights(states.shape[2], 1.0)
        tokens = _by_layers(stacked_tokens(states), weights, length, causal_mask(length))
        expected = online_predictions(states)
        worst = max(worst, relative_error(tokens[..., : states.shape[2]], expected))
    return Evidence(
        measured=worst,
        bound=1e-10,
        unit=RELATIVE_ERROR,
        note="20 random sizes. At other lengths and steps the stack tends to it with depth. Steps "
        "may be as long as one state allows, not as short as the whole sequence demands.",
    )


@claim(
    "survey-one-step-share",
    paper=PAPER,
    where="small version: reference losses",
    kind="experiment",
    says="The best single step closes less than half of the gap to least squares.",
    chapter=PAGE,
)
def one_step_share(scale: Scale) -> Evidence:
    result = _result(scale)
    gap = result.zero_loss - result.least_squares_loss
    share = (result.zero_loss - result.one_step_loss) / gap
    return Evidence(
        measured=share.mean().item(),
        bound=0.5,
        unit="share of the gap in loss between predicting 0 and least squares",
        samples=passed(share <= 0.5),
        note=f"Losses: predicting 0 {result.zero_loss.mean():.2f}, one step "
        f"{result.one_step_loss.mean():.2f}, least squares {result.least_squares_loss.mean():.2f}. "
        "A first run, averaged over other positions: 2.24, 1.34, 0.195.",
    )


@claim(
    "vonoswald2023b-window-transition",
    paper=PAPER,
    where="partially observed dynamics",
    kind="identity",
    says="Where a state is seen in part, long enough windows follow one another linearly.",
    chapter=PAGE,
)
def partial_observation(scale: Scale) -> Evidence:
    worst, short = 0.0, np.inf
    for hidden, d in ((4, 2), (5, 2), (6, 3), (7, 3)):
        law = Dynamics(d=d, hidden=hidden, family="partially_observed", noise_std=0.0)
        batch = law.sample(10, 14, generator=seeded(62), dtype=torch.float64)
        for size in (-(-hidden // d), -(-hidden // d) - 1):
            z = windows(batch.states, size)
            phi = window_transition(batch.readout, batch.transition, size)
            error = relative_error(z[:, :-1] @ phi.mT, z[:, 1:])
            if size * d >= hidden:
                worst = max(worst, error)
            else:
                short = min(short, error)
    return Evidence(
        measured=worst,
        bound=1e-10,
        unit=RELATIVE_ERROR,
        note="Without noise, windows of the hidden size over the seen size, rounded up. One state "
        f"less, and the error is at least {short:.2f}.",
    )
