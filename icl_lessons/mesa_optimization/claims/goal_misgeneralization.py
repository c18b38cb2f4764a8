"""What is claimed of goal misgeneralisation in an in-context learner, each with a check."""

import torch

from icl_lessons.declare import Evidence, claim, passed, result_of, words
from icl_lessons.measures.agreement import RELATIVE_ERROR, relative_error
from icl_lessons.measures.label_influence import implied_preconditioner
from icl_lessons.mesa_optimization.experiments.goal_misgeneralization import (
    GoalMisgeneralizationResult,
)
from icl_lessons.mesa_optimization.goal_misgeneralization import (
    MergedLinearAttention,
    population_layer,
    population_loss,
    population_weights,
)
from icl_lessons.runtime import Scale, seeded
from icl_lessons.tasks.spurious_feature import SpuriousFeature

PAGE = "mesa_optimization/learned_optimizers"
HUBINGER, PROXY = "hubinger2019risks", "section 3, proxy alignment; the toy is the course's"
ERROR = "E squared error (no half), target variance 1"


def _result(scale: Scale) -> GoalMisgeneralizationResult:
    return result_of("goal_misgeneralization", scale)


def _prompts(count: int, *, seed: int):
    """Tasks of random sizes with prompts, in float64."""
    generator = seeded(seed)
    for _ in range(count):
        d, n, queries = (int(torch.randint(1, k, (), generator=generator)) for k in (7, 15, 4))
        noise, stray = torch.rand(2, generator=generator).tolist()
        task = SpuriousFeature(d=d, noise_std=noise, cue_noise=stray, n_query=queries)
        yield task, n, task.sample(60, n, generator=generator, dtype=torch.float64)


@claim(
    "survey-inner-objective-from-labels",
    paper="anonymous2024regression",
    where="probing mesa-objectives",
    kind="identity",
    says="The metric of the inner objective is recovered from derivatives by labels alone.",
    chapter=PAGE,
)
def recovered_from_labels(scale: Scale) -> Evidence:
    worst, generator = 0.0, seeded(61)
    for task, _, batch in _prompts(30, seed=62):
        matrix = torch.randn(task.d + 1, task.d + 1, generator=generator, dtype=torch.float64)
        read = implied_preconditioner(MergedLinearAttention(matrix), batch)
        worst = max(worst, relative_error(read.preconditioner, matrix))
    return Evidence(
        measured=worst,
        bound=1e-10,
        unit=RELATIVE_ERROR,
        note="30 layers of random sizes with random matrices, symmetric or not.",
    )


@claim(
    "survey-reversed-relation-relearnt",
    paper="anonymous2024regression",
    where="inner alignment failure modes",
    kind="identity",
    says="Reversing the cue everywhere in a prompt changes no prediction of the best layer; "
    "reversing the query's alone reverses the cue's whole part of it.",
    chapter=PAGE,
)
def reversed_relation(scale: Scale) -> Evidence:
    worst = 0.0
    for task, n, batch in _prompts(30, seed=63):
        layer = population_layer(task, n)
        flip = torch.ones(task.d + 1, dtype=torch.float64)
        flip[-1] = -1
        before = layer(*batch.context)
        everywhere = layer(batch.xs * flip, batch.ys, batch.x_query * flip)
        at_query = layer(batch.xs, batch.ys, batch.x_query * flip)
        cue_alone = MergedLinearAttention(layer.matrix * (1 - flip) / 2)(*batch.context)
        worst = max(
            worst,
            relative_error(everywhere, before),
            relative_error(at_query, before - 2 * cue_alone),
        )
    return Evidence(measured=worst, bound=1e-12, unit=RELATIVE_ERROR, note="30 random tasks.")


@claim(
    "hubinger2019-cue-in-inner-objective",
    paper=HUBINGER,
    where=PROXY,
    kind="experiment",
    says="Trained where the cue follows the target, a linear layer's inner objective puts most of "
    "its weight on the cue.",
    chapter=PAGE,
)
def cue_in_inner_objective(scale: Scale) -> Evidence:
    result = _result(scale)
    share = result.layer_cue_share[result.laws.index("corr")]
    core, cue = result.exact_weights[result.laws.index("corr")]
    inputs = result.layer_matrix.shape[-1] - 1
    return Evidence(
        measured=share.min().item(),
        bound=0.5,
        comparison="at least",
        unit="the cue's share of the diagonal of M, least of the seeds",
        samples=passed(share > 0.5),
        note=f"Shares {words(share)}; over all prompts exactly {cue / (inputs * core + cue):.2f}.",
    )


@claim(
    "hubinger2019-proxy-fails-in-prompt",
    paper=HUBINGER,
    where=PROXY,
    kind="experiment",
    says="When the cue parts from the target within a prompt, that layer does worse than an answer "
    "of 0.",
    chapter=PAGE,
)
def proxy_fails(scale: Scale) -> Evidence:
    result = _result(scale)
    error = result.error("layer", "corr", "queryflip")
    mixed = result.error("layer", "mixed", "queryflip")
    return Evidence(
        measured=error.min().item(),
        bound=2.5,
        comparison="at least",
        unit=ERROR + ", least of the seeds",
        samples=passed(error >= 2.5),
        note=f"In training {words(result.error('layer', 'corr', 'corr'))}; trained on half free "
        f"cues {words(mixed)}.",
    )


@claim(
    "hubinger2019-telling-data-repairs",
    paper=HUBINGER,
    where=PROXY,
    kind="experiment",
    says="Trained on data of which half tell cue and target apart, the layer keeps a small error "
    "when the query's cue is reversed.",
    chapter=PAGE,
)
def telling_data_repairs(scale: Scale) -> Evidence:
    result = _result(scale)
    error = result.error("layer", "mixed", "queryflip")
    share = result.layer_cue_share[result.laws.index("mixed")]
    cost = result.error("layer", "mixed", "corr") - result.error("layer", "corr", "corr")
    return Evidence(
        measured=error.max().item(),
        bound=0.5,
        unit=ERROR + ", query's cue reversed, worst seed",
        samples=passed(error <= 0.5),
        note=f"The cue's share of M is {words(share)}. It costs {words(cost)} where the cue does "
        "follow.",
    )


@claim(
    "survey-anti-is-adaptivity",
    paper="anonymous2024regression",
    where="inner alignment failure modes",
    kind="dispute",
    says="An in-context learner that does well where the relation of cue and target is reversed "
    "has the right inner objective.",
    chapter=PAGE,
)
def anti_is_adaptivity(scale: Scale) -> Evidence:
    task = SpuriousFeature(d=4)
    weights = population_weights(task, 20)
    reversed_cue = population_loss(weights, SpuriousFeature(d=4, mode="anti"), 20)
    same = population_loss(weights, task, 20)
    free = population_loss(weights, SpuriousFeature(d=4, mode="dec"), 20)
    # An answer from the core alone has the same loss in every mode.
    return Evidence(
        measured=free,
        bound=1.5 * reversed_cue,
        unit=ERROR + ", cue free, over all prompts",
        note=f"Reversed {reversed_cue:.4f}, as in training ({same:.4f}): the relation is "
        "estimated anew in every prompt. That shows adaptivity, not a right objective.",
    )


@claim(
    "hubinger2019-same-data-two-failures",
    paper=HUBINGER,
    where=PROXY,
    kind="experiment",
    says="A Transformer trained on the same prompts fails where the relation is reversed, as the "
    "linear layer does not.",
    chapter=PAGE,
)
def two_failures(scale: Scale) -> Evidence:
    result = _result(scale)
    model, layer = result.error("model", "corr", "anti"), result.error("layer", "corr", "anti")
    ratio = model / layer
    return Evidence(
        measured=ratio.min().item(),
        bound=10.0,
        comparison="at least",
        unit="Transformer's error over the layer's, relation reversed, least of the seeds",
        samples=passed(ratio >= 10),
        note=f"Errors there {words(model)} against {words(layer)}; in training the Transformer "
        f"has {words(result.error('model', 'corr', 'corr'))}. That it follows a rule in its "
        "weights is what the use of labels shows, in the next claim.",
    )


@claim(
    "hubinger2019-optimizer-or-rule",
    paper=HUBINGER,
    where="section 1, behaviour does not show an optimiser; the measure is the course's",
    kind="experiment",
    says="Derivatives by labels tell an inner learner from a fixed rule that does equally well in "
    "training.",
    chapter=PAGE,
)
def optimizer_or_rule(scale: Scale) -> Evidence:
    result = _result(scale)
    rule, learner = result.label_use[:, :, 0]
    ratio = learner.min() / rule
    loss = result.model_error[:, :, result.modes.index("corr")]
    return Evidence(
        measured=ratio.min().item(),
        bound=5.0,
        comparison="at least",
        unit="least use of labels, trained half and half, over that of a model trained on cues "
        "that follow, worst seed",
        samples=passed(ratio >= 5),
        note=f"Errors on prompts whose cue follows: {words(loss[0])} against {words(loss[1])}.",
    )


@claim(
    "survey-transformer-one-step",
    paper="anonymous2024regression",
    where="probing mesa-objectives",
    kind="experiment",
    says="The Transformer that does learn in context takes one step of preconditioned descent.",
    chapter=PAGE,
)
def transformer_one_step(scale: Scale) -> Evidence:
    result = _result(scale)
    explained = result.implied_r_squared[result.model_laws.index("mixed"), :, 1]
    diagonal = result.implied[result.model_laws.index("mixed")].mean(0).diagonal()
    return Evidence(
        measured=explained.min().item(),
        bound=0.9,
        partial_bound=0.5,
        comparison="at least",
        unit="share of label influence that one metric explains, cue free, worst seed",
        samples=passed(explained >= 0.9),
        note=f"The closest metric is {words(diagonal)} (cue last), yet most of the influence is "
        "another algorithm's: without noise and with more examples than inputs one step is poor.",
    )
