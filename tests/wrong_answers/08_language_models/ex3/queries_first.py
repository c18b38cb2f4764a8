"""Answers averaged over queries first.

verdict: rejected
found: in sight
says: BEFORE taking the deviation
"""


def order_sensitivity(probabilities):
    return probabilities.mean(1).std(0).sum()
