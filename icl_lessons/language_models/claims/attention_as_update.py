"""What is claimed of attention as an update of weights: identities, each with a check."""

import torch
from torch import Tensor

from icl_lessons.declare import Evidence, claim
from icl_lessons.language_models.update_similarity import (
    demonstrations_as_update,
    demonstrations_share,
    independent_similarity,
    relative_sizes,
    update_similarity,
)
from icl_lessons.measures.agreement import RELATIVE_ERROR, relative_error
from icl_lessons.runtime import Scale, seeded

DAI, DEUTCH = "dai2023why", "deutch2024incontext"
CASES = 8


def update_claim(paper: str, name: str, says: str, *, where: str, kind: str = "experiment"):
    """Declare a claim of one of the two papers."""
    author = {DAI: "dai2023", DEUTCH: "deutch2024"}[paper]
    return claim(
        f"{author}-{name}",
        paper=paper,
        where=where,
        kind=kind,
        says=says,
        chapter="language_models/which_account",
    )


def _draws(seed: int):
    """Random sizes, and a function that draws in float64."""
    g = seeded(seed)
    for _ in range(CASES):
        n, own, width, inputs = (int(v) for v in torch.randint(1, 9, (4,), generator=g))

        def draw(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=g, dtype=torch.float64)

        yield n, own, width, inputs, draw


def _worst(errors: list[float], note: str) -> Evidence:
    return Evidence(
        measured=max(errors), bound=1e-10, unit=RELATIVE_ERROR, note=f"{CASES} random sizes. {note}"
    )


@update_claim(
    DAI,
    "demonstrations-as-update",
    "Without softmax, attention with demonstrations is attention without them, with the sum of "
    "value times key of each demonstration added to its linear map of the query.",
    where="section 3.2",
    kind="identity",
)
def as_update(scale: Scale) -> Evidence:
    errors = []
    for n, own, width, inputs, draw in _draws(921):
        values, keys, query = draw(n + own, width), draw(n + own, inputs), draw(inputs)
        whole = values.mT @ (keys @ query)
        zero_shot = values[n:].mT @ keys[n:]
        update = demonstrations_as_update(values[:n], keys[:n])
        errors.append(relative_error((zero_shot + update) @ query, whole))
    return _worst(errors, "No loss is in it: any values and keys do.")


@update_claim(
    DAI,
    "training-as-attention",
    "A linear map trained one example at a time is the map at the start and, added to it, linear "
    "attention to the inputs with the steps' error signals as values.",
    where="section 3.1",
    kind="identity",
)
def training_as_attention(scale: Scale) -> Evidence:
    errors = []
    for n, _, width, inputs, draw in _draws(922):
        start, xs, ys, query = draw(width, inputs), draw(n, inputs), draw(n, width), draw(inputs)
        weights, signals = start.clone(), []
        for x, y in zip(xs, ys, strict=True):
            output = (weights @ x).requires_grad_()
            loss = (output - y).square().sum().log1p()  # any loss of the output will do
            signals.append(-0.1 * torch.autograd.grad(loss, output)[0])
            weights = weights + torch.outer(signals[-1], x)
        update = demonstrations_as_update(torch.stack(signals), xs)
        errors.append(relative_error((start + update) @ query, weights @ query))
    return _worst(errors, "Each signal is taken at the weights of its own step.")


@update_claim(
    DEUTCH,
    "softmax-mixes",
    "With softmax, attention with demonstrations is a mixture of attention to the demonstrations "
    "alone and without them, no update added to it.",
    where="on the softmax that Dai et al. leave out; a check, not a theorem of the paper",
    kind="identity",
)
def softmax_mixes(scale: Scale) -> Evidence:
    errors, added = [], []
    for n, own, width, _, draw in _draws(923):
        values, scores = draw(n + own, width), 3 * draw(n + own)
        demo, zero_shot = (
            scores[part].softmax(0) @ values[part] for part in (slice(n), slice(n, None))
        )
        share = demonstrations_share(scores[:n], scores[n:])
        whole = scores.softmax(0) @ values
        errors.append(relative_error(share * demo + (1 - share) * zero_shot, whole))
        added.append(relative_error(demo + zero_shot, whole))
    return _worst(errors, f"Added instead of mixed, it is off by {min(added):.2f} or more.")


@update_claim(
    DEUTCH,
    "independent-updates",
    "Two updates that have nothing to do with each other have a positive similarity once states "
    "are brought to length 1: half the root of (1 - 1/s)(1 - 1/t), with s and t the lengths of the "
    "states after the updates over that before; without normalising it is 0.",
    where="section on metrics; the counter-example, for any two sizes",
    kind="identity",
)
def independent_updates(scale: Scale) -> Evidence:
    errors = []
    for _, layers, batch, more, draw in _draws(924):
        frame = torch.linalg.qr(draw(layers, batch, 3 + more, 3)).Q.movedim(-1, 0)
        lengths = draw(3, layers, batch, 1).exp()
        z, one, two = frame * lengths
        sizes = relative_sizes(z, z + one), relative_sizes(z, z + two)
        got = update_similarity(z, z + one, z + two, normalised=True)
        raw = update_similarity(z, z + one, z + two, normalised=False)
        errors += [relative_error(got, independent_similarity(*sizes)), raw.abs().max().item()]
    return _worst(errors, "At right angles by construction; 1/4 for c = 3, as in the paper.")
