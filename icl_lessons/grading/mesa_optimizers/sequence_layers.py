"""Exercises 1 and 2: a layer that solves least squares, and one that takes a step towards it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from icl_lessons.grading.checks import (
    Mistake,
    agree,
    call,
    compare,
    fail,
    passed,
    tensor,
    tolerance_of,
    unchanged,
)
from icl_lessons.grading.sums import attention_sum, draw


def fitted(inputs: Tensor, targets: Tensor, prior: float) -> Tensor:
    """``argmin 1/2 sum |v - Phi k|^2 + prior/2 |Phi|^2``: the prior as rows of the data."""
    d, m = inputs.shape[-1], targets.shape[-1]
    rows = torch.cat([inputs, prior**0.5 * torch.eye(d, dtype=inputs.dtype)])
    goals = torch.cat([targets, torch.zeros(d, m, dtype=inputs.dtype)])
    return (torch.linalg.pinv(rows) @ goals).mT


def _outputs(keys, values, queries, prior, last) -> Tensor:
    """``Phi_t q_t`` with the pairs before ``last(t)`` and the weight ``prior(t)``, t from 0."""
    batch, length, _ = keys.shape
    return torch.stack(
        [
            torch.stack(
                [
                    fitted(keys[b, : last(t)], values[b, : last(t)], prior(t)) @ queries[b, t]
                    for t in range(length)
                ]
            )
            for b in range(batch)
        ]
    )


def check_mesa_layer(answer: Callable[..., Tensor]) -> None:
    """``answer(keys, values, queries, regularization) -> [batch, length, m]``."""
    batch, length, d, m = 2, 5, 3, 2
    keys, values = draw(batch, length, d, seed=1), draw(batch, length, m, seed=2)
    queries = draw(batch, length, d, seed=3)
    for lam in (0.4, 5.0):
        kept = [v.clone() for v in (keys, values, queries)]
        result = call(answer, keys, values, queries, lam)
        got = tensor(
            result, (batch, length, m), what="the output of the layer", axes="[batch, length, m]"
        )
        for before, now, name in zip(
            kept, (keys, values, queries), ("keys", "values", "queries"), strict=True
        ):
            unchanged(before, now, name=name)

        def other(prior=lambda t, lam=lam: 1 / lam, last=lambda t: t + 1, at=queries):
            return _outputs(keys, values, at, prior, last)

        overlap = torch.einsum("btd,bsd->bts", queries, keys).tril()
        plain = overlap @ values
        counts = torch.arange(1, length + 1).double()[:, None]
        mean = other(prior=lambda t, lam=lam: (t + 1) / lam)
        mistakes = [
            Mistake(
                other(last=lambda t: t),
                "Your layer is one pair late: at position t it has not read (k_t, v_t). The fit at "
                "position t includes its own pair.",
            ),
            Mistake(
                other(prior=lambda t, lam=lam: lam),
                "Your prior is upside down. Before any pair R_0 is lambda I, and its inverse, "
                "which stands beside the sum of k k^T, is I / lambda.",
            ),
            Mistake(
                mean,
                "You average over the pairs. The objective is a SUM: with an average the prior "
                "would weigh more with every position.",
            ),
            Mistake(
                counts * mean,
                "You average k k^T over the pairs, but not v k^T. Both are sums.",
            ),
            Mistake(
                other(last=lambda t: length),
                "Your layer sees the future: every position uses the pairs of the whole sequence.",
            ),
            Mistake(
                other(at=keys),
                "You apply the fit to the key. The output is Phi_t q_t, at the query.",
            ),
            Mistake(
                other(prior=lambda t: 0.0),
                "The prior is missing: that is plain least squares.",
            ),
            Mistake(
                other(prior=lambda t, lam=lam: 2 / lam),
                "Your prior is twice too strong. Both terms of the objective carry a 1/2, so it "
                "cancels.",
            ),
            Mistake(
                other(prior=lambda t, lam=lam: 0.5 / lam),
                "Your prior is half of what it should be. Both terms of the objective carry a 1/2, "
                "so it cancels.",
            ),
            Mistake(
                plain,
                "That is linear attention, the sum of v (k . q). What is missing is the inverse of "
                "the sum of k k^T and the prior.",
            ),
            Mistake(
                lam * plain,
                "Your R never changes: it stays lambda I, and the layer is linear attention.",
            ),
        ]
        compare(
            got,
            other(),
            what=f"With lambda = {lam:g} the output",
            tolerance=10 * tolerance_of(result),
            mistakes=mistakes,
            otherwise="At the first position it is v (k . q) / (1/lambda + |k|^2).",
        )
    passed(1, "Hidden tests use other sizes, one position, and more inputs than positions.")


# exercise 2 ------------------------------------------------------------------------------------


def _tokens(states: Tensor, initial: Tensor) -> Tensor:
    """``[Phi_0 s_t, s_t, s_(t-1)]`` for t = 2, 3, ..."""
    now, before = states[:, 1:], states[:, :-1]
    return torch.cat([now @ initial.mT, now, before], -1)


def _moved(states: Tensor, initial: Tensor, eta: float) -> Tensor:
    """The tokens after a step on each prefix's loss, with the gradient of autograd."""
    tokens = _tokens(states, initial)
    d = states.shape[-1]
    for b in range(len(states)):
        for t in range(1, states.shape[1]):
            phi = initial.clone().requires_grad_()
            loss = sum((states[b, i + 1] - phi @ states[b, i]).square().sum() / 2 for i in range(t))
            (slope,) = torch.autograd.grad(loss, phi)
            tokens[b, t - 1, :d] = (initial - eta * slope) @ states[b, t]
    return tokens


def _written(tokens: Tensor, d: int, eta: float, value, key, query) -> Tensor:
    """The tokens of a layer that writes ``eta value (key . query)`` into the first channel."""
    out = tokens.clone()
    for b in range(len(tokens)):
        for j in range(tokens.shape[1]):
            for i in range(j + 1):
                weight = key(tokens[b, i]) @ query(tokens[b, j])
                out[b, j, :d] += eta * value(tokens[b, i]) * weight
    return out


def check_next_step_weights(answer: Callable[..., tuple[Tensor, Tensor]]) -> None:
    """``answer(d, step_size, initial_weights) -> (PW_V, W_K^T W_Q)``, judged by what they do."""
    batch, length, d, eta = 2, 6, 3, 0.15
    states = draw(batch, length, d, seed=11)
    for words, initial in (
        ("With Phi_0 = 0", torch.zeros(d, d).double()),
        ("With Phi_0 != 0", 0.7 * draw(d, d, seed=12)),
    ):
        result = call(answer, d, eta, initial)
        if result is None:
            fail("`next_step_weights` returned None. Is the `return` missing?")
        if not isinstance(result, (tuple, list)) or len(result) != 2:
            fail("Return the two products as a tuple, in the order (P W_V, W_K^T W_Q).")
        values, scores = (
            tensor(w, (3 * d, 3 * d), what=name, axes="[3 d, 3 d]")
            for w, name in zip(result, ("P W_V", "W_K^T W_Q"), strict=True)
        )
        tolerance = 10 * max(tolerance_of(w) for w in result)
        tokens = _tokens(states, initial)
        got = _run(tokens, values, scores)
        if not agree(got[..., d:], tokens[..., d:], tolerance):
            if agree(_run(tokens, scores, values)[..., d:], tokens[..., d:], tolerance):
                fail("You return the products in the other order. First P W_V, then W_K^T W_Q.")
            fail(
                f"{words} your layer changes the channels of s_t or s_(t-1). It may write only to "
                "the first d entries of a token: the first d ROWS of P W_V."
            )

        def heard(value=None, key=None, query=None, rate=eta, phi=initial, tokens=tokens) -> Tensor:
            before, now = (lambda e: e[2 * d :]), (lambda e: e[d : 2 * d])
            value = value or (lambda e: now(e) - phi @ before(e))
            return _written(tokens, d, rate, value, key or before, query or now)

        def now(e):
            return e[d : 2 * d]

        def before(e):
            return e[2 * d :]

        mistakes = [
            Mistake(
                tokens,
                f"{words} your layer changes nothing. Which rows of P W_V write to the first "
                "channel, and do key and query meet in W_K^T W_Q?",
            ),
            Mistake(
                heard(value=now),
                "Your values are s_t alone. The gradient at Phi_0 needs the residual "
                "s_t - Phi_0 s_(t-1): there is a block for the second part, with -eta Phi_0.",
            ),
            Mistake(
                heard(key=now),
                "Your key is s_t, the target of its own pair: that regresses s_t on itself, and "
                "predicts a copy. The key is the regression's input, s_(t-1).",
            ),
            Mistake(
                heard(key=now, query=before),
                "Key and query are exchanged. In e_i^T (W_K^T W_Q) e_j the rows belong to the "
                "token that is read, i: s_(t-1) of it meets s_t of j.",
            ),
            Mistake(
                heard(rate=-eta),
                "Your layer climbs: the sign of P W_V is turned. Minus the gradient is the sum of "
                "(s_t - Phi_0 s_(t-1)) s_(t-1)^T.",
            ),
            Mistake(
                heard(phi=initial.mT),
                "Phi_0 is transposed in your weights. The formulas are for columns: the block acts "
                "on s_(t-1) from the left.",
            ),
            Mistake(
                heard(phi=-initial),
                "The block with Phi_0 has the wrong sign: the value is s_t MINUS Phi_0 s_(t-1).",
            ),
            Mistake(
                heard(phi=initial / eta),
                "The step size is missing from the block with Phi_0: it multiplies the whole "
                "value.",
            ),
            Mistake(
                heard(value=lambda e: now(e) - e[:d]),
                "You subtract the first channel of the token. It holds Phi_0 s_t, the prediction "
                "of the NEXT state; the residual needs Phi_0 s_(t-1).",
            ),
            Mistake(
                heard(query=lambda e: e[:d]),
                "Your query is the first channel. It is the current state, s_t.",
            ),
        ]
        compare(
            got,
            _moved(states, initial, eta),
            what=f"{words}, after the layer, a token",
            tolerance=tolerance,
            mistakes=mistakes,
            otherwise="Draw the nine blocks on paper: two of them are filled in P W_V, one in "
            "W_K^T W_Q.",
        )
    passed(2, "Hidden tests use other sizes and step sizes, and a Phi_0 that is not symmetric.")


def _run(tokens: Tensor, values: Tensor, scores: Tensor) -> Tensor:
    return attention_sum(
        tokens,
        None,
        None,
        values,
        torch.eye(len(values)).double(),
        lambda j, i: i <= j,
        score=lambda b, j, i: tokens[b, i] @ scores @ tokens[b, j],
    )
