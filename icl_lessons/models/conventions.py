"""How the papers write the same layer, and how to go from one to another.

Two papers may print different matrices, different losses and different step sizes for one and the
same learner. What differs between them is small and can be written down: how a pair becomes tokens,
whether the layer adds a sum or a mean, whether the query is a key, with which sign the prediction
is read, and what the loss is divided by. Here each paper's choices are one frozen record
(`PAPERS`, keyed by the paper's key in the bibliography), and the functions below convert weights,
step sizes and losses between any two of them. The page *Notation and conventions* prints this data.

The layer, in the book's notation with tokens as columns ``e_j`` (in code they are rows):

    e_j  <-  e_j + c * PV @ sum over keys i of  e_i * (e_i^T KQ e_j)

with ``KQ = W_K^T W_Q`` (the key stands on the left) and ``PV = P W_V``, both ``[width, width]``,
``width = d + m``; ``c = 1`` where a paper adds a sum and ``c = 1/N`` where it adds a mean. The
prediction is ``prediction_sign`` times the last ``m`` entries of the query's token.
"""

from __future__ import annotations

import html
from collections.abc import Iterable
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from icl_lessons.models.tokens import joint_tokens

__all__ = [
    "PAPERS",
    "Convention",
    "LayerWeights",
    "convention",
    "conventions_table_html",
    "convert_layer",
    "convert_loss",
    "convert_step_size",
    "layer_output",
    "negate_label_slot",
    "paper_tokens",
    "predict",
]


@dataclass(frozen=True, kw_only=True)
class Convention:
    """One paper's choices. Fields that a paper leaves open are ``None`` and print as a dash.

    Attributes:
        key: the paper's key in the bibliography.
        paper: authors and year as a reader would say them.
        where: section, theorem or appendix in which the paper fixes these choices.
        tokens: ``"joint"``: one token holds a pair ``(x, y)``; ``"interleaved"``: ``x`` and ``y``
            are separate tokens; ``"channels"``: one token holds several copies of a state.
        token_width: entries of a token, in symbols.
        layer: ``"linear"`` where the object is one linear self-attention layer, whose weights
            can be converted; ``"transformer"`` where it is a whole network, for which only step
            sizes and losses can.
        averages: the layer multiplies the sum over keys by ``1/N`` (``N`` context examples).
        query_is_key: the query's own token takes part in the sum over keys.
        prediction_sign: ``-1`` where the prediction is minus the label slot of the query.
        loss_half: the loss carries a factor one half.
        loss_per_dimension: the printed loss is divided by the input dimension ``d``.
        step_mean: the step size multiplies the *mean* over examples of residual times input.
        step_factor: 1 where the step is on half the squared error, 2 where the half is missing.
        input_law: distribution of the inputs as printed in the paper.
        input_law_in_code: distribution in the released code, where it is another one.
        note: one sentence a reader would otherwise trip over.
    """

    key: str
    paper: str
    where: str
    tokens: Literal["joint", "interleaved", "channels"]
    token_width: str
    layer: Literal["linear", "transformer"]
    averages: bool | None
    query_is_key: bool | None
    prediction_sign: Literal[-1, 1]
    loss_half: bool
    loss_per_dimension: bool
    step_mean: bool | None
    step_factor: Literal[1, 2] | None
    input_law: str
    input_law_in_code: str | None = None
    note: str = ""

    def attention_scale(self, n_context: int) -> float:
        """``1/N`` where the layer averages over the context, 1 where it sums."""
        if self.averages is None:
            raise ValueError(f"{self.key} has no single attention layer, so no scale of its sum")
        return 1.0 / _positive("n_context", n_context) if self.averages else 1.0

    def loss_scale(self, d: int) -> float:
        """The factor that multiplies the expected squared error in the paper's loss."""
        scale = 0.5 if self.loss_half else 1.0
        return scale / _positive("d", d) if self.loss_per_dimension else scale

    def step_scale(self, n_context: int) -> float:
        """The factor between the paper's step size and the coefficient of one example.

        The coefficient is ``a`` in ``W <- W - a * sum_i (W x_i - y_i) x_i^T``.
        """
        if self.step_mean is None or self.step_factor is None:
            raise ValueError(f"{self.key} names no step size")
        return self.step_factor / (_positive("n_context", n_context) if self.step_mean else 1)


@dataclass(frozen=True)
class LayerWeights:
    """The two products that decide what a linear self-attention layer does.

    ``key_query`` is ``W_K^T W_Q`` and ``projection_value`` is ``P W_V``. The four matrices
    themselves are not determined by what the layer computes.
    """

    key_query: Tensor  # [width, width]; checked below, in words
    projection_value: Tensor

    def __post_init__(self) -> None:
        for name in ("key_query", "projection_value"):
            shape = tuple(getattr(self, name).shape)
            if len(shape) != 2 or shape[0] != shape[1]:
                raise ValueError(f"{name} must be a square matrix [width, width]; got {shape}")
        if self.key_query.shape != self.projection_value.shape:
            raise ValueError(
                "key_query and projection_value must have one width; got "
                f"{self.key_query.shape[0]} and {self.projection_value.shape[0]}"
            )

    @property
    def width(self) -> int:
        """Entries of a token."""
        return self.key_query.shape[0]


def _papers(*conventions: Convention) -> MappingProxyType[str, Convention]:
    return MappingProxyType({c.key: c for c in conventions})


PAPERS = _papers(
    Convention(
        key="vonoswald2023transformers",
        paper="von Oswald et al. 2023a",
        where="Proposition 1, Section 3",
        tokens="joint",
        token_width="d + m",
        layer="linear",
        averages=False,
        query_is_key=False,
        prediction_sign=-1,
        loss_half=True,
        loss_per_dimension=False,
        step_mean=True,
        step_factor=1,
        input_law="U(-1, 1)",
        input_law_in_code="U(-1/2, 1/2)",
        note="The 1/N stands in P. This course follows this paper.",
    ),
    Convention(
        key="ahn2023transformers",
        paper="Ahn et al. 2023",
        where="Section 2, Theorem 1",
        tokens="joint",
        token_width="d + 1",
        layer="linear",
        averages=True,
        query_is_key=False,
        prediction_sign=-1,
        loss_half=False,
        loss_per_dimension=False,
        step_mean=True,
        step_factor=1,
        input_law="N(0, Σ)",
        note="Q carries the minus sign of the step; P carries none.",
    ),
    Convention(
        key="zhang2024trained",
        paper="Zhang, Frei & Bartlett 2024",
        where="Section 3",
        tokens="joint",
        token_width="d + 1",
        layer="linear",
        averages=True,
        query_is_key=True,
        prediction_sign=1,
        loss_half=True,
        loss_per_dimension=False,
        step_mean=None,
        step_factor=None,
        input_law="N(0, Λ)",
        note="The divisor is N, not N + 1, although the query is one of the keys.",
    ),
    Convention(
        key="vonoswald2023uncovering",
        paper="von Oswald et al. 2023b",
        where="Proposition 1",
        tokens="channels",
        token_width="3 n",
        layer="linear",
        averages=False,
        query_is_key=True,
        prediction_sign=1,
        loss_half=True,
        loss_per_dimension=False,
        step_mean=False,
        step_factor=1,
        input_law="states of a linear system",
        note="Causal: each token holds the prediction, the state and the state before it.",
    ),
    Convention(
        key="garg2022what",
        paper="Garg et al. 2022",
        where="Section 2, released code",
        tokens="interleaved",
        token_width="d",
        layer="transformer",
        averages=None,
        query_is_key=None,
        prediction_sign=1,
        loss_half=False,
        loss_per_dimension=True,
        step_mean=None,
        step_factor=None,
        input_law="N(0, I)",
        note="Sparse functions are divided by the number of nonzero weights, trees by 1.",
    ),
    Convention(
        key="akyurek2023what",
        paper="Akyürek et al. 2023",
        where="Sections 2 and 3",
        tokens="interleaved",
        token_width="d + 1",
        layer="transformer",
        averages=None,
        query_is_key=None,
        prediction_sign=1,
        loss_half=False,
        loss_per_dimension=True,
        step_mean=False,
        step_factor=2,
        input_law="N(0, I)",
        note="A step is on one example, without the half: w - 2α(wᵀx - y)x.",
    ),
    Convention(
        key="raventos2023pretraining",
        paper="Raventós et al. 2023",
        where="Section 2, released code",
        tokens="interleaved",
        token_width="d + 1",
        layer="transformer",
        averages=None,
        query_is_key=None,
        prediction_sign=1,
        loss_half=False,
        loss_per_dimension=True,
        step_mean=None,
        step_factor=None,
        input_law="N(0, I)",
        note="The loss is against noisy targets; one evaluation in the code uses clean ones.",
    ),
)


def convention(key: str) -> Convention:
    """The convention of the paper with this bibliography key.

    Raises:
        ValueError: the key is not in `PAPERS`.
    """
    try:
        return PAPERS[key]
    except KeyError:
        raise ValueError(f"no convention for {key!r}; known: {', '.join(PAPERS)}") from None


def _positive(name: str, value: int) -> int:
    if value < 1:
        extra = ": a mean over no examples has no value" if name == "n_context" else ""
        raise ValueError(f"{name} must be at least 1; got {value}{extra}")
    return value


def _joint_linear(c: Convention) -> None:
    if c.layer != "linear" or c.tokens != "joint":
        raise ValueError(
            f"{c.key} does not use one linear layer on joint (x, y) tokens "
            f"(tokens: {c.tokens}, layer: {c.layer}), so there are no layer weights to convert"
        )


def paper_tokens(
    xs: Float[Tensor, "batch n_context d"],
    ys: Float[Tensor, "batch n_context m"],
    x_query: Float[Tensor, "batch 1 d"],
    c: Convention,
    initial_weights: Float[Tensor, "m d"] | None = None,
) -> Float[Tensor, "batch n_context+1 d+m"]:
    """Context pairs and one query as rows ``(x, y)``, in the order in which they are given.

    The query's label slot holds ``prediction_sign * W_0 x_query``: the prediction read from it
    before any layer is that of the initial weights ``W_0`` (zero where none are given).
    """
    _joint_linear(c)
    slot = None if initial_weights is None else c.prediction_sign * x_query @ initial_weights.mT
    return joint_tokens(xs, ys, x_query, slot)


def layer_output(
    tokens: Float[Tensor, "batch sequence width"],
    weights: LayerWeights,
    c: Convention,
) -> Float[Tensor, "batch sequence width"]:
    """One linear self-attention layer as the paper ``c`` writes it; the last token is the query."""
    _joint_linear(c)
    if tokens.shape[-1] != weights.width:
        raise ValueError(
            f"tokens have {tokens.shape[-1]} entries but the weights are for {weights.width}"
        )
    keys = tokens if c.query_is_key else tokens[:, :-1]
    scores = keys @ weights.key_query @ tokens.mT  # [batch, keys, tokens]
    update = scores.mT @ (keys @ weights.projection_value.mT)
    return tokens + c.attention_scale(tokens.shape[1] - 1) * update


def predict(
    xs: Float[Tensor, "batch n_context d"],
    ys: Float[Tensor, "batch n_context m"],
    x_query: Float[Tensor, "batch 1 d"],
    layers: Iterable[LayerWeights],
    c: Convention,
    initial_weights: Float[Tensor, "m d"] | None = None,
) -> Float[Tensor, "batch 1 m"]:
    """What a stack of layers, written in convention ``c``, predicts for the query."""
    tokens = paper_tokens(xs, ys, x_query, c, initial_weights)
    for weights in layers:
        tokens = layer_output(tokens, weights, c)
    return c.prediction_sign * tokens[:, -1:, xs.shape[-1] :]


def convert_layer(
    weights: LayerWeights,
    source: Convention,
    target: Convention,
    *,
    n_context: int,
    d: int,
    initial_weights: Float[Tensor, "m d"] | None = None,
) -> LayerWeights:
    """Weights that predict in ``target``'s convention what ``weights`` predict in ``source``'s.

    For one layer. The factor between sum and mean and the sign of the prediction both go into the
    projection-value product. A *stack* of layers changes its sign in another way, because the
    layers below the last also rewrite the labels of the context: see `negate_label_slot`.

    Args:
        weights: the layer in the source convention.
        source, target: entries of `PAPERS` with joint tokens and a linear layer.
        n_context: number of context examples ``N`` for which the two are to agree. Between a sum
            and a mean the weights depend on it.
        d: input dimension; the label slot is what follows the first ``d`` entries of a token.
        initial_weights: ``W_0``, from which the query's label slot starts; zeros if ``None``. It
            matters only where the two disagree on whether the query is a key.

    Raises:
        ValueError: a convention is not one of a linear layer on joint tokens, ``n_context`` or
            ``d`` is out of range, or the papers disagree on whether the query is a key and the
            query's own value is not zero: what it adds depends on no context, so that no weights
            without the query as key can add it.
    """
    _joint_linear(source)
    _joint_linear(target)
    if not 1 <= d < weights.width:
        raise ValueError(f"d must be between 1 and {weights.width - 1}; got {d}")
    factor = source.attention_scale(n_context) / target.attention_scale(n_context)
    factor *= source.prediction_sign * target.prediction_sign
    converted = LayerWeights(weights.key_query.clone(), factor * weights.projection_value)
    if source.query_is_key != target.query_is_key:
        c, layer = (source, weights) if source.query_is_key else (target, converted)
        reads_input, reads_slot = layer.projection_value[d:].split([d, weights.width - d], dim=1)
        value = reads_input  # of a query x, its own value is this matrix times x
        if initial_weights is not None:
            value = value + c.prediction_sign * reads_slot @ initial_weights
        rounding = 1e3 * torch.finfo(value.dtype).eps * layer.projection_value[d:].abs().max()
        if value.abs().max() > rounding:
            raise ValueError(
                f"only in {c.key} is the query a key, and here its own value is not zero; what it "
                "adds depends on no context, and weights without the query as key cannot add it. "
                "If the layer was made for W_0, pass initial_weights=W_0"
            )
    return converted


def negate_label_slot(weights: LayerWeights, d: int) -> LayerWeights:
    """The layer that does to tokens ``(x, -y)`` what ``weights`` does to ``(x, y)``.

    Storing every label with the other sign turns a stack of layers whose prediction is *minus* the
    query's label slot into one whose prediction is the slot itself, at any depth.
    """
    if not 1 <= d < weights.width:
        raise ValueError(f"d must be between 1 and {weights.width - 1}; got {d}")
    flip = torch.ones(weights.width, dtype=weights.key_query.dtype, device=weights.key_query.device)
    flip[d:] = -1
    both = flip[:, None] * flip
    return LayerWeights(both * weights.key_query, both * weights.projection_value)


def convert_step_size(
    step_size: float, source: Convention, target: Convention, *, n_context: int
) -> float:
    """The step size that ``target`` would print for the same step.

    Raises:
        ValueError: one of the papers names no step size, or ``n_context`` is less than 1.
    """
    return step_size * source.step_scale(n_context) / target.step_scale(n_context)


def convert_loss(loss: float, source: Convention, target: Convention, *, d: int) -> float:
    """The value that ``target`` would print for the same expected squared error."""
    return loss * target.loss_scale(d) / source.loss_scale(d)


def _cells(c: Convention) -> tuple[str, ...]:
    def choice(value: bool | None, yes: str, no: str) -> str:
        return "–" if value is None else (yes if value else no)

    loss = ("½ " if c.loss_half else "") + "E(ŷ − y)²" + (" / d" if c.loss_per_dimension else "")
    law = c.input_law
    if c.input_law_in_code:
        law += f" in print, {c.input_law_in_code} in the code"
    return (
        c.tokens,
        c.token_width,
        choice(c.averages, "mean, 1/N", "sum"),
        choice(c.query_is_key, "yes", "no"),
        ("minus" if c.prediction_sign < 0 else "plus") + " the slot",
        loss,
        law,
        c.note,
    )


TABLE_COLUMNS = (
    "tokens",
    "width",
    "layer adds",
    "query is a key",
    "prediction",
    "loss",
    "inputs",
    "note",
)


def conventions_table_html(conventions: Iterable[Convention] | None = None) -> str:
    """The table of conventions as HTML, one row a paper, in a region that scrolls on a phone."""
    rows = list(PAPERS.values() if conventions is None else conventions)
    head = "".join(
        f'<th scope="col">{html.escape(name)}</th>' for name in ("paper", *TABLE_COLUMNS)
    )
    body = "".join(
        f'<tr><th scope="row">{html.escape(c.paper)}</th>'
        + "".join(f"<td>{html.escape(cell)}</td>" for cell in _cells(c))
        + "</tr>"
        for c in rows
    )
    return (
        '<div class="wide-table" role="region" tabindex="0" aria-label="Conventions of the papers"'
        ' style="overflow-x: auto"><table class="table conventions">'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )
