"""A layer that copies turns separate ``x`` and ``y`` tokens into pairs, and then layers descend.

Proposition 3 of von Oswald et al. [vonoswald2023transformers], in a form that is exact for any
number of steps and any initial weights, and that needs no second head to clear up afterwards. The
sequence is ``x_1, y_1, x_2, y_2, ..., x_q``, ``2 N + 1`` tokens, each with four slots::

    [ input slot (d) | target slot (m) | key slot (d) | position p_j (2 N + 1) ]

with ``p_j`` the unit vector of position ``j``. An ``x`` token fills only its input slot, a ``y``
token only its target slot; every key slot is empty.

* **Copy head.** The query of token ``j`` is ``p_{j-1}``, the key of token ``i`` is ``p_i``, the
  value is the input slot, written into the key slot. So every ``y`` token receives the ``x`` before
  it, and every ``x`` token receives the empty input slot of the ``y`` before it.
* **Descent layer.** The query reads input slot plus key slot, the key reads the key slot, the value
  is ``W_0`` times the key slot minus the target slot, and ``eta / N`` times the sum goes into the
  target slot. Only ``y`` tokens have anything in their key slot, so only they are keys.

The prediction is minus the target slot of the last token. A head that looks at the token before and
a head that compares with what it brought is also how an *induction head* is made
[olsson2022context]; :func:`induction_attention` is the same copy head followed by a lookup.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from icl_lessons.estimators.descent import StepSizes, step_sizes
from icl_lessons.gradient_descent.one_step import gradient_descent_matrices
from icl_lessons.models.attention import Kind, SelfAttention, causal_mask
from icl_lessons.runtime import check_choice, check_context, check_integer, check_number

Into = Literal["key", "input", "target"]
INTO = ("key", "input", "target")


def sinusoidal_positions(length: int, width: int) -> Float[Tensor, "length width"]:
    """Sines and cosines of the position at ``width / 2`` wavelengths, from ``2 pi`` upwards.

    Raises:
        ValueError: a length below 1, or a width that is odd or below 2.
    """
    check_integer("length", length, at_least=1)
    check_integer("width", width, at_least=2)
    if width % 2:
        raise ValueError(f"width: got {width}; use an even number, a sine and a cosine each")
    frequency = 10_000.0 ** (-torch.arange(0, width, 2) / width)
    angle = torch.arange(length)[:, None] * frequency
    return torch.stack([angle.sin(), angle.cos()], -1).flatten(1)


def copy_layer(
    d: int,
    m: int,
    length: int,
    *,
    kind: Kind = "linear",
    sharpness: float = 20.0,
    into: Into = "key",
    dtype: torch.dtype = torch.float64,
) -> SelfAttention:
    """The head that fetches from a neighbour: from the token before, or for ``"target"`` the next.

    Args:
        d, m: coordinates of an input and of a target.
        length: positions there are, one unit vector each.
        kind: ``"linear"``: the score is 1 for the neighbour and 0 for all others, so that the copy
            is exact. ``"softmax"``: the scores are multiplied by ``sharpness`` before the softmax,
            and the copy is off by a term of order ``exp(-sharpness)``.
        sharpness: ``c``; for softmax only.
        into: ``"key"``: ``x`` goes into the key slot of its ``y`` token. ``"input"``: into that
            token's own input slot, and there is no key slot. ``"target"``: ``y`` goes into the
            target slot of its ``x`` token, as in the paper; there is no key slot either.

    Returns:
        A layer for tokens of width ``d + m + d + length``, or ``d + m + length`` without key slot.
    """
    for name, value in {"d": d, "m": m, "length": length}.items():
        check_integer(name, value, at_least=1)
    check_choice("kind", kind, ("linear", "softmax"))
    check_choice("into", into, INTO)
    check_number("sharpness", sharpness, positive=True)
    scratch = d if into == "key" else 0
    width = d + m + scratch + length
    look, here = torch.zeros(2, length, width, dtype=dtype)
    here[:, -length:] = torch.eye(length, dtype=dtype)
    # p_j is sent to p_{j-1}, or to p_{j+1} where the neighbour after is wanted.
    step = torch.ones(length - 1, dtype=dtype)
    look[:, -length:] = torch.diag(step, -1 if into == "target" else 1)
    if kind == "softmax":  # the softmax divides scores by the root of the head's width
        look = look * sharpness * length**0.5
    reads, size = (slice(d, d + m), m) if into == "target" else (slice(0, d), d)
    writes = slice(d + m, d + m + d) if into == "key" else reads
    value = torch.zeros(size, width, dtype=dtype)
    value[:, reads] = torch.eye(size, dtype=dtype)
    project = torch.zeros(width, size, dtype=dtype)
    project[writes] = torch.eye(size, dtype=dtype)
    matrices = (matrix[None] for matrix in (look, here, value, project))
    return SelfAttention.from_matrices(*matrices, kind)


def separate_descent_layer(
    d: int,
    m: int,
    n_context: int,
    step_size: float,
    length: int,
    initial_weights: Float[Tensor, "m d"] | None = None,
    *,
    into: Into = "key",
    dtype: torch.dtype = torch.float64,
) -> SelfAttention:
    """One step of gradient descent on tokens that :func:`copy_layer` has prepared.

    The four matrices of Proposition 1 whose keys and values read the inputs from the slot that the
    copy went into. Arguments as in :func:`copy_layer` and
    :func:`~icl_lessons.gradient_descent.one_step.gradient_descent_matrices`.
    """
    check_choice("into", into, INTO)
    check_integer("length", length, at_least=1)
    four = gradient_descent_matrices(d, m, n_context, step_size, initial_weights, dtype=dtype)
    w_query, w_key, w_value, project = (matrix[0] for matrix in four)
    scratch = d if into == "key" else 0
    rest = torch.zeros(d + m, scratch + length, dtype=dtype)
    w_query, w_key, w_value = (torch.cat([w, rest], 1) for w in (w_query, w_key, w_value))
    if into == "key":
        own, slot = slice(0, d), slice(d + m, d + m + d)
        w_query[:, slot] = w_query[:, own]  # the query reads both
        for matrix in (w_key, w_value):  # key and value read the key slot alone
            matrix[:, slot] = matrix[:, own].clone()
            matrix[:, own] = 0
    project = torch.cat([project, rest.mT])
    return SelfAttention.from_matrices(*(w[None] for w in (w_query, w_key, w_value, project)))


class SeparateTokensLearner(nn.Module):
    """Layers on the sequence ``x_1, y_1, ..., x_N, y_N, x_q`` read as a learner.

    The same class serves for weights that were written down and for weights that were trained.

    Args:
        layers: in order; give the same layer several times to apply it repeatedly.
        d, m: coordinates of an input and of a target.
        positions: one row for each position, appended to the token there.
        scratch: empty coordinates between target slot and position.
        causal: for each layer, whether a token sees only itself and those before it.
        beginning: put an empty token in front, for a softmax to look at where there is no other.
        query_is_key: let each query see itself; it never sees another query.
        initial_weights: ``W_0``; the query's target slot starts at ``-W_0 x_q``.
    """

    def __init__(
        self,
        layers: Sequence[SelfAttention],
        d: int,
        m: int,
        positions: Float[Tensor, "length position_width"],
        *,
        scratch: int = 0,
        causal: Sequence[bool] | None = None,
        beginning: bool = False,
        query_is_key: bool = True,
        initial_weights: Float[Tensor, "m d"] | None = None,
    ):
        super().__init__()
        self.layers = nn.ModuleList(dict.fromkeys(layers))  # each distinct layer once
        self.order = tuple(list(self.layers).index(layer) for layer in layers)
        self.causal = (False,) * len(layers) if causal is None else tuple(causal)
        if len(self.causal) != len(layers):
            raise ValueError(f"causal: {len(self.causal)} entries for {len(layers)} layers")
        self.d, self.m, self.scratch = d, m, scratch
        self.beginning, self.query_is_key = beginning, query_is_key
        self.register_buffer("positions", positions)
        self.register_buffer("initial_weights", initial_weights)

    def tokens(
        self,
        xs: Float[Tensor, "batch n_context d"],
        ys: Float[Tensor, "batch n_context m"],
        x_query: Float[Tensor, "batch n_query d"],
    ) -> Float[Tensor, "batch sequence width"]:
        """The tokens before the first layer; all queries stand at the position after the context.

        Raises:
            TypeError, ValueError: a context of other sizes or another dtype than the layers', or
                of more examples than there are positions for.
        """
        check_context(xs, ys, x_query)
        for name, tensor, size in (("xs", xs, self.d), ("ys", ys, self.m)):
            if tensor.shape[2] != size:
                raise ValueError(
                    f"{name}: {tensor.shape[2]} coordinates; the layers are for {size}"
                )
        if xs.dtype != self.positions.dtype:
            raise TypeError(f"xs: {xs.dtype}, but the layers hold {self.positions.dtype}")
        last = 2 * xs.shape[1] + self.beginning
        if last >= len(self.positions):
            most = (len(self.positions) - 1 - self.beginning) // 2
            raise ValueError(f"xs: {xs.shape[1]} examples; there are positions for {most}")
        context = torch.stack([F.pad(xs, (0, self.m)), F.pad(ys, (self.d, 0))], 2).flatten(1, 2)
        slot = x_query.new_zeros(*x_query.shape[:2], self.m)
        if self.initial_weights is not None:
            slot = -x_query @ self.initial_weights.mT
        data = torch.cat([context, torch.cat([x_query, slot], -1)], 1)
        data = F.pad(data, (0, self.scratch, int(self.beginning), 0))
        place = torch.arange(data.shape[1], device=xs.device).clamp(max=last)
        return torch.cat([data, self.positions[place].expand(len(xs), -1, -1)], -1)

    def mask(
        self, n_context: int, n_query: int, *, causal: bool = False
    ) -> Bool[Tensor, "sequence sequence"]:
        """Which token may look at which, for one layer."""
        device, context = self.positions.device, 2 * n_context + self.beginning
        mask = torch.zeros(context + n_query, context + n_query, dtype=torch.bool, device=device)
        mask[:, :context] = True
        if causal:
            mask[:context, :context] = causal_mask(context, device=device)
        if self.query_is_key:
            queries = torch.arange(context, context + n_query)
            mask[queries, queries] = True
        return mask

    def token_path(
        self, xs: Tensor, ys: Tensor, x_query: Tensor
    ) -> Float[Tensor, "{len(self.order)}+1 batch sequence width"]:
        """The tokens before the first layer and after each."""
        path = [self.tokens(xs, ys, x_query)]
        for index, causal in zip(self.order, self.causal, strict=True):
            mask = self.mask(xs.shape[1], x_query.shape[1], causal=causal)
            path.append(self.layers[index](path[-1], mask))
        return torch.stack(path)

    def forward(
        self,
        xs: Float[Tensor, "batch n_context d"],
        ys: Float[Tensor, "batch n_context m"],
        x_query: Float[Tensor, "batch n_query d"],
    ) -> Float[Tensor, "batch n_query m"]:
        """Minus the target slots of the queries after the last layer."""
        queries = self.token_path(xs, ys, x_query)[-1, :, 2 * xs.shape[1] + self.beginning :]
        return -queries[..., self.d : self.d + self.m]


def copying_attention(
    d: int,
    m: int,
    n_context: int,
    step_size: StepSizes,
    initial_weights: Float[Tensor, "m d"] | None = None,
    steps: int = 1,
    *,
    copy: Kind = "linear",
    sharpness: float = 20.0,
    into: Into = "key",
    beginning: bool | None = None,
    causal: bool = False,
    dtype: torch.dtype = torch.float64,
) -> SeparateTokensLearner:
    """One layer that copies and ``steps`` that descend: gradient descent from separate tokens.

    Its predictions equal those of :class:`~icl_lessons.estimators.descent.GradientDescent` for a
    linear copy and every context of ``n_context`` examples. The copy layer looks backwards only,
    the others in both directions.

    Args:
        d, m, n_context, step_size, initial_weights, steps: as in
            :func:`~icl_lessons.gradient_descent.one_step.gradient_descent_attention`.
        copy, sharpness: as in :func:`copy_layer`.
        into: ``"key"`` is exact always. ``"input"``, the same-slot copy, leaves ``x`` tokens that
            are keys too: exact for one step from zero weights, and for nothing else. ``"target"``
            is the paper's direction, from the next token: exact always, but it cannot be causal,
            and the query has to be kept from being a key.
        beginning: put an empty token in front. With a softmax copy the first token has none before
            it and would receive itself, which makes of ``x_1`` a second example with target 0.
            ``None``: for a softmax copy only.
        causal: let the descent layers look backwards only, too. One step is still exact, for the
            query sees the whole context; two or more are another algorithm, in which each example
            has been corrected by those before it alone.

    Raises:
        ValueError: as :func:`~icl_lessons.gradient_descent.one_step.gradient_descent_attention`;
            ``into="target"`` with a softmax copy, where the query has no next token to look at.
    """
    check_integer("steps", steps, at_least=1)
    check_choice("into", into, INTO)
    if into == "target" and copy == "softmax":
        raise ValueError(
            "copy: with into='target' each token looks at the next, and the query has none; a "
            "softmax would give it an average of everything. Use copy='linear'"
        )
    check_integer("n_context", n_context, at_least=1)
    beginning = copy == "softmax" if beginning is None else beginning
    length = 2 * n_context + 1 + beginning
    sizes = step_sizes(step_size, steps)
    first = copy_layer(d, m, length, kind=copy, sharpness=sharpness, into=into, dtype=dtype)
    layer_of = {
        size: separate_descent_layer(
            d, m, n_context, size, length, initial_weights, into=into, dtype=dtype
        )
        for size in dict.fromkeys(sizes)
    }
    learner = SeparateTokensLearner(
        [first, *(layer_of[size] for size in sizes)],
        d,
        m,
        torch.eye(length, dtype=dtype),
        scratch=d if into == "key" else 0,
        causal=(into != "target", *[causal] * steps),
        beginning=beginning,
        query_is_key=into != "target",
        initial_weights=initial_weights,
    )
    return learner.requires_grad_(False)  # written down, not trained


class InductionModel(nn.Module):
    """The copy head and a lookup, on tokens of a vocabulary: predicts what came after last time.

    Token ``v`` is a unit vector in the input slot, and the key slot receives the token before.
    The second layer compares the input slot of the current token with the key slots of all before
    it, and adds the tokens found there into the target slot.
    """

    def __init__(self, copy: SelfAttention, lookup: SelfAttention, vocabulary: int, length: int):
        super().__init__()
        self.copy, self.lookup = copy, lookup
        self.vocabulary, self.length = vocabulary, length

    def forward(
        self, tokens: Int[Tensor, "batch sequence"]
    ) -> Float[Tensor, "batch sequence vocabulary"]:
        """At each position, how much of each token was found after the current one's like.

        For a linear lookup these are counts of earlier pairs; for a softmax shares, which sum to
        less than 1 by what the lookup gave to the empty token in front.

        Raises:
            ValueError: a token outside the vocabulary, or a sequence longer than the positions.
        """
        batch, sequence = tokens.shape
        if sequence > self.length:
            raise ValueError(f"tokens: {sequence} of them; there are positions for {self.length}")
        if tokens.min() < 0 or tokens.max() >= self.vocabulary:
            raise ValueError(f"tokens: use integers from 0 to {self.vocabulary - 1}")
        content = F.one_hot(tokens, self.vocabulary).to(self.copy.w_query)
        content = F.pad(content, (0, 2 * self.vocabulary, 1, 0))  # target, key; the empty token
        places = torch.eye(self.length + 1, dtype=content.dtype, device=content.device)
        states = torch.cat([content, places[: sequence + 1].expand(batch, -1, -1)], -1)
        mask = causal_mask(sequence + 1, device=tokens.device)
        states = self.lookup(self.copy(states, mask), mask)
        return states[:, 1:, self.vocabulary : 2 * self.vocabulary]


def induction_attention(
    vocabulary: int,
    length: int,
    *,
    kind: Kind = "softmax",
    sharpness: float = 60.0,
    dtype: torch.dtype = torch.float64,
) -> InductionModel:
    """The induction head made of :func:`copy_layer` and one more layer [olsson2022context].

    Args:
        vocabulary: number of tokens.
        length: longest sequence.
        kind: of both layers. ``"linear"`` counts every earlier pair exactly; ``"softmax"`` gives
            their shares up to a term of order ``exp(-sharpness)``.
        sharpness: factor on the scores, for softmax only.
    """
    copy = copy_layer(
        vocabulary, vocabulary, length + 1, kind=kind, sharpness=sharpness, dtype=dtype
    )
    width = 3 * vocabulary + length + 1
    identity = torch.eye(vocabulary, dtype=dtype)
    w_query, w_key, w_value, project = torch.zeros(4, vocabulary, width, dtype=dtype)
    w_query[:, :vocabulary] = identity
    if kind == "softmax":
        w_query *= sharpness * vocabulary**0.5
    w_key[:, 2 * vocabulary : 3 * vocabulary] = identity
    w_value[:, :vocabulary] = identity
    project[:, vocabulary : 2 * vocabulary] = identity
    matrices = (w[None] for w in (w_query, w_key, w_value, project.mT))
    lookup = SelfAttention.from_matrices(*matrices, kind)
    return InductionModel(copy, lookup, vocabulary, length).requires_grad_(False)
