"""Separate query, key, value and projection, with another split of the step size.

verdict: accepted
"""

import torch


def next_step_weights(d, step_size, initial_weights):
    one, none = torch.eye(d), torch.zeros(d, d)
    w_key = torch.cat([none, none, one], 1)
    w_query = torch.cat([none, step_size * one, none], 1)
    w_value = torch.cat([none, one, -initial_weights], 1)
    projection = torch.cat([one, none, none], 0)
    return projection @ w_value, w_key.mT @ w_query
