// One bad example in the context of four learners of a line, y = w . (1, x). Pure functions.
//
// Every prediction is computed by two roads that share nothing: weights, by iterating or by solving
// the normal equations, and influences in closed form, f = sum_i a_i y_i. (Clipped descent reads
// clipped labels: f = sum_i a_i clip(y_i).)

export const LEARNERS = ["one_step", "steps", "ridge", "clipped"];
export const INPUTS = [-1.4, -0.9, -0.3, 0.3, 0.9, 1.4];
export const TARGETS = [1.5, 0.9, 0.7, -0.1, -0.3, -0.9];
export const REACH = [4, 8]; // how far the moved example can go
const N = INPUTS.length;

const clip = (value, limit) => Math.min(limit, Math.max(-limit, value));
const range = [...Array(N).keys()];

/** The examples, the chosen one at its new place; `clean` puts it back. */
export function contextOf({ which, example }, clean = false) {
  const at = (list, part) => list.map((value, i) => (!clean && i === which - 1 ? example[part] : value));
  return { xs: at(INPUTS, 0), ys: at(TARGETS, 1) };
}

// ---------------------------------------------------------------------------- weights

/** Weights [intercept, slope] of `steps` steps of gradient descent from zero on 1/(2N) sum (w.(1,x) - y)^2. */
export function descentWeights({ xs, ys }, stepSize, steps) {
  let [b, w] = [0, 0];
  for (let k = 0; k < steps; k += 1) {
    let [gb, gw] = [0, 0];
    xs.forEach((x, i) => {
      const residual = b + w * x - ys[i];
      gb += residual / N;
      gw += (residual * x) / N;
    });
    [b, w] = [b - stepSize * gb, w - stepSize * gw];
  }
  return [b, w];
}

/** Weights of ridge: (X^T X + penalty I)^-1 X^T y. */
export function ridgeWeights({ xs, ys }, penalty) {
  const sum = (term) => xs.reduce((total, x, i) => total + term(x, ys[i]), 0);
  const [a, b, d] = [N + penalty, sum((x) => x), sum((x) => x * x) + penalty];
  const [p, q] = [sum((_, y) => y), sum((x, y) => x * y)];
  const det = a * d - b * b;
  return [(d * p - b * q) / det, (a * q - b * p) / det];
}

/** The weights of every learner on a context. */
export function weightsOf(state, context) {
  const { stepSize, steps, penalty, delta } = state;
  return {
    one_step: descentWeights(context, stepSize, 1), steps: descentWeights(context, stepSize, steps), ridge: ridgeWeights(context, penalty),
    clipped: descentWeights({ xs: context.xs, ys: context.ys.map((y) => clip(y, delta)) }, stepSize, 1),
  };
}

export const lineAt = ([b, w], x) => b + w * x;

// ---------------------------------------------------------------------------- influence

/** Eigenvalues of S = 1/N sum (1, x)(1, x)^T, larger first, with their unit vectors. */
export function spectrumOf(xs) {
  const mean = xs.reduce((total, x) => total + x, 0) / N;
  const square = xs.reduce((total, x) => total + x * x, 0) / N;
  const turn = 0.5 * Math.atan2(2 * mean, 1 - square);
  const root = Math.hypot((1 - square) / 2, mean);
  const [c, s] = [Math.cos(turn), Math.sin(turn)];
  return [{ value: (1 + square) / 2 + root, vector: [c, s] }, { value: (1 + square) / 2 - root, vector: [-s, c] }];
}

/** a_i of every learner at the query: how far a unit of label i moves the prediction. */
export function influenceOf(state, context) {
  const { stepSize, steps, penalty, delta, query } = state;
  const { xs, ys } = context;
  const spectrum = spectrumOf(xs);
  const along = (x, { vector }) => vector[0] + vector[1] * x;
  const filtered = (filter) => xs.map((x) => spectrum.reduce((total, one) => total + filter(one.value) * along(x, one) * along(query, one), 0));
  const covered = (mu) => (mu > 1e-12 ? (1 - (1 - stepSize * mu) ** steps) / mu : stepSize * steps);
  const one = xs.map((x) => (stepSize / N) * (1 + x * query));
  return {
    one_step: one, steps: filtered((mu) => covered(mu) / N), ridge: filtered((mu) => 1 / (N * mu + penalty)),
    clipped: one.map((a, i) => (Math.abs(ys[i]) < delta ? a : 0)),
  };
}

/** Predictions at the query as sums over the labels. */
function summed(state, context) {
  const influence = influenceOf(state, context);
  const { delta, stepSize, query } = state;
  const found = Object.fromEntries(["one_step", "steps", "ridge"].map((name) => [name, context.ys.reduce((total, y, i) => total + influence[name][i] * y, 0)]));
  found.clipped = context.ys.reduce((total, y, i) => total + (stepSize / N) * (1 + context.xs[i] * query) * clip(y, delta), 0);
  return found;
}

// ---------------------------------------------------------------------------- attacks

/** The change of one clean label by at most `budget` that raises a learner's prediction most. */
export function worstExample(state) {
  const { budget, delta, learner, query, stepSize } = state;
  const clean = contextOf(state, true);
  const influence = influenceOf(state, clean)[learner];
  const shiftOf = (i, change) => (learner !== "clipped" ? influence[i] * change
    : (stepSize / N) * (1 + clean.xs[i] * query) * (clip(clean.ys[i] + change, delta) - clip(clean.ys[i], delta)));
  let best = null;
  for (const i of range) {
    for (const change of [budget, -budget]) {
      const shift = shiftOf(i, change);
      if (!best || shift > best.shift + 1e-12) best = { which: i + 1, example: [clean.xs[i], clean.ys[i] + change], shift };
    }
  }
  return best;
}

/** The pair at the query's own input that makes one step of descent say `target`. */
export function hijackExample(state) {
  const { which, query, stepSize, target } = state;
  const clean = contextOf(state, true);
  const others = range.reduce((total, i) => total + (i === which - 1 ? 0 : clean.ys[i] * (1 + clean.xs[i] * query)), 0);
  const label = ((N * target) / stepSize - others) / (1 + query * query);
  return { example: [query, clip(label, REACH[1])], label, reached: Math.abs(label) <= REACH[1] };
}

// ---------------------------------------------------------------------------- both, compared

const predict = (state, context) => {
  const weights = weightsOf(state, context);
  return Object.fromEntries(LEARNERS.map((name) => [name, lineAt(weights[name], state.query)]));
};

/** How far each learner moves from clean with the chosen example at each of these places. */
export function movedAt(state, places) {
  const clean = predict(state, contextOf(state, true));
  return places.map((example) => {
    const now = predict(state, contextOf({ ...state, example }));
    return Object.fromEntries(LEARNERS.map((name) => [name, now[name] - clean[name]]));
  });
}

/** Everything the component shows, from its state. */
export function solvePoison(state) {
  const [context, clean] = [contextOf(state), contextOf(state, true)];
  const weights = weightsOf(state, context);
  const [before, after, bySum] = [predict(state, clean), predict(state, context), summed(state, context)];
  const moved = Object.fromEntries(LEARNERS.map((name) => [name, after[name] - before[name]]));
  const scale = Math.max(1, ...LEARNERS.map((name) => Math.abs(after[name])));
  const difference = Math.max(...LEARNERS.map((name) => Math.abs(after[name] - bySum[name])));
  return {
    context, clean, weights, cleanWeights: weightsOf(state, clean), before, after, bySum, moved, difference, relativeDifference: difference / scale,
    influence: influenceOf(state, context), cleanInfluence: influenceOf(state, clean),
    broken: Object.fromEntries(LEARNERS.map((name) => [name, Math.abs(moved[name]) > state.threshold])),
    curvature: spectrumOf(context.xs)[0].value,
    clippedBound: ((2 * state.delta * state.stepSize) / N) * Math.abs(1 + clean.xs[state.which - 1] * state.query),
  };
}
