// The mathematics of "one layer, one step" in one dimension. Pure functions, no drawing.
//
// Gradient descent and attention are computed by different roads on purpose: the first knows a
// weight and a loss, the second knows tokens and four matrices. Nothing is shared between them.
// Conventions: L(w) = 1/(2N) sum (w x_i - y_i)^2; tokens (x, y), query token (x_q, -w0 x_q);
// the query is not a key; a prediction is minus the y slot of the query token.

const sum = (values) => values.reduce((total, value) => total + value, 0);

export function meanSquare(xs) {
  return xs.length === 0 ? null : sum(xs.map((x) => x * x)) / xs.length;
}

/** L(w); null without examples, where 1/N has no meaning. */
export function loss(weight, xs, ys) {
  if (xs.length === 0) return null;
  return sum(xs.map((x, i) => (weight * x - ys[i]) ** 2)) / (2 * xs.length);
}

/** The weights w_0 ... w_K of K steps; null without examples. */
export function gradientDescent(xs, ys, stepSize, steps, initialWeight) {
  if (xs.length === 0) return null;
  const path = [initialWeight];
  for (let k = 0; k < steps; k += 1) {
    const weight = path[k];
    const gradient = sum(xs.map((x, i) => (weight * x - ys[i]) * x)) / xs.length;
    path.push(weight - stepSize * gradient);
  }
  return path;
}

/** The least-squares weight; null where no example says anything about it (all inputs zero). */
export function leastSquaresWeight(xs, ys) {
  const power = sum(xs.map((x) => x * x));
  return power > 0 ? sum(xs.map((x, i) => x * ys[i])) / power : null;
}

/** One step of this size lands on the minimum of the parabola. */
export function bestStepSize(xs) {
  const power = meanSquare(xs);
  return power ? 1 / power : null;
}

/** Steps longer than this carry the weight farther from the minimum every time. */
export function divergenceStepSize(xs) {
  const power = meanSquare(xs);
  return power ? 2 / power : null;
}

/** What a step of this size does: a name for the caption. */
export function regime(xs, stepSize) {
  if (xs.length === 0) return "no examples";
  const best = bestStepSize(xs);
  if (best === null) return "flat";
  if (stepSize === 0) return "still";
  const ratio = stepSize / best;
  if (Math.abs(ratio - 1) < 5e-4) return "best";
  if (Math.abs(ratio - 2) < 5e-4) return "swings";
  if (ratio < 1) return "approaches";
  return ratio < 2 ? "overshoots" : "diverges";
}

/** Proposition 1 of von Oswald et al. (2023) for d = m = 1. */
export function constructedLayer(stepSize, nContext, initialWeight) {
  const rate = stepSize / nContext;
  return {
    key: [[1, 0], [0, 0]],
    query: [[1, 0], [0, 0]],
    value: [[0, 0], [initialWeight, -1]],
    projection: [[rate, 0], [0, rate]],
  };
}

const apply = (matrix, vector) => matrix.map((row) => sum(row.map((a, i) => a * vector[i])));
const dot = (a, b) => sum(a.map((value, i) => value * b[i]));

/** e_j + P sum_i (W_V e_i) (W_K e_i)^T (W_Q e_j), i over the first nContext tokens, no softmax. */
export function linearAttention(tokens, layer, nContext) {
  const context = tokens.slice(0, nContext);
  const keys = context.map((token) => apply(layer.key, token));
  const values = context.map((token) => apply(layer.value, token));
  return tokens.map((token) => {
    const query = apply(layer.query, token);
    const mixed = token.map(() => 0);
    keys.forEach((key, i) => {
      const score = dot(key, query);
      values[i].forEach((value, slot) => { mixed[slot] += score * value; });
    });
    const update = apply(layer.projection, mixed);
    return token.map((entry, slot) => entry + update[slot]);
  });
}

/** The tokens before the first layer and after each of K layers; null without examples. */
export function tokenPath(xs, ys, xQuery, stepSize, steps, initialWeight) {
  if (xs.length === 0) return null;
  const layer = constructedLayer(stepSize, xs.length, initialWeight);
  const path = [[...xs.map((x, i) => [x, ys[i]]), [xQuery, -initialWeight * xQuery]]];
  for (let k = 0; k < steps; k += 1) path.push(linearAttention(path[k], layer, xs.length));
  return path;
}

export const readPrediction = (tokens) => -tokens[tokens.length - 1][1];

/** Everything the component shows, from its state. */
export function solve({ xs, ys, xQuery, stepSize, steps, initialWeight }) {
  const power = meanSquare(xs);
  const common = {
    n: xs.length,
    meanSquare: power,
    best: bestStepSize(xs),
    divergence: divergenceStepSize(xs),
    leastSquares: leastSquaresWeight(xs, ys),
    regime: regime(xs, stepSize),
  };
  if (xs.length === 0) return { ...common, weights: null, tokens: null, losses: null };
  const weights = gradientDescent(xs, ys, stepSize, steps, initialWeight);
  const tokens = tokenPath(xs, ys, xQuery, stepSize, steps, initialWeight);
  const predictions = weights.map((weight) => weight * xQuery);
  const attentionPredictions = tokens.map(readPrediction);
  let difference = 0;
  let scale = 1;
  weights.forEach((weight, k) => {
    difference = Math.max(difference, Math.abs(predictions[k] - attentionPredictions[k]));
    scale = Math.max(scale, Math.abs(predictions[k]));
    xs.forEach((x, j) => {
      const residual = ys[j] - (weight - initialWeight) * x;
      difference = Math.max(difference, Math.abs(residual - tokens[k][j][1]));
      scale = Math.max(scale, Math.abs(residual));
    });
  });
  return {
    ...common,
    weights,
    tokens,
    predictions,
    attentionPredictions,
    prediction: predictions[steps],
    attentionPrediction: attentionPredictions[steps],
    difference,
    relativeDifference: difference / scale,
    losses: weights.map((weight) => loss(weight, xs, ys)),
    leastLoss: loss(common.leastSquares ?? initialWeight, xs, ys),
  };
}
