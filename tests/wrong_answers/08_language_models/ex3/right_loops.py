"""The sums of the definition.

verdict: accepted
"""


def order_sensitivity(probabilities):
    orders, queries, size = probabilities.shape
    total = 0.0
    for q in range(queries):
        for v in range(size):
            values = probabilities[:, q, v].tolist()
            mean = sum(values) / orders
            total += (sum((x - mean) ** 2 for x in values) / (orders - 1)) ** 0.5
    return total / queries
