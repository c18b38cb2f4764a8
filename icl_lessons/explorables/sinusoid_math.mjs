// Sine curves in context: a network's features, then gradient descent. Pure functions, no drawing.
//
// A token (x, y) becomes e = E (x, y) and then e + W_out gelu(W_in e + b_in) + b_out. Its last slot
// is the target, the others are features. Two roads lead to a prediction: descent holds a weight for
// every feature; attention rewrites the targets' slots, and minus the query's is the prediction.
// Without features a token stays (x, y), and the weight is the slope of a line through the origin.

const inner = (a, b) => {
  let total = 0;
  for (let i = 0; i < a.length; i += 1) total += a[i] * b[i];
  return total;
};

/** The error function, to about fifteen digits: its series near 0, a continued fraction beyond. */
export function erf(x) {
  const z = Math.abs(x);
  if (z > 6) return Math.sign(x);
  if (z < 2.5) {
    let term = x;
    let total = x;
    for (let n = 1; Math.abs(term) > 1e-17 * Math.abs(total); n += 1) {
      term *= (2 * x * x) / (2 * n + 1);
      total += term;
    }
    return (2 / Math.sqrt(Math.PI)) * Math.exp(-x * x) * total;
  }
  let tail = z;
  for (let n = 60; n > 0; n -= 1) tail = z + n / 2 / tail;
  return Math.sign(x) * (1 - Math.exp(-z * z) / (Math.sqrt(Math.PI) * tail));
}

export const gelu = {
  tanh: (x) => 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3))),
  erf: (x) => 0.5 * x * (1 + erf(x * Math.SQRT1_2)),
};

/** A token after the embedding and the MLP: features, then the target. Without weights, (x, y). */
export function tokenOf(weights, x, y, form = "tanh") {
  if (!weights) return [x, y];
  const embedded = weights.embedding.map(([a, b]) => a * x + b * y);
  const hidden = weights.w_in.map((row, h) => gelu[form](inner(row, embedded) + weights.b_in[h]));
  return embedded.map((value, i) => value + inner(weights.w_out[i], hidden) + weights.b_out[i]);
}

export const featuresOf = (token) => token.slice(0, -1);
export const targetOf = (token) => token[token.length - 1];
export const kernel = (a, b) => inner(featuresOf(a), featuresOf(b));

/** One over the mean of x^2: with this step, one step on raw inputs is the best line there is. */
export function lineStep(xs) {
  const power = inner(xs, xs);
  return power > 0 ? xs.length / power : 0;
}

/** By descent: weights from 0, K steps on 1/(2N) sum (w f_i - t_i)^2, then w f_q - t_q. */
export function descentPredictions(context, queries, stepSize, steps) {
  const features = context.map(featuresOf);
  let weights = features[0].map(() => 0);
  for (let k = 0; k < steps; k += 1) {
    const gradient = weights.map(() => 0);
    features.forEach((f, i) => {
      const residual = inner(weights, f) - targetOf(context[i]);
      f.forEach((value, a) => { gradient[a] += (residual * value) / features.length; });
    });
    weights = weights.map((weight, a) => weight - stepSize * gradient[a]);
  }
  return queries.map((query) => inner(weights, featuresOf(query)) - targetOf(query));
}

/** By attention: K layers that add -eta/N sum_i t_i k(e_i, e_j) to the last slot of every token. */
export function attentionSlots(context, queries, stepSize, steps) {
  const rate = stepSize / context.length;
  const among = context.map((a) => context.map((b) => kernel(a, b)));
  const toQueries = queries.map((query) => context.map((token) => kernel(token, query)));
  let slots = context.map(targetOf);
  let asked = queries.map(targetOf);
  const path = [slots];
  for (let k = 0; k < steps; k += 1) {
    asked = asked.map((slot, q) => slot - rate * inner(slots, toQueries[q]));
    slots = slots.map((slot, j) => slot - rate * inner(slots, among[j]));
    path.push(slots);
  }
  return { predictions: asked.map((slot) => -slot), path };
}

export const sine = ({ amplitude, phase }, x) => amplitude * Math.sin(x + phase);
export const targetsOf = (state) => state.xs.map((x, i) => sine(state, x) + state.offsets[i]);

/** The inputs at which curves are drawn and errors averaged. */
export const GRID = [...Array(201).keys()].map((i) => (i - 100) / 20);

const halfMeanSquare = (values) => inner(values, values) / (2 * values.length);

const queryTokens = new WeakMap(); // they depend on the weights alone
function gridTokens(weights, form) {
  if (!weights) return GRID.map((x) => [x, 0]);
  if (!queryTokens.has(weights)) queryTokens.set(weights, {});
  return (queryTokens.get(weights)[form] ??= GRID.map((x) => tokenOf(weights, x, 0, form)));
}

/** One learner, with features (weights given) or without: curve, kernel, errors, both roads. */
function learn(state, weights) {
  const { xs, steps, stepScale, xQuery, gelu: form } = state;
  const ys = targetsOf(state);
  const stepSize = stepScale * (weights ? weights.step_size : lineStep(xs));
  const context = xs.map((x, i) => tokenOf(weights, x, ys[i], form));
  const query = tokenOf(weights, xQuery, 0, form);
  const queries = [...gridTokens(weights, form), query];
  const curve = descentPredictions(context, queries, stepSize, steps);
  const attention = attentionSlots(context, queries, stepSize, steps);
  const scale = Math.max(1, ...curve.map(Math.abs));
  const difference = Math.max(...curve.map((value, q) => Math.abs(value - attention.predictions[q])));
  const left = attention.path.map(halfMeanSquare);
  return {
    stepSize,
    prediction: curve[curve.length - 1],
    curve: curve.slice(0, -1),
    difference,
    relativeDifference: difference / scale,
    error: halfMeanSquare(GRID.map((x, g) => curve[g] - sine(state, x))),
    left,
    grows: left[steps] > left[0] * (1 + 1e-9),
    kernelAtExamples: context.map((token) => kernel(token, query)),
    query,
    form,
  };
}

/** Kernel values between the query and tokens along the true curve. */
export function kernelCurve(state, weights, query, xs) {
  return xs.map((x) => kernel(tokenOf(weights, x, sine(state, x), state.gelu), query));
}

/** Everything the component shows, from its state. */
export function solveSine(state) {
  return {
    ys: targetsOf(state),
    zero: halfMeanSquare(GRID.map((x) => sine(state, x))),
    network: learn(state, state.weights),
    line: learn(state, null),
  };
}
