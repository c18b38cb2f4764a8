"""What is claimed of the order of demonstrations, in context and to optimisers."""

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.func import functional_call, grad

from icl_lessons.declare import Evidence, claim, error_size, passed, result_of, words
from icl_lessons.language_models.experiments.order_sensitivity import (
    FULL_BATCH,
    OrderSensitivityResult,
)
from icl_lessons.language_models.fine_tuning import FineTuning
from icl_lessons.language_models.order import (
    fine_tuned_answers,
    order_averaged,
    swap_effect,
)
from icl_lessons.measures.agreement import RELATIVE_ERROR, relative_error
from icl_lessons.models.sequence import SequenceTransformer, SequenceTransformerConfig
from icl_lessons.runtime import Scale, seeded
from icl_lessons.tasks.attribute_prompts import AttributePrompts, attribute_prompts
from icl_lessons.tasks.attribute_text import NAMES

PAGE, PAPER = "language_models/order", "shen2024pretrained"
THEOREM, OWN = "section 4.1, theorem 1", "not in the paper; about theorem 1"
FIGURES = "section 4.1, figures 4, 6 and 7"
CASES = 6
MODELS = f"{CASES} transformers of random size and weights, random demonstrations and orders."
RATIO = "order sensitivity in context over the optimiser's, last epoch, least of all"


def order_claim(name: str, says: str, *, where: str, kind: str = "experiment"):
    """Declare a claim on order."""
    return claim(f"shen2024-{name}", paper=PAPER, where=where, kind=kind, says=says, chapter=PAGE)


class OrderCase(NamedTuple):
    """A transformer that was not trained, in float64, prompts that share demonstrations, an order.

    Also the generator that they were drawn from.
    """

    model: SequenceTransformer
    prompts: AttributePrompts
    order: list[int]
    generator: torch.Generator


def order_cases(count: int, *, seed: int, most: int = 6) -> Iterator[OrderCase]:
    """Models and demonstrations of random size.

    Args:
        most: demonstrations, of which there are two or more.
    """
    g = seeded(seed)

    def draw(low: int, high: int) -> int:
        return int(torch.randint(low, high + 1, (), generator=g))

    for _ in range(count):
        heads = draw(1, 3)
        config = SequenceTransformerConfig(
            vocabulary=66, width=heads * draw(2, 5), layers=draw(1, 2), heads=heads, init_std=0.3
        )
        model = SequenceTransformer(config, generator=g).double().requires_grad_(False)
        task = NAMES[draw(0, len(NAMES) - 1)]
        shown = attribute_prompts(task, draw(2, most), 1, generator=g)
        prompts = shown.with_queries_of(attribute_prompts(task, 0, 4, generator=g))
        order = torch.randperm(prompts.n, generator=g).tolist()
        if order == list(range(prompts.n)):
            order = order[::-1]
        yield OrderCase(model, prompts, order, g)


# --- identities -----------------------------------------------------------------------------------


@order_claim(
    "full-batch-has-no-order",
    "Gradient descent on all demonstrations at once ends in the same answers in every order: the "
    "right side of theorem 1 is 0.",
    where=THEOREM,
    kind="identity",
)
def full_batch_has_no_order(scale: Scale) -> Evidence:
    errors = []
    for model, prompts, order, _ in order_cases(CASES, seed=71):
        settings = FineTuning(epochs=5, learning_rate=0.03)
        answers = fine_tuned_answers(model, prompts, [range(prompts.n), order], settings)[5]
        errors.append(relative_error(answers[1], answers[0]))
    return Evidence(measured=max(errors), bound=1e-12, unit=RELATIVE_ERROR, note=MODELS)


@order_claim(
    "one-batch-is-descent",
    "Stochastic descent with all demonstrations in a batch is gradient descent on their mean loss.",
    where="section 2.1, equation 1",
    kind="identity",
)
def one_batch_is_descent(scale: Scale) -> Evidence:
    errors = []
    for model, prompts, order, _ in order_cases(CASES, seed=72):
        settings = FineTuning(epochs=3, learning_rate=0.03, batch_size=prompts.n)
        got = fine_tuned_answers(model, prompts, [order], settings)[3][0]
        errors.append(relative_error(got, _descended(model, prompts, 3, 0.03)))
    return Evidence(measured=max(errors), bound=1e-12, unit=RELATIVE_ERROR, note=MODELS)


def _descended(model: SequenceTransformer, prompts: AttributePrompts, steps: int, rate: float):
    """Answers after equation 1 as it is written: a mean over demonstrations of gradients."""
    inputs, labels = prompts.demonstrations(0)
    weights = dict(model.named_parameters())

    def loss(own: dict[str, Tensor], i: int) -> Tensor:
        law = functional_call(model, own, (inputs[i : i + 1],))[0, -1]
        return -law[labels[i]]

    for _ in range(steps):
        parts = [grad(loss)(weights, i) for i in range(prompts.n)]
        weights = {
            name: value - rate * sum(part[name] for part in parts) / prompts.n
            for name, value in weights.items()
        }
    return functional_call(model, weights, (prompts.query_tokens,))[:, -1].exp()


@order_claim(
    "averaged-context-has-no-order",
    "In-context learning averaged over all orders of the demonstrations has none: an algorithm "
    "that theorem 1 would let pass.",
    where=OWN,
    kind="identity",
)
def averaged_context_has_no_order(scale: Scale) -> Evidence:
    errors = []
    for model, prompts, order, _ in order_cases(CASES, seed=73, most=4):
        first, second = (order_averaged(model, p) for p in (prompts, prompts.in_order(order)))
        errors.append(relative_error(second, first))
    return Evidence(measured=max(errors), bound=1e-12, unit=RELATIVE_ERROR, note=MODELS)


@order_claim(
    "swap-is-second-order",
    "Two neighbours that change places move the result of stochastic descent by "
    "eta^2 (H_b g_a - H_a g_b), for quadratic losses exactly.",
    where="not in the paper; about figure 6",
    kind="identity",
)
def swap_is_second_order(scale: Scale) -> Evidence:
    g, errors = seeded(74), []
    for _ in range(20):
        d, rate = int(torch.randint(1, 8, (), generator=g)), 0.1
        weights = torch.randn(d, generator=g, dtype=torch.float64)
        xs, ys = torch.randn(2, d, generator=g).double(), torch.randn(2, generator=g).double()
        losses = [lambda w, x=x, y=y: (x @ w - y).square() / 2 for x, y in zip(xs, ys, strict=True)]
        ends = []
        for a, b in ((0, 1), (1, 0)):
            stepped = weights - rate * grad(losses[a])(weights)
            ends.append(stepped - rate * grad(losses[b])(stepped))
        errors.append(relative_error(ends[0] - ends[1], swap_effect(*losses, weights, rate)))
    return Evidence(
        measured=max(errors),
        bound=1e-12,
        unit=RELATIVE_ERROR,
        note="20 pairs of least squares in 1 to 7 dimensions, each step at rate 0.1.",
    )


# --- CourseLM -------------------------------------------------------------------------------------


def _study(scale: Scale) -> OrderSensitivityResult:
    return result_of("order_sensitivity", scale)


def _ratios(result: OrderSensitivityResult, start: str) -> dict[str, np.ndarray]:
    """Sensitivity in context over that of each learner whose name begins so, cases by seeds."""
    return {
        name: result.context / result.of(name)[..., -1]
        for name in result.learners
        if name.startswith(start)
    }


def _compared(scale: Scale, start: str) -> Evidence:
    """Whether in-context learning is more sensitive than all learners whose name begins so."""
    ratios = _ratios(_study(scale), start)
    each = np.stack(list(ratios.values()))
    parts = (f"{name}: {words(values)}" for name, values in ratios.items())
    return Evidence(
        measured=each.min().item(),
        bound=1.0,
        comparison="at least",
        unit=RATIO,
        samples=passed(each >= 1.0),
        note="; ".join(parts) + ". The seeds of the first case, then of the second.",
    )


@order_claim(
    "context-has-an-order",
    "The answers of a pretrained model in context depend on the order of the demonstrations: the "
    "left side of theorem 1 is not 0, so that the model does not descend on the full batch.",
    where=THEOREM,
)
def context_has_an_order(scale: Scale) -> Evidence:
    left, right = _study(scale).sides.T
    return Evidence(
        measured=left.min().item(),
        bound=1e-3,
        comparison="at least",
        unit="largest difference that two orders make to a probability, least of the seeds",
        samples=passed((left >= 1e-3) & (right <= 1e-12)),
        note=f"By seed {words(left)}; after 20 epochs of full-batch descent "
        f"{error_size(right.max())}, in float64.",
    )


@order_claim(
    "context-above-full-batch",
    "In float32 too, in-context learning depends on the order and full-batch descent does not.",
    where=FIGURES,
)
def context_above_full_batch(scale: Scale) -> Evidence:
    result = _study(scale)
    tuned = result.of(FULL_BATCH)[..., -1]
    return Evidence(
        measured=tuned.max().item(),
        bound=1e-5,
        unit="order sensitivity after the last epoch, float32, largest of cases and seeds",
        samples=passed((tuned <= 1e-5) & (result.context > 1e-3)),
        note=f"In context {words(result.context)}.",
    )


@order_claim(
    "context-above-sgd",
    "In-context learning is more sensitive to the order than stochastic descent, at every "
    "rate tried, once training has gone on for a while.",
    where=FIGURES,
)
def context_above_sgd(scale: Scale) -> Evidence:
    return _compared(scale, "SGD")


@order_claim(
    "context-above-batches",
    "In-context learning is more sensitive to the order than descent in batches of 2 and of 4.",
    where="appendix, figure 7",
)
def context_above_batches(scale: Scale) -> Evidence:
    return _compared(scale, "batches")


@order_claim(
    "context-above-adam",
    "In-context learning is more sensitive to the order than Adam, at every rate tried, once "
    "training has gone on for a while.",
    where=FIGURES,
)
def context_above_adam(scale: Scale) -> Evidence:
    return _compared(scale, "Adam")


@order_claim(
    "context-above-from-the-start",
    "In-context learning is more sensitive to the order than stochastic descent and Adam all along "
    "their training, not only at its end.",
    where=FIGURES,
)
def context_above_from_the_start(scale: Scale) -> Evidence:
    result = _study(scale)
    names = [name for name in result.learners if name.startswith(("SGD", "Adam"))]
    most = np.stack([result.of(name)[..., 1:].max(-1) for name in names])
    ratio = result.context / most
    parts = (f"{name}: {words(values)}" for name, values in zip(names, ratio, strict=True))
    return Evidence(
        measured=ratio.min().item(),
        bound=1.0,
        comparison="at least",
        unit="order sensitivity in context over the optimiser's largest at any epoch looked at, "
        "least of all",
        samples=passed(ratio >= 1.0),
        note="; ".join(parts) + f". First looked at after epoch {result.epochs[1]}.",
    )


def _fallen(scale: Scale, starts: tuple[str, ...]) -> Evidence:
    """Whether sensitivity is less after the last epoch than when it was first looked at."""
    result = _study(scale)
    names = [name for name in result.learners if name.startswith(starts)]
    left = np.stack([result.of(name)[..., -1] / result.of(name)[..., 1] for name in names])
    parts = (f"{name}: {words(values)}" for name, values in zip(names, left, strict=True))
    return Evidence(
        measured=left.max().item(),
        bound=1.0,
        unit=f"order sensitivity after epoch {result.epochs[-1]} over that after epoch "
        f"{result.epochs[1]}, largest of all",
        samples=passed(left < 1.0),
        note="; ".join(parts) + ".",
    )


@order_claim(
    "sgd-settles",
    "The order sensitivity of stochastic descent, one by one or in small batches, falls during "
    "training.",
    where="section 4.1, figure 6",
)
def sgd_settles(scale: Scale) -> Evidence:
    return _fallen(scale, ("SGD", "batches"))


@order_claim(
    "adam-settles",
    "The order sensitivity of Adam falls during training.",
    where="section 4.1, figure 6",
)
def adam_settles(scale: Scale) -> Evidence:
    return _fallen(scale, ("Adam",))


@order_claim(
    "square-of-the-rate",
    "The order sensitivity of one pass of stochastic descent grows with the square of its rate.",
    where="not in the paper; about figure 6",
)
def square_of_the_rate(scale: Scale) -> Evidence:
    result = _study(scale)
    if not result.rates:
        return Evidence(measured=math.nan, bound=0.1, unit="no passes in float64 at this scale")
    slopes = result.slopes
    over = (result.one_pass / np.square(result.rates)).mean(0)
    return Evidence(
        measured=np.abs(slopes - 2).max().item(),
        bound=0.1,
        unit="distance from 2 of the slope of log sensitivity on log rate, largest of the seeds",
        samples=passed(np.abs(slopes - 2) <= 0.1),
        note=f"Slopes {words(slopes)}, rates {result.rates[0]:g} to {result.rates[-1]:g}. "
        "Sensitivity over the square of the rate, mean over seeds: "
        + ", ".join(f"{value:.0f}" for value in over)
        + ".",
    )


@order_claim(
    "order-leaves-accuracy",
    "Where the order moves probabilities, it need not move decisions: in context, accuracy is the "
    "same in all orders.",
    where="not in the paper; about figure 4",
)
def order_leaves_accuracy(scale: Scale) -> Evidence:
    result = _study(scale)
    spread = np.ptp(result.context_accuracy, axis=-1)
    return Evidence(
        measured=spread.max().item(),
        bound=0.0,
        unit="highest less lowest accuracy over the orders, largest of cases and seeds",
        samples=passed((spread <= 0) & (result.context > 0)),
        note=f"Spreads {words(spread)}; order sensitivity {words(result.context)}.",
    )
