"""In a loop over the two orders.

verdict: accepted
"""


def theorem_gap(model, algorithm, weights, demonstrations, query, first, second):
    context, alone = [], []
    for order in (first, second):
        shown = [demonstrations[i] for i in order]
        context.append(model(weights, shown, query))
        alone.append(model(algorithm(weights, shown), [], query))
    return context[0] - context[1], alone[0] - alone[1]
