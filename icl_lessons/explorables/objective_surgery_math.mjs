// Layers of attention, each with one edit, and the loss that the edited layer descends. Two inputs,
// two targets, eight examples of which the last is an outlier. Pure functions, no drawing.
//
// Every path is computed by two roads that share nothing: descent knows weights and the gradient of
// an inner loss; attention knows tokens (x, v, p), the value map that fills v, and its matrices.

export const OBJECTIVES = ["squared", "ridge", "huber", "absolute", "cosine", "sign_flipped", "weighted", "forget", "metric"];
export const MOST_LAYERS = 40;
export const OUTLIER = 7;
export const INPUTS = [[1.4, 0.5], [0.9, 1.2], [0.6, -0.5], [-0.4, 0.9], [-1.3, -0.4], [-0.9, -1.2], [0.1, -0.9], [1.2, -0.3]];
const NOISE = [[0.05, -0.08], [-0.1, 0.04], [0.07, 0.1], [-0.06, -0.05], [0.03, 0.09], [0.08, -0.04], [-0.09, 0.02], [0, 0]];
export const TRUE_WEIGHTS = [[1.3, 0.5], [-0.6, 1.2]];
export const INITIAL_WEIGHTS = [[0.4, -0.3], [0.1, 0.5]];
const N = INPUTS.length;

const dot = (a, b) => a[0] * b[0] + a[1] * b[1];
const times = (A, v) => A.map((row) => row.reduce((total, a, i) => total + a * v[i], 0));
const product = (A, B) => A.map((row) => [0, 1].map((j) => row[0] * B[0][j] + row[1] * B[1][j]));
const clip = (value, limit) => Math.min(limit, Math.max(-limit, value));
const zeros = () => [[0, 0], [0, 0]];

/** The targets of the eight examples. */
export const targetsOf = ({ outlier }) =>
  INPUTS.map((x, i) => (i === OUTLIER ? [...outlier] : times(TRUE_WEIGHTS, x).map((value, a) => value + NOISE[i][a])));

/** Half the mean squared error on the true task, for inputs x ~ N(0, I). */
export const taskError = (W) => 0.5 * W.flat().reduce((total, w, k) => total + (w - TRUE_WEIGHTS.flat()[k]) ** 2, 0);

// ---------------------------------------------------------------------------- the layer

const moment = () => {
  const S = zeros();
  for (const x of INPUTS) for (const a of [0, 1]) for (const b of [0, 1]) S[a][b] += (x[a] * x[b]) / N;
  return S;
};

/** The inverse of the inputs' second moment. */
export function inverseMoment() {
  const [[a, b], [c, d]] = moment();
  const det = a * d - b * c;
  return [[d / det, -b / det], [-c / det, a / det]];
}

/** The value map: what a token with prediction p and target y writes into its v slots. */
export function valueOf({ objective, delta }, p, y) {
  if (objective === "huber") return y.map((target, a) => clip(target - p[a], delta));
  if (objective === "absolute") return y.map((target, a) => Math.sign(target - p[a]));
  if (objective === "cosine") {
    const [length, other] = [Math.hypot(...p), Math.hypot(...y)];
    if (length === 0 || other === 0) return [0, 0];
    const cosine = dot(p, y) / length / other;
    return y.map((target, a) => (target / other - (cosine * p[a]) / length) / length);
  }
  return y.map((target, a) => target - p[a]);
}

/** The layer's parts: Gamma, the projection of v into p, what is kept of p, and the key weights. */
export function layerOf(state) {
  const { objective, stepSize, ridge, outlierWeight, forgotten, metric } = state;
  const gamma = [[1, 0], [0, 1]];
  if (objective === "forget") gamma[forgotten - 1][forgotten - 1] = 0;
  const inverse = inverseMoment();
  const rate = ((objective === "sign_flipped" ? -1 : 1) * stepSize) / N;
  const kept = objective === "ridge" ? 1 - stepSize * ridge : 1;
  return {
    gamma: objective !== "metric" ? gamma : gamma.map((row, a) => row.map((value, b) => (1 - metric) * value + metric * inverse[a][b])),
    projection: [[rate, 0], [0, rate]],
    keep: [[kept, 0], [0, kept]],
    keyWeights: INPUTS.map((_, i) => (objective === "weighted" && i === OUTLIER ? outlierWeight : 1)),
  };
}

/** Which parts of a layer an edit has changed, entry by entry: the same shapes, true or false. */
export function changedParts(layer, plain) {
  const differ = (one, other) => (Array.isArray(one) ? one.map((part, i) => differ(part, other[i])) : one !== other);
  return differ([layer.gamma, layer.projection, layer.keep, layer.keyWeights], [plain.gamma, plain.projection, plain.keep, plain.keyWeights])
    .reduce((found, part, i) => ({ ...found, [["gamma", "projection", "keep", "keyWeights"][i]]: part }), {});
}

/** The weights that predictions at (1, 0) and (0, 1) spell, layer by layer. */
export function attend(state) {
  const targets = targetsOf(state);
  const { gamma, projection, keep, keyWeights } = layerOf(state);
  let tokens = [...INPUTS, [1, 0], [0, 1]].map((x) => ({ x, p: times(INITIAL_WEIGHTS, x) }));
  const spelled = () => [0, 1].map((a) => [tokens[N].p[a], tokens[N + 1].p[a]]);
  const path = [spelled()];
  for (let k = 0; k < MOST_LAYERS; k += 1) {
    const values = targets.map((y, i) => times(projection, valueOf(state, tokens[i].p, y)));
    tokens = tokens.map(({ x, p }) => {
      const query = times(gamma, x);
      const brought = [0, 0];
      values.forEach((value, i) => {
        const score = keyWeights[i] * dot(INPUTS[i], query);
        brought[0] += score * value[0];
        brought[1] += score * value[1];
      });
      return { x, p: times(keep, p).map((value, a) => value + brought[a]) };
    });
    path.push(spelled());
  }
  return path;
}

// ---------------------------------------------------------------------------- the inner loss

/** What the layer descends: a mean over the examples, at weights W. */
export function innerLoss(state, W) {
  const { objective, delta, ridge, outlierWeight } = state;
  let total = 0;
  targetsOf(state).forEach((y, i) => {
    const p = times(W, INPUTS[i]);
    const away = p.map((value, a) => value - y[a]);
    const square = 0.5 * dot(away, away);
    if (objective === "huber") {
      for (const r of away) total += Math.abs(r) <= delta ? 0.5 * r * r : delta * (Math.abs(r) - delta / 2);
    } else if (objective === "absolute") {
      total += Math.abs(away[0]) + Math.abs(away[1]);
    } else if (objective === "cosine") {
      const lengths = Math.hypot(...p) * Math.hypot(...y);
      total -= lengths > 0 ? dot(p, y) / lengths : 0;
    } else if (objective === "sign_flipped") {
      total -= square;
    } else {
      total += (objective === "weighted" && i === OUTLIER ? outlierWeight : 1) * square;
    }
  });
  return total / N + (objective === "ridge" ? (ridge / 2) * (dot(W[0], W[0]) + dot(W[1], W[1])) : 0);
}

/** The gradient of the inner loss with respect to W. */
export function innerGradient(state, W) {
  const { objective, delta, ridge, outlierWeight } = state;
  const gradient = W.map((row) => row.map((w) => (objective === "ridge" ? ridge * w : 0)));
  targetsOf(state).forEach((y, i) => {
    const x = INPUTS[i];
    const p = times(W, x);
    let slope = [p[0] - y[0], p[1] - y[1]];
    if (objective === "huber") slope = slope.map((r) => (Math.abs(r) <= delta ? r : delta * Math.sign(r)));
    if (objective === "absolute") slope = slope.map(Math.sign);
    if (objective === "sign_flipped") slope = slope.map((r) => -r);
    if (objective === "weighted" && i === OUTLIER) slope = slope.map((r) => outlierWeight * r);
    if (objective === "cosine") { // only the part of y across p turns p
      const [turn, size] = [p[0] * y[1] - p[1] * y[0], Math.hypot(...p) ** 3 * Math.hypot(...y)];
      slope = size > 0 ? [(turn * p[1]) / size, (-turn * p[0]) / size] : [0, 0];
    }
    for (const a of [0, 1]) for (const b of [0, 1]) gradient[a][b] += (slope[a] * x[b]) / N;
  });
  return gradient;
}

/** Descent on the inner loss, preconditioned for "metric" and kept from one column for "forget". */
export function descend(state) {
  const { objective, stepSize, forgotten, metric } = state;
  const path = [INITIAL_WEIGHTS.map((row) => [...row])];
  const inverse = inverseMoment();
  for (let k = 0; k < MOST_LAYERS; k += 1) {
    const W = path[k];
    let gradient = innerGradient(state, W);
    if (objective === "forget") gradient = gradient.map((row) => row.map((g, b) => (b === forgotten - 1 ? 0 : g)));
    if (objective === "metric") {
      const turned = product(gradient, inverse);
      gradient = gradient.map((row, a) => row.map((g, b) => g + metric * (turned[a][b] - g)));
    }
    path.push(W.map((row, a) => row.map((w, b) => w - stepSize * gradient[a][b])));
  }
  return path;
}

// ---------------------------------------------------------------------------- contours

/** Lines of equal height of values[j][i] at (xs[i], ys[j]): for each level, segments [x1, y1, x2, y2]. */
export function contourLines(xs, ys, values, levels) {
  return levels.map((level) => {
    const segments = [];
    for (let j = 0; j + 1 < ys.length; j += 1) {
      for (let i = 0; i + 1 < xs.length; i += 1) {
        const corners = [[i, j], [i + 1, j], [i + 1, j + 1], [i, j + 1]];
        const crossings = [];
        corners.forEach(([a, b], side) => {
          const [c, d] = corners[(side + 1) % 4];
          const [here, there] = [values[b][a], values[d][c]];
          if ((here < level) === (there < level)) return;
          const share = (level - here) / (there - here);
          crossings.push(xs[a] + share * (xs[c] - xs[a]), ys[b] + share * (ys[d] - ys[b]));
        });
        for (let k = 0; k + 3 < crossings.length; k += 4) segments.push(crossings.slice(k, k + 4));
      }
    }
    return segments;
  });
}

/** The inner loss over one row of W, the other row as it is in `W`: a grid, and levels of equal area. */
export function sliceOf(state, W, row, [low, high], [bottom, top], count = 36) {
  const along = (from, to) => [...Array(count + 1).keys()].map((i) => from + ((to - from) * i) / count);
  const [xs, ys] = [along(low, high), along(bottom, top)];
  const values = ys.map((y) => xs.map((x) => innerLoss(state, W.map((other, a) => (a === row ? [x, y] : other)))));
  const sorted = values.flat().sort((a, b) => a - b);
  const levels = [...Array(11).keys()].map((k) => sorted[Math.floor(((k + 1) * sorted.length) / 12)]);
  return { xs, ys, values, levels };
}

// ---------------------------------------------------------------------------- both, compared

/** Everything the component shows, from its state. Paths have all 40 layers. */
export function solveSurgery(state) {
  const plainState = { ...state, objective: "squared" };
  const [weights, plain, attention] = [descend(state), descend(plainState), attend(state)];
  const layer = layerOf(state);
  const targets = targetsOf(state);
  const now = weights[state.layers];
  let [difference, scale] = [0, 1];
  weights.slice(0, state.layers + 1).forEach((W, k) => W.flat().forEach((value, i) => {
    difference = Math.max(difference, Math.abs(value - attention[k].flat()[i]));
    scale = Math.max(scale, Math.abs(value));
  }));
  const predictions = INPUTS.map((x) => times(now, x));
  const values = predictions.map((p, i) => valueOf(state, p, targets[i]));
  const sign = state.objective === "sign_flipped" ? -1 : 1;
  return {
    weights, plain, attention, difference, relativeDifference: difference / scale,
    layer, changed: changedParts(layer, layerOf(plainState)),
    targets, predictions, values,
    pulls: values.map((value, i) => value.map((v) => sign * layer.keyWeights[i] * v)),
    losses: weights.map((W) => innerLoss(state, W)), errors: weights.map(taskError), plainErrors: plain.map(taskError),
    cosines: predictions.map((p, i) => (dot(p, p) * dot(targets[i], targets[i]) > 0 ? dot(p, targets[i]) / Math.hypot(...p) / Math.hypot(...targets[i]) : 0)),
  };
}
