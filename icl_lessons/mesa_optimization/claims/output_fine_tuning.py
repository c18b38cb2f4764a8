"""What is claimed of fine-tuning by outputs, each claim with a check."""

import copy

import torch

from icl_lessons.declare import Evidence, claim, passed, result_of, words
from icl_lessons.measures.agreement import RELATIVE_ERROR, relative_error
from icl_lessons.mesa_optimization.experiments.output_fine_tuning import OutputFineTuningResult
from icl_lessons.mesa_optimization.output_fine_tuning import (
    InnerThenReadout,
    inner_change,
    outside_change,
)
from icl_lessons.runtime import Scale, seeded
from icl_lessons.tasks.regression import LinearRegression

PAGE = "mesa_optimization/surgery"
SURVEY, GAP = "anonymous2024regression", "the RLHF gap"
GENTLE, HARD = "punish 1", "punish 30"


def _result(scale: Scale) -> OutputFineTuningResult:
    return result_of("output_fine_tuning", scale)


@claim(
    "survey-change-seen-from-outside",
    paper=SURVEY,
    where=GAP,
    kind="identity",
    says="Where the readout hands on the inner answer as it is, label influence shows the change "
    "of the inner metric exactly.",
    chapter=PAGE,
)
def change_from_outside(scale: Scale) -> Evidence:
    worst, generator = 0.0, seeded(81)
    for _ in range(25):
        d, n = (int(torch.randint(1, k, (), generator=generator)) for k in (6, 12))
        before = InnerThenReadout(d, 4, generator=generator).double()
        torch.nn.init.zeros_(before.write.weight)
        after = copy.deepcopy(before)
        with torch.no_grad():
            after.matrix += 0.1 * torch.randn(d, d, generator=generator)
        batch = LinearRegression(d=d).sample(60, n, generator=generator, dtype=torch.float64)
        inside = torch.tensor(inner_change(before.matrix, after.matrix), dtype=torch.float64)
        outside = torch.tensor(outside_change(before, after, batch), dtype=torch.float64)
        worst = max(worst, relative_error(outside, inside))
    return Evidence(measured=worst, bound=1e-10, unit=RELATIVE_ERROR, note="25 random models.")


@claim(
    "survey-outputs-reshaped",
    paper=SURVEY,
    where=GAP,
    kind="experiment",
    says="A reward on outputs makes forbidden outputs ten times rarer.",
    chapter=PAGE,
)
def outputs_reshaped(scale: Scale) -> Evidence:
    result = _result(scale)
    fall = result.forbidden_before / result.of("forbidden", GENTLE)
    return Evidence(
        measured=fall.min().item(),
        bound=10.0,
        comparison="at least",
        partial_bound=5.0,
        unit="share of forbidden outputs before over after, least of the seeds",
        samples=passed(fall >= 10),
        note=f"From {words(100 * result.forbidden_before)} % to "
        f"{words(100 * result.of('forbidden', GENTLE))} %; all weights are free to move.",
    )


@claim(
    "survey-inner-weights-stay",
    paper=SURVEY,
    where=GAP,
    kind="experiment",
    says="That fine-tuning leaves the weights of the inner learner within a tenth of what they "
    "were.",
    chapter=PAGE,
)
def inner_weights_stay(scale: Scale) -> Evidence:
    result = _result(scale)
    cosine, change, _ = result.of("inside", GENTLE).T
    return Evidence(
        measured=change.max().item(),
        bound=0.1,
        partial_bound=0.25,
        unit="|M' - M| / |M|, worst seed",
        samples=passed(change <= 0.1),
        note=f"{words(change)}, with cosines of {cosine.min():.5f} or more: M keeps its direction "
        "and shrinks a little while the readout makes up for it.",
    )


@claim(
    "survey-inner-update-stays",
    paper=SURVEY,
    where=GAP,
    kind="experiment",
    says="On prompts that the reward leaves alone, the inner update that outputs show stays.",
    chapter=PAGE,
)
def inner_update_stays(scale: Scale) -> Evidence:
    result = _result(scale)
    change = result.of("outside", GENTLE)[:, 1]
    return Evidence(
        measured=change.max().item(),
        bound=0.1,
        unit="relative change of the metric that label influence implies, worst seed",
        samples=passed(change <= 0.1),
        note=f"{words(change)}; of M itself {words(result.of('inside', GENTLE)[:, 1])}.",
    )


@claim(
    "survey-outputs-cannot-reach-inside",
    paper=SURVEY,
    where=GAP,
    kind="dispute",
    says="Training on outputs cannot reach the inner objective.",
    chapter=PAGE,
)
def cannot_reach(scale: Scale) -> Evidence:
    result = _result(scale)
    frozen, hard = (result.of("inside", name)[:, 1] for name in ("readout frozen", HARD))
    return Evidence(
        measured=frozen.min().item(),
        bound=0.1,
        unit="|M' - M| / |M| when the readout cannot move, least of the seeds",
        samples=passed(frozen <= 0.1),
        note=f"Readout frozen {words(frozen)}; all weights free and a punishment thirty times as "
        f"heavy {words(hard)}. Pressure goes where it is easiest, not where it cannot.",
    )


@claim(
    "survey-forbidden-returns",
    paper=SURVEY,
    where=GAP,
    kind="experiment",
    says="Labels four times as large bring forbidden outputs back after fine-tuning.",
    chapter=PAGE,
)
def forbidden_returns(scale: Scale) -> Evidence:
    result = _result(scale)
    share = result.of("scaled", GENTLE)
    return Evidence(
        measured=share.min().item(),
        bound=0.1,
        comparison="at least",
        unit="share of forbidden outputs at labels times four, least of the seeds",
        samples=passed(share >= 0.1),
        note=f"{words(share)}; before fine-tuning {words(result.scaled_before)}.",
    )


@claim(
    "survey-poisoned-step-shrinks",
    paper=SURVEY,
    where=GAP,
    kind="experiment",
    says="Where one label of each context is poisoned, training shrinks the inner step to its "
    "exact best.",
    chapter=PAGE,
)
def poisoned_step(scale: Scale) -> Evidence:
    result = _result(scale)
    left = result.of("inside", "poisoned, readout frozen")[:, 2]
    off = abs(left / result.exact_poisoned - 1)
    return Evidence(
        measured=off.max().item(),
        bound=0.1,
        unit="relative error of the step that is left, against the closed form, worst seed",
        samples=passed(off <= 0.1),
        note=f"Left of the step {words(left)}, exactly {result.exact_poisoned:.4f}; the readout "
        "is frozen. With a readout that moves, M gives up "
        f"{words(result.of('inside', 'poisoned')[:, 1])} and the readout the rest.",
    )


@claim(
    "survey-cosine-misses-shrinking",
    paper=SURVEY,
    where=GAP,
    kind="dispute",
    says="A cosine of 0.99 or more between weights before and after shows that the inner learner "
    "was left alone.",
    chapter=PAGE,
)
def cosine_misses(scale: Scale) -> Evidence:
    cosine, change, _ = _result(scale).of("inside", "poisoned, readout frozen").T
    same = cosine >= 0.99
    return Evidence(
        measured=change[same].min().item() if same.any() else float("nan"),
        bound=0.1,
        unit="|M' - M| / |M| at a cosine of 0.99 or more, least of the seeds",
        samples=passed(change[same] <= 0.1) if same.any() else None,
        note=f"Cosines of {cosine.min():.4f} or more, changes {words(change)}: labels were "
        "poisoned.",
    )


@claim(
    "survey-transformer-influence-stays",
    paper=SURVEY,
    where=GAP,
    kind="experiment",
    says="In a softmax Transformer, too, fine-tuning by outputs leaves the influence of labels "
    "on spared prompts within a tenth.",
    chapter=PAGE,
)
def transformer_influence(scale: Scale) -> Evidence:
    result = _result(scale)
    cosine, change, _ = result.of("model_influence", GENTLE).T
    fall = result.model_forbidden_before / result.of("model_forbidden", GENTLE)
    return Evidence(
        measured=change.max().item(),
        bound=0.1,
        partial_bound=0.25,
        unit="relative change of d y_hat / d y_i over all entries, worst seed",
        samples=passed(change <= 0.1),
        note=f"Changes {words(change)} at cosines {words(cosine)}, while forbidden outputs became "
        f"{words(fall)} times rarer. The closest one-step metric moved by "
        f"{words(result.of('model_outside', GENTLE)[:, 1])} only, but explains "
        f"{words(result.of('model_r_squared', GENTLE))} of the influence.",
    )


@claim(
    "survey-transformer-still-knows",
    paper=SURVEY,
    where=GAP,
    kind="experiment",
    says="What the fine-tuned Transformer no longer says can be read from its last stream by a "
    "linear probe.",
    chapter=PAGE,
)
def transformer_knows(scale: Scale) -> Evidence:
    result = _result(scale)
    read = result.of("model_probe", GENTLE)
    before, said = result.of("model_output_error", GENTLE).T
    return Evidence(
        measured=read.max().item(),
        bound=0.1,
        unit="normalised error of the truth, read by a probe, worst seed",
        samples=passed(read <= 0.1),
        note=f"Read with {words(read)}, said with {words(said)}; before fine-tuning read with "
        f"{words(result.model_probe_before)} and said with {words(before)}.",
    )


@claim(
    "survey-transformer-drift",
    paper=SURVEY,
    where=GAP,
    kind="dispute",
    says="It is the reward that changes the influence of labels in the Transformer: as many "
    "further steps without a reward change it half as much or less.",
    chapter=PAGE,
)
def transformer_drift(scale: Scale) -> Evidence:
    result = _result(scale)
    rewarded, drift, query = (
        result.of("model_influence", name)[:, 1]
        for name in (GENTLE, "no reward", "no reward, query")
    )
    share = drift / rewarded
    return Evidence(
        measured=share.min().item(),
        bound=0.5,
        unit="relative change of d y_hat / d y_i without a reward over that with it, least of the "
        "seeds",
        samples=passed(share <= 0.5),
        note=f"Shares {words(share)}: changes of {words(drift)} on the loss of pretraining and of "
        f"{words(query)} on the same at the query alone, against {words(rewarded)} under the "
        "reward, all from the same weights, on the same prompts, with the same optimiser and "
        f"steps. Forbidden stay {words(result.of('model_forbidden', 'no reward'))} of outputs. "
        f"Weights of the blocks change by {words(result.of('model_weight_change', GENTLE)[:, 0])} "
        f"under the reward and by {words(result.of('model_weight_change', 'no reward')[:, 0])} "
        "without.",
    )
