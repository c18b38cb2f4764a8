// The mathematics of the quadratic bowl in two dimensions. Pure functions, no drawing.
//
// Every method is computed by two roads that share nothing: descent knows a weight, the matrix S and
// the loss L(w) = 1/2 (w - w*)^T S (w - w*); attention knows tokens and the matrices of its layers.
// S is the covariance of four examples with targets w*^T x, so both are about the same bowl.
// Its larger eigenvalue is 1; the smaller, 1 / conditioning, belongs to the direction `angle`.

export const METHODS = ["descent", "preconditioned", "plusplus", "newton"];
export const N_EXAMPLES = 4;

const outer = (a, b) => a.map((p) => b.map((q) => p * q));
const combine = (p, A, q, B) => A.map((row, i) => row.map((a, j) => p * a + q * B[i][j]));
const product = (A, B) => A.map((row) => B[0].map((_, j) => row.reduce((total, a, k) => total + a * B[k][j], 0)));
const times = (A, v) => A.map((row) => row.reduce((total, a, k) => total + a * v[k], 0));
const eye = (size) => [...Array(size).keys()].map((i) => [...Array(size).keys()].map((j) => (i === j ? 1 : 0)));

/** The unit vector of an angle in degrees. */
export const direction = (angle) => [Math.cos((angle * Math.PI) / 180), Math.sin((angle * Math.PI) / 180)];

/** The matrix with eigenvalue `flat` along `angle` and `steep` across it. */
export function symmetric(flat, steep, angle) {
  const [c, s] = direction(angle);
  return combine(flat, outer([c, s], [c, s]), steep, outer([-s, c], [-s, c]));
}

/** The eigenvalues of a 2 x 2 matrix that has real ones, larger first. */
export function eigenvalues([[a, b], [c, d]]) {
  const half = (a + d) / 2;
  const root = Math.sqrt(Math.max(((a - d) / 2) ** 2 + b * c, 0));
  const top = half + root;
  return [top, top === 0 ? 0 : (a * d - b * c) / top];
}

export function lossOf(weight, target, S) {
  const away = weight.map((w, i) => w - target[i]);
  return 0.5 * times(S, away).reduce((total, value, i) => total + value * away[i], 0);
}

/** Step size and gamma of each GD++ layer: shared, or divided by the spectrum's top at that layer. */
export function plusPlusSchedule({ conditioning, stepSize, gamma, ownWeights, layers }) {
  let spectrum = [1, 1 / conditioning];
  return [...Array(layers).keys()].map(() => {
    const top = ownWeights ? Math.max(...spectrum) : 1;
    const layer = { stepSize: stepSize / top, gamma: gamma / top };
    spectrum = spectrum.map((lambda) => lambda * (1 - layer.gamma * lambda) ** 2);
    return layer;
  });
}

// ---------------------------------------------------------------------------- descent on weights

/** A method's weights w_0 = 0 ... w_K, and for both directions the eigenvalue and what is left. */
export function descend(method, state) {
  const { conditioning, angle, fitConditioning, fitAngle, target, stepSize, layers } = state;
  const S = symmetric(1 / conditioning, 1, angle);
  const own = [1, 1 / conditioning];
  const weights = [[0, 0]];
  const spectra = [];
  const left = [[1, 1]];
  const move = (step) => {
    const now = weights[weights.length - 1];
    weights.push(now.map((w, i) => w - step[i]));
  };
  const gradient = () => times(S, weights[weights.length - 1].map((w, i) => w - target[i]));
  const shrink = (factors) => left.push(left[left.length - 1].map((value, i) => value * factors[i]));

  if (method === "descent" || method === "preconditioned") {
    const P = method === "descent" ? eye(2) : symmetric(fitConditioning, 1, fitAngle);
    const spectrum = method === "descent" ? own : eigenvalues(product(P, S));
    spectra.push(spectrum);
    for (let k = 0; k < layers; k += 1) {
      move(times(P, gradient()).map((g) => stepSize * g));
      shrink(spectrum.map((lambda) => 1 - stepSize * lambda));
      spectra.push(spectrum);
    }
  } else if (method === "plusplus") {
    let A = eye(2);
    spectra.push(own);
    for (const layer of plusPlusSchedule(state)) {
      const spectrum = spectra[spectra.length - 1];
      move(times(product(A, A), gradient()).map((g) => layer.stepSize * g));
      shrink(spectrum.map((lambda) => 1 - layer.stepSize * lambda));
      spectra.push(spectrum.map((lambda) => lambda * (1 - layer.gamma * lambda) ** 2));
      A = product(combine(1, eye(2), -layer.gamma, product(product(A, S), A)), A);
    }
  } else {
    const alpha = newtonStart(conditioning);
    let M = S.map((row) => row.map((value) => alpha * value));
    spectra.push([0, 0]);
    for (let k = 0; k < layers; k += 1) {
      if (k > 0) M = combine(2, M, -1, product(product(M, S), M));
      weights.push(times(product(M, S), target));
      left.push(own.map((lambda) => (1 - alpha * lambda ** 2) ** (2 ** k)));
      spectra.push(left[k + 1].map((value) => 1 - value));
    }
  }
  return { weights, spectra, left, losses: weights.map((weight) => lossOf(weight, target, S)) };
}

/** alpha of M_0 = alpha S: one over the Frobenius norm of S S^T. */
export const newtonStart = (conditioning) => 1 / Math.hypot(1, conditioning ** -2);

// ---------------------------------------------------------------------------- attention on tokens

/** Four examples whose covariance is S and whose targets are exact: rows [x1, x2, y]. */
export function exampleTokens({ conditioning, angle, target }) {
  const root = symmetric(1 / Math.sqrt(conditioning), 1, angle);
  const round = [[Math.SQRT2, 0], [0, Math.SQRT2], [-1, -1], [1, -1]];
  return round.map((u) => {
    const x = times(root, u);
    return [...x, x[0] * target[0] + x[1] * target[1]];
  });
}

/** e_j + sum over heads and context of (PW_V e_i) (e_i^T W_KQ e_j); what comes after it is no key. */
export function attend(tokens, heads, nContext) {
  const updates = heads.map(({ kq, pv }) => {
    const values = tokens.slice(0, nContext).map((token) => times(pv, token));
    return tokens.map((token) => {
      const asked = times(kq, token);
      const scores = tokens.slice(0, nContext).map((key) => key.reduce((total, value, slot) => total + value * asked[slot], 0));
      return token.map((_, slot) => values.reduce((total, value, i) => total + scores[i] * value[slot], 0));
    });
  });
  return tokens.map((token, j) => token.map((entry, slot) => updates.reduce((total, update) => total + update[j][slot], entry)));
}

/** The matrices of a method's layers for tokens [x1, x2, y]; every layer has one head. */
export function layerMatrices(method, state) {
  const { fitConditioning, fitAngle, stepSize, layers } = state;
  const P = method === "preconditioned" ? symmetric(fitConditioning, 1, fitAngle) : eye(2);
  const kq = [[...P[0], 0], [...P[1], 0], [0, 0, 0]];
  const schedule = method === "plusplus" ? plusPlusSchedule(state)
    : [...Array(layers)].map(() => ({ stepSize, gamma: 0 }));
  return schedule.map((layer) => {
    const [g, eta] = [-layer.gamma / N_EXAMPLES + 0, -layer.stepSize / N_EXAMPLES + 0];
    return { kq, pv: [[g, 0, 0], [0, g, 0], [0, 0, eta]] };
  });
}

// Newton's tokens have more slots. Two row tokens hold one row each of M, S and S M, and an address.
const SLOTS = { x: [0, 1], y: [2], id: [3, 4], m: [5, 6], s: [7, 8], t: [9, 10], b: [11], w: [12] };
const WIDTH = 13;

function wiring(...links) {
  const matrix = eye(WIDTH).map((row) => row.map(() => 0));
  for (const [to, from, size] of links) SLOTS[to].forEach((slot, i) => { matrix[slot][SLOTS[from][i]] = size; });
  return matrix;
}

const inSlots = (slots) => {
  const token = Array(WIDTH).fill(0);
  for (const [name, values] of Object.entries(slots)) SLOTS[name].forEach((slot, i) => { token[slot] = values[i]; });
  return token;
};

function newtonTokens(state) {
  const { conditioning, layers } = state;
  const share = 1 / N_EXAMPLES;
  const read = [{ kq: wiring(["x", "id", 1]),
    pv: wiring(["s", "x", share], ["m", "x", share * newtonStart(conditioning)], ["b", "y", share]) }];
  const multiply = [{ kq: wiring(["id", "s", 1]), pv: wiring(["t", "m", 1]) },
    { kq: wiring(["id", "t", 1]), pv: wiring(["t", "id", -1]) }];
  const refine = [{ kq: wiring(["id", "m", 1]), pv: combine(1, wiring(["m", "id", 1]), -1, wiring(["m", "t", 1])) }];
  const weigh = [{ kq: wiring(["id", "m", 1]), pv: wiring(["w", "b", 1]) }];
  const answer = [{ kq: wiring(["id", "x", 1]), pv: wiring(["y", "w", -1]) }];

  const nContext = N_EXAMPLES + 2;
  let tokens = [
    ...exampleTokens(state).map(([x1, x2, y]) => inSlots({ x: [x1, x2], y: [y] })),
    inSlots({ id: [1, 0] }), inSlots({ id: [0, 1] }),
    inSlots({ x: [1, 0] }), inSlots({ x: [0, 1] }),
  ];
  const path = [tokens];
  for (let k = 0; k < layers; k += 1) {
    for (const heads of k === 0 ? [read] : [multiply, refine]) tokens = attend(tokens, heads, nContext);
    path.push(tokens);
  }
  const weights = path.map((now) => attend(attend(now, weigh, nContext), answer, nContext).slice(-2).map((query) => -query[2]));
  const inverse = path.map((now) => now.slice(N_EXAMPLES, nContext).map((row) => SLOTS.m.map((slot) => row[slot])));
  return { weights, inverse, inputs: path.map(() => exampleTokens(state).map(([x1, x2]) => [x1, x2])) };
}

/** The weights that the predictions at (1, 0) and (0, 1) spell, and the inputs, after each layer. */
export function attentionPath(method, state) {
  if (method === "newton") return newtonTokens(state);
  let tokens = [...exampleTokens(state), [1, 0, 0], [0, 1, 0]];
  const path = [tokens];
  for (const layer of layerMatrices(method, state)) {
    tokens = attend(tokens, [layer], N_EXAMPLES);
    path.push(tokens);
  }
  return {
    weights: path.map((now) => now.slice(-2).map((query) => -query[2])),
    inputs: path.map((now) => now.slice(0, N_EXAMPLES).map(([x1, x2]) => [x1, x2])),
  };
}

/** The covariance of inputs, rows [x1, x2]. */
export const covarianceOf = (inputs) => [0, 1].map((i) => [0, 1].map((j) =>
  inputs.reduce((total, x) => total + x[i] * x[j], 0) / inputs.length));

// ---------------------------------------------------------------------------- both, compared

/** Everything the component shows, from its state. */
export function solveBowl(state) {
  const S = symmetric(1 / state.conditioning, 1, state.angle);
  const methods = Object.fromEntries(METHODS.map((method) => {
    const found = descend(method, state);
    const attention = attentionPath(method, state);
    let difference = 0;
    let scale = 1;
    found.weights.forEach((weight, k) => weight.forEach((value, i) => {
      difference = Math.max(difference, Math.abs(value - attention.weights[k][i]));
      scale = Math.max(scale, Math.abs(value));
    }));
    if (method === "plusplus") {
      attention.inputs.forEach((inputs, k) => {
        const sorted = [...found.spectra[k]].sort((a, b) => b - a);
        eigenvalues(covarianceOf(inputs)).forEach((lambda, i) => { difference = Math.max(difference, Math.abs(lambda - sorted[i])); });
      });
    }
    return [method, { ...found, attention, difference, relativeDifference: difference / scale }];
  }));
  const [top, bottom] = methods.preconditioned.spectra[0];
  return { S, methods, startLoss: lossOf([0, 0], state.target, S), fittedConditioning: top / bottom, fittedTop: top };
}
