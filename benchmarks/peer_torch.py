"""The benchmark's reference in PyTorch: the one-layer setting, written the obvious way.

What one would write first for the setting of von Oswald et al. [vonoswald2023transformers,
appendix A.2]: tokens built in the step, an ``nn.Linear`` for each of the four matrices, attention
for all 11 tokens with the context as keys, the stock Adam, gradients clipped to a norm of 10.
"""

import time

import torch
from torch import nn

D, N, WIDTH = 10, 10, 11


class PlainLayer(nn.Module):
    """``e_j + P sum_i (W_V e_i) (W_K e_i . W_Q e_j)``, keys from the context, for every token."""

    def __init__(self, init_std: float):
        super().__init__()
        self.w_query = nn.Linear(WIDTH, WIDTH, bias=False)
        self.w_key = nn.Linear(WIDTH, WIDTH, bias=False)
        self.w_value = nn.Linear(WIDTH, WIDTH, bias=False)
        self.projection = nn.Linear(WIDTH, WIDTH, bias=False)
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=init_std)

    def forward(self, tokens):
        context = tokens[:, :N]
        scores = self.w_query(tokens) @ self.w_key(context).transpose(1, 2)
        return tokens + self.projection(scores @ self.w_value(context))

    def products(self):
        """``(W_K^T W_Q, P W_V)``."""
        return (
            self.w_key.weight.T @ self.w_query.weight,
            self.projection.weight @ self.w_value.weight,
        )


class PlainLoop:
    """The obvious training loop around :class:`PlainLayer`."""

    def __init__(self, batch_size: int, seed: int, init_std: float):
        torch.manual_seed(seed)
        self.batch_size = batch_size
        self.layer = PlainLayer(init_std)
        self.optimizer = torch.optim.Adam(self.layer.parameters(), lr=1e-3)

    def data(self):
        x = torch.rand(self.batch_size, N + 1, D) - 0.5
        w = torch.randn(self.batch_size, D, 1)
        y = x @ w
        tokens = torch.cat([x, y], dim=2)
        tokens[:, -1, -1] = 0
        return tokens, y[:, -1, 0]

    def run(self, steps: int) -> float:
        """Take so many steps; returns the CPU seconds they took."""
        began = time.process_time()
        for _ in range(steps):
            tokens, targets = self.data()
            self.optimizer.zero_grad()
            prediction = -self.layer(tokens)[:, -1, -1]
            loss = 0.5 * ((prediction - targets) ** 2).mean()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.layer.parameters(), 10.0)
            self.optimizer.step()
        return time.process_time() - began

    def products(self):
        return tuple(product.detach() for product in self.layer.products())
