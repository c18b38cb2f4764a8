"""The mean over the vocabulary.

verdict: rejected
found: in sight
says: the mean over the vocabulary
"""


def order_sensitivity(probabilities):
    return probabilities.std(0).mean()
