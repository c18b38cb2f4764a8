"""What is claimed of layer-causal descent, each claim with a check."""

import copy
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from icl_lessons.declare import Evidence, claim
from icl_lessons.language_models.fine_tuning import FineTuning, fine_tune, label_loss
from icl_lessons.language_models.layer_causal import layer_causal_fine_tune, layer_causal_loss
from icl_lessons.measures.agreement import RELATIVE_ERROR, relative_error
from icl_lessons.models.sequence import SequenceTransformer, SequenceTransformerConfig
from icl_lessons.runtime import Scale, seeded

MODELS = 6
RANDOM = f"{MODELS} transformers of random shape and weights, random demonstrations."


def causal_claim(name: str, says: str, *, where: str):
    """Declare an identity of layer-causal descent."""
    return claim(
        f"deutch2024-{name}",
        paper="deutch2024incontext",
        where=where,
        kind="identity",
        says=says,
        chapter="language_models/which_account",
    )


class Case(NamedTuple):
    """A model of random shape in float64, demonstrations, and a way to fine-tune."""

    model: SequenceTransformer
    inputs: Tensor
    labels: Tensor
    settings: FineTuning


def _cases(seed: int, least: int = 1) -> Iterator[Case]:
    """Cases of random size, of so many blocks at least."""
    g = seeded(seed)

    def draw(low: int, high: int) -> int:
        return int(torch.randint(low, high + 1, (), generator=g))

    for _ in range(MODELS):
        heads, vocabulary, n = draw(1, 3), draw(4, 12), draw(1, 5)
        shape = SequenceTransformerConfig(
            vocabulary=vocabulary, width=heads * draw(2, 4), layers=draw(least, 4), heads=heads,
            init_std=0.4,
        )  # fmt: skip
        model = SequenceTransformer(shape, generator=g).double()
        inputs = torch.randint(vocabulary, (n, draw(1, 5)), generator=g)
        labels = torch.randint(vocabulary, (n,), generator=g)
        yield Case(model, inputs, labels, FineTuning(epochs=2, learning_rate=0.03))


def _weights(modules: nn.Module) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in modules.parameters()])


def identity(errors: Sequence[float], note: str = RANDOM) -> Evidence:
    """Evidence of an identity: the largest of some errors."""
    return Evidence(measured=max(errors), bound=1e-12, unit=RELATIVE_ERROR, note=note)


@causal_claim(
    "update-blind-above",
    "Replace the blocks above a block: its layer-causal update stays exactly what it was, and its "
    "ordinary gradient update does not.",
    where="section on layer causality; the definition, as a check",
)
def update_blind_above(scale: Scale) -> Evidence:
    causal, plain = [], []
    for model, inputs, labels, settings in _cases(41, least=2):
        changed = copy.deepcopy(model)
        other = SequenceTransformer(model.config, generator=seeded(42)).double()
        changed.blocks[-1] = other.blocks[-1]
        for found, descend in ((causal, layer_causal_fine_tune), (plain, fine_tune)):
            one, two = (
                _weights(descend(m, inputs, labels, settings).blocks[:-1]) for m in (model, changed)
            )
            found.append(relative_error(one, two))
    return identity(
        causal, f"{RANDOM} Ordinary descent changes by {min(plain):.0e} to {max(plain):.0e}."
    )


@causal_claim(
    "nothing-above",
    "For the last block, with no block above it, layer-causal descent is ordinary descent.",
    where="section on layer causality; a limit case, as a check",
)
def nothing_above(scale: Scale) -> Evidence:
    errors = []
    for model, inputs, labels, _ in _cases(45):
        last = FineTuning(epochs=3, learning_rate=0.03, parts=f"block:{model.config.layers - 1}")
        one, two = (
            _weights(descend(model, inputs, labels, last))
            for descend in (layer_causal_fine_tune, fine_tune)
        )
        errors.append(relative_error(one, two))
    return identity(errors)


@causal_claim(
    "short-models",
    "The layer-causal loss is the sum of the losses of the models that end after each block.",
    where="section on layer causality; the short-circuited models, as a check",
)
def short_models(scale: Scale) -> Evidence:
    errors = []
    for model, inputs, labels, _ in _cases(46):
        with torch.no_grad():
            whole, blocks = layer_causal_loss(model, inputs, labels), model.blocks
            total = torch.zeros((), dtype=torch.float64)
            for count in range(1, len(blocks) + 1):
                model.blocks = blocks[:count]
                total = total + label_loss(model, inputs, labels)
        errors.append(relative_error(whole, total))
    return identity(errors)
