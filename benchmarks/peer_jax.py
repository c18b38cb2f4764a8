"""The peer of the benchmark in JAX: the one-layer setting of von Oswald et al., written plainly.

One linear self-attention layer for all 11 tokens, the context as keys (the released code leaves
the query out), key size 11, separate ``W_Q``, ``W_K``, ``W_V`` and ``P``; d = N = 10, 2048 fresh
tasks in every step, each from its own key, Adam with learning rate 1e-3, gradients clipped to a
global norm of 10 [vonoswald2023transformers, appendix A.2]. The whole step, sampling included, is
one jitted program.

``bench.py`` runs this file as a worker, so that the interpreter that has JAX may be another one
than the course's: each line of input is a number of steps, each line of output is JSON with the CPU
seconds they took, the last loss and the weights.
"""

import json
import os
import sys
import time

os.environ["XLA_FLAGS"] = (
    "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1 "
    + os.environ.get("XLA_FLAGS", "")
)

import jax  # noqa: E402  (the flags must be set before)
import jax.numpy as jnp  # noqa: E402

D, N, WIDTH = 10, 10, 11
BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-8


def one_task(key):
    """Tokens ``[11, 11]`` of one context and its query, and the query's target."""
    key_w, key_x, key_q = jax.random.split(key, 3)
    w = jax.random.normal(key_w, (D,))
    x = jax.random.uniform(key_x, (N, D), minval=-0.5, maxval=0.5)
    x_query = jax.random.uniform(key_q, (1, D), minval=-0.5, maxval=0.5)
    examples = jnp.concatenate([x, (x @ w)[:, None]], axis=1)
    query = jnp.concatenate([x_query, jnp.zeros((1, 1))], axis=1)
    return jnp.concatenate([examples, query], axis=0), (x_query @ w)[0]


def predict(params, tokens):
    """Minus the target slot of the query token after one residual layer."""
    q = tokens @ params["w_query"].T
    k = tokens[:, :N] @ params["w_key"].T
    v = tokens[:, :N] @ params["w_value"].T
    scores = jnp.einsum("bjk,bik->bji", q, k)
    out = tokens + jnp.einsum("bji,bik->bjk", scores, v) @ params["projection"].T
    return -out[:, -1, -1]


def loss_function(params, tokens, targets):
    return 0.5 * jnp.mean((predict(params, tokens) - targets) ** 2)


def make_step(batch_size, learning_rate=1e-3, clip=10.0):
    def step(params, state, key):
        key, draw = jax.random.split(key)
        tokens, targets = jax.vmap(one_task)(jax.random.split(draw, batch_size))
        loss, grads = jax.value_and_grad(loss_function)(params, tokens, targets)
        norm = jnp.sqrt(sum(jnp.sum(g**2) for g in jax.tree.leaves(grads)))
        grads = jax.tree.map(lambda g: g * jnp.minimum(1.0, clip / norm), grads)
        t, first, second = state
        t = t + 1
        first = jax.tree.map(lambda m, g: BETA_1 * m + (1 - BETA_1) * g, first, grads)
        second = jax.tree.map(lambda v, g: BETA_2 * v + (1 - BETA_2) * g**2, second, grads)
        params = jax.tree.map(
            lambda p, m, v: (
                p
                - learning_rate * (m / (1 - BETA_1**t)) / (jnp.sqrt(v / (1 - BETA_2**t)) + EPSILON)
            ),
            params,
            first,
            second,
        )
        return params, (t, first, second), key, loss

    return jax.jit(step)


def start(seed, init_std):
    keys = jax.random.split(jax.random.PRNGKey(seed), 4)
    names = ("w_query", "w_key", "w_value", "projection")
    params = {
        name: init_std * jax.random.normal(key, (WIDTH, WIDTH))
        for name, key in zip(names, keys, strict=True)
    }
    zeros = jax.tree.map(jnp.zeros_like, params)
    return params, (jnp.zeros(()), zeros, zeros), jax.random.PRNGKey(seed + 1)


def main() -> None:
    options = json.loads(sys.argv[1])
    step = make_step(options["batch_size"])
    params, state, key = start(options["seed"], options["init_std"])
    jax.block_until_ready(step(params, state, key))  # compile outside the clock
    print(json.dumps({"ready": True, "jax": jax.__version__}), flush=True)
    for line in sys.stdin:
        began = time.process_time()
        for _ in range(int(line)):
            params, state, key, loss = step(params, state, key)
        jax.block_until_ready(params)
        seconds = time.process_time() - began
        weights = {name: value.tolist() for name, value in params.items()}
        print(json.dumps({"seconds": seconds, "loss": float(loss), "weights": weights}), flush=True)


if __name__ == "__main__":
    main()
