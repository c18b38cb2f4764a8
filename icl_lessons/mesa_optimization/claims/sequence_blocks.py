"""What is claimed of blocks on raw states and of few-shot prompts, each claim with a check."""

import numpy as np

from icl_lessons.declare import Evidence, claim, passed, result_of, words
from icl_lessons.mesa_optimization.claims.trained_sequences import PAGE, PAPER, SOFTMAX, percent
from icl_lessons.mesa_optimization.experiments.few_shot_sequences import FewShotSequencesResult
from icl_lessons.mesa_optimization.experiments.sequence_hybrids import SequenceHybridsResult
from icl_lessons.runtime import Scale

FEW_SHOT = "section on few-shot learning"


def _hybrids(scale: Scale) -> SequenceHybridsResult:
    return result_of("sequence_hybrids", scale)


def _prompts(scale: Scale) -> FewShotSequencesResult:
    return result_of("few_shot_sequences", scale)


# --- what stands in the second block ------------------------------------------------------------


@claim(
    "vonoswald2023b-hybrid-is-best",
    paper=PAPER,
    where=SOFTMAX,
    kind="experiment",
    says="A softmax layer and a mesa layer predict better than softmax or linear layers.",
    chapter=PAGE,
)
def hybrid_is_best(scale: Scale) -> Evidence:
    result = _hybrids(scale)
    two = [name for name in result.names if len(name.split(", ")) == 2 and "mesa" not in name]
    others = np.stack([result.mean(name) for name in two]).min()
    ratio = result.mean("softmax, mesa") / others
    return Evidence(
        measured=ratio.max().item(),
        bound=0.95,
        unit="loss over that of the best other model of two blocks, worst seed",
        samples=passed(ratio <= 0.95),
        note=f"Attention alone, no MLP. Linear family only; least squares "
        f"{result.mean('least_squares'):.3f}, hybrid {words(result.mean('softmax, mesa'))}.",
    )


@claim(
    "vonoswald2023b-linear-for-softmax",
    paper=PAPER,
    where=f"{SOFTMAX}, linear layers in place of softmax",
    kind="experiment",
    says="Linear attention in place of the second softmax layer costs little.",
    chapter=PAGE,
)
def linear_for_softmax(scale: Scale) -> Evidence:
    result = _hybrids(scale)
    excess = percent(result.mean("softmax, linear") / result.mean("softmax, softmax").mean())
    return Evidence(
        measured=np.round(excess.mean(), 1).item(),
        bound=10.0,
        partial_bound=25.0,
        unit="% above the mean loss of two softmax layers, mean over seeds",
        note=f"Seeds {words(excess)}. Trained from the start in 4 dimensions; the paper distils "
        "trained layers and finds the cost small in more dimensions.",
    )


# --- few-shot prompts ---------------------------------------------------------------------------


@claim(
    "vonoswald2023b-few-shot-for-free",
    paper=PAPER,
    where=FEW_SHOT,
    kind="experiment",
    says="A model trained on next states learns a regression task from a few-shot prompt, without "
    "retraining.",
    chapter=PAGE,
)
def few_shot_for_free(scale: Scale) -> Evidence:
    plain = _prompts(scale).plain
    ratio = plain[..., -1] / plain[..., 0]
    return Evidence(
        measured=ratio.max().item(),
        bound=0.75,
        unit="loss after all pairs over loss before the first, worst model and seed",
        samples=passed(ratio <= 0.75),
        note=f"{plain.shape[-1] - 1} pairs; least squares on the pairs alone would be at "
        f"{_prompts(scale).proper[-1]:.3f}.",
    )


@claim(
    "vonoswald2023b-trained-early-ascent",
    paper=PAPER,
    where=f"{FEW_SHOT}, early ascent",
    kind="experiment",
    says="In trained models, too, the first examples make predictions worse.",
    chapter=PAGE,
)
def trained_early_ascent(scale: Scale) -> Evidence:
    result = _prompts(scale)
    rise = result.plain.max(-1) / result.plain[..., 0]
    exact = result.overlapping.max() / result.overlapping[0]
    return Evidence(
        measured=rise.min().item(),
        bound=1.05,
        comparison="at least",
        unit="highest loss over that before the first pair, lowest of models and seeds",
        samples=passed(rise >= 1.05),
        note=f"By model: {words(rise.mean(1))}; exact least squares on all neighbours {exact:.2f}. "
        f"Its peak is after {result.overlapping.argmax()} pairs, the models' after "
        f"{', '.join(str(int(k)) for k in result.plain.mean(1).argmax(-1))}.",
    )


@claim(
    "vonoswald2023b-tuned-separator",
    paper=PAPER,
    where=f"{FEW_SHOT}, separator token",
    kind="experiment",
    says="A tuned separator between the pairs repairs few-shot learning.",
    chapter=PAGE,
)
def tuned_separator(scale: Scale) -> Evidence:
    result = _prompts(scale)
    last = result.separator.shape[-1] - 1
    ratio = result.separator[..., last] / result.plain[..., last]
    return Evidence(
        measured=ratio.max().item(),
        bound=0.9,
        unit=f"loss after {last} pairs over that without a separator, worst model and seed",
        samples=passed(ratio <= 0.9),
        note=f"By model: {words(ratio.mean(1))} for {' and '.join(result.names)}.",
    )


@claim(
    "vonoswald2023b-tuned-beginning",
    paper=PAPER,
    where=f"{FEW_SHOT}, prefix token",
    kind="experiment",
    says="A tuned token in front improves few-shot learning further.",
    chapter=PAGE,
)
def tuned_beginning(scale: Scale) -> Evidence:
    result = _prompts(scale)
    last = result.beginning.shape[-1] - 1
    ratio = result.beginning[..., last] / result.separator[..., last]
    return Evidence(
        measured=ratio.max().item(),
        bound=1.0,
        unit=f"loss after {last} pairs over that with a separator alone, worst model and seed",
        samples=passed(ratio <= 1.0),
        note=f"By model: {words(ratio.mean(1))} for {' and '.join(result.names)}. With a token in "
        "front everything else stands one learned position later.",
    )
