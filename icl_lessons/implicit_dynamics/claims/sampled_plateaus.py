"""What is claimed of whole attention layers trained on sampled prompts."""

import numpy as np

from icl_lessons.declare import Evidence, passed, result_of, words
from icl_lessons.implicit_dynamics.claims.training_plateaus import measured_claim
from icl_lessons.runtime import Scale


@measured_claim(
    "sampled-prompts",
    "simulations",
    "Whole attention layers on 5000 prompts do as the theory says: merged heads drop once, "
    "separate ones D times.",
)
def sampled_prompts(scale: Scale) -> Evidence:
    result = result_of("sampled_plateaus", scale)
    merged, separate = result.drops()[:, 0]
    d = len(result.plateaus) - 1
    return Evidence(
        measured=separate.mean().item(),
        bound=d,
        unit="drops of separate heads in the paper's number of steps, mean over seeds",
        samples=passed((merged == 1) & (separate == d)),
        note=f"Separate by seed {separate.astype(int).tolist()}; those with fewer had not left the "
        "last plateau.",
    )


@measured_claim(
    "other-blocks",
    "the setting",
    "The blocks that the theory starts at 0 and leaves there play no part after training.",
)
def other_blocks(scale: Scale) -> Evidence:
    shares = result_of("sampled_plateaus", scale).shares[:, 0, :, 1:]
    worst = shares.max(axis=(0, 2))
    return Evidence(
        measured=worst.max().item(),
        bound=0.01,
        unit="mean square of what any of them predicts over that of the prediction",
        samples=passed(worst <= 0.01),
    )


@measured_claim(
    "other-blocks-random",
    "not in the paper; its start of training, made random in all blocks",
    "Started small and random like the rest, those blocks play no part either.",
)
def other_blocks_random(scale: Scale) -> Evidence:
    result = result_of("sampled_plateaus", scale)
    merged, separate = result.shares[:, 1, :, 1:].max(-1)
    return Evidence(
        measured=separate.max().item(),
        bound=0.01,
        unit="mean square of what one of them predicts over that of the prediction",
        samples=passed(np.maximum(merged, separate) <= 0.01),
        note=f"Separate heads {words(separate)}, merged {words(merged)}: values of inputs with "
        "keys of targets are the same network with two sides exchanged.",
    )


@measured_claim(
    "softmax",
    "softmax attention",
    "Softmax attention shows the same difference: one drop with merged heads, several with "
    "separate ones.",
)
def softmax(scale: Scale) -> Evidence:
    result = result_of("softmax_plateaus", scale)
    merged, separate = result.drops()
    return Evidence(
        measured=(separate - merged).min().item(),
        bound=2,
        comparison="at least",
        unit="drops of separate heads more than of merged ones, least over seeds",
        samples=passed((merged == 1) & (separate >= 3)),
        note=f"Merged {merged.astype(int).tolist()}, separate {separate.astype(int).tolist()}; "
        "1000 prompts.",
    )
