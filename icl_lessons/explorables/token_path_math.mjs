// The weights that stand for the tokens read so far, token by token. Pure functions, no drawing.
//
// The path is computed by two roads: descent, a recursion on matrices, and the closed form; and the
// prediction by two more: with tokens and W0, and without them and with W_i.
import { applyTo, finish, inner, outer, plus, singularValues, sizeOf } from "./block_math.mjs";
import { normals, uniform } from "./random.mjs";

export const EXAMPLES = 100;
export const NOISE = 0.1;
export const FIRST_FITTED = 5;
const [XS, NOISES, SHUFFLE] = [20, 21, 22]; // streams of chance
const RANDOM_PARTS = {
  w_query: [30, 2, 2, 0.7], w_key: [31, 2, 2, 0.7], w_value: [32, 2, 2, 1], projection: [33, 2, 2, 1],
  dense: [34, 4, 2, 0.7], dense_bias: [35, 4, 0, 0.3], write: [36, 2, 4, 0.5], write_bias: [37, 2, 0, 0.3],
};

/** The examples (x, y) in the order in which they are read. */
export function examplesOf({ seed, slope, order, shuffle }) {
  const [xs, noise] = [normals(seed, XS, EXAMPLES), normals(seed, NOISES, EXAMPLES)];
  const list = [...xs].map((x, i) => [x, slope * x + NOISE * noise[i]]);
  const by = { drawn: (i) => i, sorted: (i) => xs[i], shuffled: (i) => uniform(shuffle, SHUFFLE, i) }[order];
  return list.map((_, i) => i).sort((a, b) => by(a) - by(b)).map((i) => list[i]);
}

/** Both blocks: weights written down that do regression, and random ones. */
export function blockOf({ attention, seed }, kind) {
  const scale = attention === "linear" ? 1 / EXAMPLES : 1;
  if (kind === "written") {
    return {
      w_query: [[attention === "softmax" ? Math.SQRT2 : scale, 0], [0, 0]], w_key: [[1, 0], [0, 0]], w_value: [[1, 0], [0, 1]], projection: [[1, 0], [0, 1]],
      dense: [[1, 0], [-1, 0], [0, 1], [0, -1]], dense_bias: [0, 0, 0, 0], write: [[1, -1, 0, 0], [0, 0, 1, -1]], write_bias: [0, 0],
    };
  }
  const part = {};
  for (const [name, [stream, rows, columns, size]] of Object.entries(RANDOM_PARTS)) {
    const drawn = [...normals(seed, stream, rows * (columns || 1))].map((value) => size * value);
    part[name] = columns === 0 ? drawn : [...Array(rows).keys()].map((i) => drawn.slice(i * columns, (i + 1) * columns));
  }
  part.w_query = part.w_query.map((row) => row.map((value) => value * scale));
  return part;
}

const addTo = (A, B, scale = 1) => A.map((row, a) => plus(row, B[a], scale));
const predictionOf = (part, dense, read) => finish(part, dense, read)[1];

/** What the dense layer is fed when `query` reads none, one, two, ... of the examples, from the front. */
export function feedAlong(part, examples, query, attention) {
  const asked = applyTo(part.w_query, query);
  const scores = [query, ...examples].map((token) => inner(applyTo(part.w_key, token), asked));
  const most = Math.max(...scores);
  const factors = attention === "softmax" ? scores.map((score) => Math.exp((score - most) / Math.SQRT2)) : scores;
  let [sum, total] = [query.map((value) => factors[0] * value), factors[0]];
  const out = () => applyTo(part.projection, applyTo(part.w_value, attention === "softmax" ? sum.map((value) => value / total) : sum));
  return [out(), ...examples.map((token, i) => {
    sum = plus(sum, token, factors[i + 1]);
    total += factors[i + 1];
    return out();
  })];
}

/** The W_i by descent on the losses tr(G_i^T W), from what the dense layer is fed after i tokens. */
export function descendTokens(dense, fed) {
  const h = 1 / inner(fed[0], fed[0]);
  const path = [dense];
  for (let i = 0; i + 1 < fed.length; i += 1) {
    const gradient = outer(applyTo(dense, plus(fed[i], fed[i + 1], -1)), fed[0]);
    path.push(addTo(path[i], gradient, -h));
  }
  return path;
}

/** The same in closed form: W_0 plus the update that stands for the first i tokens. */
export const standFor = (dense, fed) => fed.map((read) =>
  addTo(dense, outer(applyTo(dense, plus(read, fed[0], -1)), fed[0]), 1 / inner(fed[0], fed[0])));

/** The W_i that absorb tokens from the front, from what is fed by the rest. */
export function absorbTokens(dense, rest) {
  const path = [dense];
  for (let i = 1; i < rest.length; i += 1) {
    const step = outer(applyTo(path[i - 1], plus(rest[i - 1], rest[i], -1)), rest[i]);
    path.push(addTo(path[i - 1], step, 1 / inner(rest[i], rest[i])));
  }
  return path;
}

/** r with W r = v, by least squares: W has two columns. */
function solveColumns(W, v) {
  const [p, q] = [0, 1].map((k) => W.map((row) => row[k]));
  const [a, b, d] = [inner(p, p), inner(p, q), inner(q, q)];
  const [u, w] = [inner(p, v), inner(q, v)];
  const det = a * d - b * b;
  return [(d * u - b * w) / det, (a * w - b * u) / det];
}

/** The slope of log increments on log token numbers, from the fifth on. */
export function slopeOf(increments) {
  const points = increments.map((size, i) => [Math.log(i + 1), Math.log(size)]).filter(([, size], i) => i + 1 >= FIRST_FITTED && Number.isFinite(size));
  const [mx, my] = [0, 1].map((k) => points.reduce((total, point) => total + point[k], 0) / points.length);
  return points.reduce((total, [x, y]) => total + (x - mx) * (y - my), 0) / points.reduce((total, [x]) => total + (x - mx) ** 2, 0);
}

/** One block's way through the examples. */
export function traceOf(state, kind) {
  const { attention, path, query } = state;
  const part = blockOf(state, kind);
  const examples = examplesOf(state);
  const here = [query, 0];
  const fed = feedAlong(part, examples, here, attention);
  let [weights, difference] = [null, 0];
  let [whole, rest] = [fed, fed.map(() => fed[0])]; // what W_0 and W_i are fed
  if (path === "additive") {
    weights = descendTokens(part.dense, fed);
    standFor(part.dense, fed).forEach((W, i) => { difference = Math.max(difference, sizeOf(addTo(W, weights[i], -1))); });
  } else {
    rest = feedAlong(part, [...examples].reverse(), here, attention).reverse();
    whole = fed.map(() => fed[EXAMPLES]);
    weights = absorbTokens(part.dense, rest);
  }
  const moved = weights.map((W) => addTo(W, part.dense, -1));
  const unit = fed[0].map((value) => value / sizeOf(fed[0]));
  const increments = weights.slice(1).map((W, i) => sizeOf(addTo(W, weights[i], -1)));
  return {
    weights, fed, increments, difference, slope: slopeOf(increments), unit, size: moved.map(sizeOf), sizeW: sizeOf(part.dense),
    singular: moved.map(singularValues), along: moved.map((W) => solveColumns(part.dense, applyTo(W, unit))),
    withContext: whole.map((a) => predictionOf(part, part.dense, a)), changed: weights.map((W, i) => predictionOf(part, W, rest[i])),
    alone: weights.map((W) => predictionOf(part, W, fed[0])),
  };
}

/** Everything the component shows but how many tokens are read. */
export function solvePath(state) {
  const other = state.order === "drawn" ? null : traceOf({ ...state, order: "drawn" }, state.weights);
  return {
    written: traceOf(state, "written"), random: traceOf(state, "random"), drawn: other, examples: examplesOf(state), answer: state.slope * state.query,
  };
}
