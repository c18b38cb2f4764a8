"""How alike are what demonstrations do in context and what fine-tuning on them does?

Dai et al. read attention to demonstrations as an update of a linear map and compare it with one
pass of fine-tuning, in which keys and values alone move [dai2023why, sections 3 and 4]. Each
*changes* what the attention of a block puts out, and the scores from which it is made; the measures
are cosines of such changes. Two details decide what a cosine says [deutch2024incontext, section on
metrics]. Dai et al. bring every state to length 1 before they take differences: then two updates
that have nothing to do with each other have a positive cosine, :func:`independent_similarity`,
because both shrink what was there. And two maps of scores that share a base are alike whatever has
been added to it.

A cosine here is that of one query in one block. It means little without the same cosine for a
model that has learned nothing (:func:`untrained`, :func:`embeddings_only`) and for an update drawn
at random (:func:`random_update`).
"""

import copy
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from icl_lessons.language_models.course_models import CourseLMTraining, checkpoints, course_weights
from icl_lessons.language_models.fine_tuning import Prompts, parts_of
from icl_lessons.models.pretrained import PretrainedLM
from icl_lessons.models.sequence import SequenceTransformer, alibi_bias
from icl_lessons.runtime import check_integer

Outputs = Float[Tensor, "layers batch width"]
Scores = Float[Tensor, "layers heads batch tokens"]
Laws = Float[Tensor, "batch vocabulary"]
KEYS_AND_VALUES = "keys and values"


def cosine(first: Float[Tensor, "*places n"], second: Float[Tensor, "*places n"]) -> Tensor:
    """Cosine along the last axis, exact for vectors however short; 0 where one of them is 0."""
    tiny = torch.finfo(first.dtype).tiny

    def direction(vectors: Tensor) -> Tensor:  # scaled first, or squares of small entries vanish
        largest = vectors.abs().amax(-1, keepdim=True).clamp_min(tiny)
        return F.normalize(vectors / largest, dim=-1, eps=tiny)

    return (direction(first) * direction(second)).sum(-1)


# --- attention as an update -----------------------------------------------------------------------


def demonstrations_as_update(
    values: Float[Tensor, "n width"], keys: Float[Tensor, "n inputs"]
) -> Float[Tensor, "width inputs"]:
    """``Delta W = sum_i v_i k_i'``: what attention without softmax adds to a linear map of a query.

    [dai2023why, section 3.1]
    """
    return values.mT @ keys


def demonstrations_share(
    shown: Float[Tensor, "*places n"], own: Float[Tensor, "*places tokens"]
) -> Float[Tensor, "*places"]:
    """The share ``a`` of softmax attention that goes to demonstrations.

    With softmax, attention with demonstrations is ``a F_demo + (1 - a) F_ZSL``, a mixture of
    attention to the demonstrations alone and without them: no base with something added to it.

    Args:
        shown: scores of the demonstrations' tokens.
        own: scores of the query's tokens.
    """
    return (shown.logsumexp(-1) - own.logsumexp(-1)).sigmoid()


# --- outputs of attention -------------------------------------------------------------------------


def update_similarity(
    zero_shot: Outputs, context: Outputs, tuned: Outputs, *, normalised: bool
) -> Float[Tensor, "layers batch"]:
    """SimAOU: cosine of the change by demonstrations with the change by fine-tuning.

    Args:
        zero_shot, context, tuned: outputs of attention at the last token, as
            :func:`~icl_lessons.language_models.function_vectors.attention_outputs` gives them: of
            the query alone, with demonstrations, and of the query alone after fine-tuning.
        normalised: bring each of the three to length 1 first [dai2023why, section 4.3]; not so in
            Deutch et al.
    """
    if normalised:
        zero_shot, context, tuned = (
            F.normalize(states, dim=-1) for states in (zero_shot, context, tuned)
        )
    return cosine(context - zero_shot, tuned - zero_shot)


def relative_sizes(before: Outputs, after: Outputs) -> Float[Tensor, "layers batch"]:
    """``c = |after - before|^2 / |before|^2``."""
    return (after - before).square().sum(-1) / before.square().sum(-1)


def independent_similarity(
    first: Float[Tensor, "*places"], second: Float[Tensor, "*places"]
) -> Float[Tensor, "*places"]:
    """Normalised SimAOU of two updates at right angles to each other and to the state they change.

    For ``z + r_1`` and ``z + r_2`` with ``|r_i|^2 = c_i |z|^2`` it is

    .. math:: \\tfrac12 \\sqrt{(1 - 1/s_1)(1 - 1/s_2)}, \\qquad s_i = \\sqrt{1 + c_i}:

    0.146 for ``c = 1``, 0.25 for ``c = 3``, up to 1/2. Without normalising it is 0. Independent
    updates in many dimensions are nearly at right angles.

    Args:
        first, second: ``c_1`` and ``c_2``, as :func:`relative_sizes` gives them.
    """
    shrunk = (1 - (1 + first).rsqrt()) * (1 - (1 + second).rsqrt())
    return 0.5 * shrunk.sqrt()


def random_update(zero_shot: Outputs, tuned: Outputs, *, generator: torch.Generator) -> Outputs:
    """Outputs that have changed as far as ``tuned`` has, in a direction drawn at random."""
    drawn = torch.randn(tuned.shape, generator=generator, dtype=tuned.dtype).to(tuned.device)
    length = (tuned - zero_shot).norm(dim=-1, keepdim=True)
    return zero_shot + drawn * length / drawn.norm(dim=-1, keepdim=True)


# --- scores of attention --------------------------------------------------------------------------


def _projected(model: nn.Module, tokens: Prompts) -> Float[Tensor, "3 layers heads n length size"]:
    """Queries, keys and values of every block."""
    if not isinstance(model, SequenceTransformer):
        raise TypeError(f"model: got {type(model).__name__}; use CourseLM")
    kept: list[Tensor] = []
    hooks = [
        block.attention.query_key_value.register_forward_hook(
            lambda module, args, output: kept.append(output)
        )
        for block in model.blocks
    ]
    try:
        with torch.no_grad():
            model(tokens)
    finally:
        for hook in hooks:
            hook.remove()
    heads = model.config.heads
    return torch.stack(kept).unflatten(-1, (3, heads, -1)).permute(3, 0, 4, 1, 2, 5)


def attention_scores(model: nn.Module, tokens: Prompts, own: int) -> Scores:
    """Scores before the softmax, ALiBi included, of the last token for the last so many tokens.

    Args:
        model: CourseLM.
        tokens: prompts.
        own: tokens that belong to the query; those before are left out.

    Raises:
        TypeError: another kind of model.
        ValueError: more tokens than there are.
    """
    check_integer("own", own, at_least=1)
    q, k, _ = _projected(model, tokens)
    heads, length = q.shape[1], q.shape[3]
    if own > length:
        raise ValueError(f"own: got {own}; the prompts have {length} tokens")
    scores = (k[..., -own:, :] @ q[..., -1, :, None])[..., 0] * q.shape[-1] ** -0.5
    if model.config.positions == "alibi":
        bias = alibi_bias(length, heads, device=scores.device, dtype=scores.dtype)
        scores = scores + bias[:, None, -1, -own:]
    return scores


def score_similarity(first: Scores, second: Scores) -> Float[Tensor, "layers batch"]:
    """SimAM: cosine of two maps of scores over the query's own tokens, a mean over heads.

    [dai2023why, section 4.3]
    """
    return cosine(first, second).mean(1)


def score_change_similarity(
    zero_shot: Scores, context: Scores, tuned: Scores
) -> Float[Tensor, "layers batch"]:
    """SimAM of changes: cosine of ``context - zero_shot`` with ``tuned - zero_shot``.

    In the first block no demonstration can have changed a score of the query's own tokens unless
    positions are absolute: leave that block out. [deutch2024incontext, section on metrics]
    """
    return score_similarity(context - zero_shot, tuned - zero_shot)


# --- ranks of tokens ------------------------------------------------------------------------------


def attention_queries(
    model: nn.Module, tokens: Prompts
) -> Float[Tensor, "layers heads batch tokens size"]:
    """What every token asks with: the queries of attention in every block.

    Raises:
        TypeError: another kind of model than CourseLM.
    """
    return _projected(model, tokens)[0]


def attention_to(
    model: nn.Module, tokens: Prompts, places: Int[Tensor, " m"]
) -> Float[Tensor, "layers batch m"]:
    """Attention of the last token to the tokens at some places, summed over heads."""
    weights = attention_scores(model, tokens, tokens.shape[1]).softmax(-1).sum(1)
    return weights[..., places]


def attention_while_training(
    trained_on: Float[Tensor, "layers heads m size"],
    query: Float[Tensor, "layers heads batch size"],
) -> Float[Tensor, "layers batch m"]:
    """``sum_h Q'_h q_h``: what stands in for attention to tokens that are not in the prompt.

    A linear map trained by descent is linear attention to the inputs it was trained on
    [dai2023why, section 3.1]; Dai et al. compare those inputs' queries ``Q'`` with the last
    token's. Labels do not enter.

    Args:
        trained_on: queries of the tokens of the training examples, while these were trained on.
        query: of the last token of each prompt, after fine-tuning.
    """
    return torch.einsum("lhms,lhbs->lbm", trained_on, query)


def kendall_rank_correlation(
    first: Float[Tensor, "*places m"], second: Float[Tensor, "*places m"]
) -> Float[Tensor, "*places"]:
    """Kendall's tau: pairs in the same order less pairs in the opposite order, of all pairs.

    Of all pairs that are no tie, to be exact: the geometric mean of their numbers in the two rows
    (tau-b). 0 where all entries of a row are the same.
    """
    one, two = ((row[..., :, None] - row[..., None, :]).sign() for row in (first, second))
    untied = (one.square().sum((-2, -1)) * two.square().sum((-2, -1))).sqrt()
    return (one * two).sum((-2, -1)) / untied.clamp_min(1)


# --- answers and weights --------------------------------------------------------------------------


class Recalled(NamedTuple):
    """Queries that fine-tuning turned from wrong to right, and how many of them context did too."""

    both: int
    tuned: int


def recalled(
    zero_shot: Laws, context: Laws, tuned: Laws, answer: Int[Tensor, " batch"]
) -> Recalled:
    """Rec2FTP is ``both / tuned`` [dai2023why, section 4.3]."""
    alone, shown, after = (law.argmax(-1) == answer for law in (zero_shot, context, tuned))
    gained = after & ~alone
    return Recalled(int((gained & shown).sum()), int(gained.sum()))


def weight_updates(
    model: nn.Module, tuned: nn.Module, layers: int
) -> Float[Tensor, "layers entries"]:
    """By how much the keys and values of each block have moved, as one vector for each block."""
    before, after = dict(model.named_parameters()), dict(tuned.named_parameters())
    moved = [
        (after[name] - before[name]).detach()[... if where is None else where].flatten()
        for name, where in parts_of(model, KEYS_AND_VALUES)
    ]
    each = len(moved) // layers  # matrices in a block
    return torch.stack([torch.cat(moved[i * each : (i + 1) * each]) for i in range(layers)])


# --- models that have learned nothing, or little --------------------------------------------------


def untrained(model: nn.Module, seed: int) -> nn.Module:
    """A model of the same shape before training; of CourseLM, the very start of that seed.

    Raises:
        TypeError: neither CourseLM nor a :class:`~icl_lessons.models.pretrained.PretrainedLM`.
        ValueError: a course transformer of another shape than CourseLM's.
    """
    if isinstance(model, SequenceTransformer):
        config = CourseLMTraining()
        if model.config != config.shape:
            raise ValueError(f"model: got the shape {model.config}; use CourseLM, {config.shape}")
        return checkpoints(course_weights(config), config)[0][seed % len(config.seeds)]
    if not isinstance(model, PretrainedLM):
        raise TypeError(f"model: got {type(model).__name__}; use CourseLM or a PretrainedLM")
    with torch.random.fork_rng(devices=[]):  # Hugging Face draws from torch's own generator
        torch.manual_seed(seed)
        fresh = type(model.model)(model.model.config)
    return PretrainedLM(fresh.to(next(model.parameters()).device), model.tokenizer)


def embeddings_only(trained: nn.Module, start: nn.Module) -> nn.Module:
    """The start with the trained embeddings, norms and read-out: blocks know nothing.

    [deutch2024incontext, section on baselines]
    """
    made = copy.deepcopy(start)
    inside = {id(p) for block in made.blocks for p in block.parameters()}
    norms = {
        id(p) for module in made.modules() if "norm" in type(module).__name__.lower()
        for p in module.parameters(recurse=False)
    }  # fmt: skip
    learned = dict(trained.named_parameters())
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if id(parameter) in norms or id(parameter) not in inside:
                parameter.copy_(learned[name])
    return made
