// A block with random weights, and the change of its dense matrix that stands for a context. Pure
// functions, no drawing.
//
// The output is computed by two roads: with the context and W, and without it and with W + Delta.
import { applyTo, attendTo, finish, inner, outer, plus, singularValues, sizeOf } from "./block_math.mjs";
import { normals } from "./random.mjs";

export const REACH = 2;
export const MOST_TOKENS = 12;
export const WIDTH = 4;
export const HIDDEN = 6;
// Every array of the block: its stream of chance, its rows, its columns (0: a vector), its scale.
const PARTS = {
  read_in: [0, WIDTH, 3, 0.7], w_query: [1, WIDTH, WIDTH, 0.7], w_key: [2, WIDTH, WIDTH, 0.7], w_value: [3, WIDTH, WIDTH, 0.5],
  projection: [4, WIDTH, WIDTH, 0.5], dense: [5, HIDDEN, WIDTH, 0.5], dense_bias: [6, HIDDEN, 0, 0.3], write: [7, WIDTH, HIDDEN, 0.4],
  write_bias: [8, WIDTH, 0, 0.3],
};

/** The block that `seed` draws. */
export function randomBlock(seed) {
  const part = {};
  for (const [name, [stream, rows, columns, scale]] of Object.entries(PARTS)) {
    const drawn = [...normals(seed, stream, rows * (columns || 1))].map((value) => scale * value);
    part[name] = columns === 0 ? drawn : [...Array(rows).keys()].map((i) => drawn.slice(i * columns, (i + 1) * columns));
  }
  return part;
}

const token = (part, [x, y]) => applyTo(part.read_in, [x, y, 1]);

/** A(C, x) and the shares of the tokens in it, the query's last. */
export const readAt = (part, points, query) => attendTo(part, [...points, query].map((point) => token(part, point)));

/** The output at a query of which attention has read `read`, with W + change and the last bias moved. */
function outputOf(state, part, read, query, change = null, bias = null) {
  const dense = change ? part.dense.map((row, a) => plus(row, change[a])) : part.dense;
  let out = finish(part, dense, read);
  if (state.skip) out = plus(plus(out, token(part, query)), read);
  return bias ? plus(out, bias) : out;
}

/** The update that stands for `points` at `query`: W d / |a|^2 and a, whose product it is. */
export function updateAt(part, points, query) {
  const right = readAt(part, [], query).read;
  const added = plus(readAt(part, points, query).read, right, -1);
  const left = applyTo(part.dense, added).map((value) => value / inner(right, right));
  return { left, right, added, delta: outer(left, right) };
}

const distance = (a, b) => sizeOf(plus(a, b, -1));

/** Where an update was made: here, or where it was kept. */
export const madeAt = ({ kept, query, tokens }) =>
  (kept.length === 0 ? { query, tokens } : { query: kept[0], tokens: kept.slice(1) });

/** Everything the component shows, from { tokens, query, skip, patchBias, kept, seed }. */
export function solveUpdate(state) {
  const { tokens, query, skip, patchBias, seed } = state;
  const part = randomBlock(seed);
  const made = madeAt(state);
  const { left, right, added, delta } = updateAt(part, made.tokens, made.query);
  const bias = added.map((value) => (skip && patchBias ? value : 0));
  const [whole, alone] = [tokens, []].map((points) => readAt(part, points, query));
  const withContext = outputOf(state, part, whole.read, query);
  const changed = outputOf(state, part, alone.read, query, delta, bias);
  const without = outputOf(state, part, alone.read, query);
  const singular = singularValues(delta);
  const worth = made.tokens.map((_, i) => {
    const fewer = updateAt(part, made.tokens.filter((__, j) => j !== i), made.query).delta;
    return sizeOf(delta.map((row, a) => plus(row, fewer[a], -1)));
  });
  const gap = distance(changed, withContext);
  return {
    readWhole: whole.read, readAlone: alone.read, hiddenWhole: applyTo(part.dense, whole.read), hiddenAlone: applyTo(part.dense, alone.read),
    hiddenChanged: applyTo(part.dense.map((row, a) => plus(row, delta[a])), alone.read),
    dense: part.dense, left, right, delta, added, bias, singular, singularW: singularValues(part.dense),
    rank: singular.filter((value) => value > 1e-12 * sizeOf(part.dense)).length,
    size: sizeOf(delta), sizeW: sizeOf(part.dense), worth, shares: whole.shares,
    withContext, changed, without, gap, fits: gap < 1e-11 * (1 + sizeOf(delta)), alone: distance(without, withContext), made,
  };
}

/** How far the changed block and the unchanged one are from the truth, were the query elsewhere. */
export function errorMap(state, { delta, bias }, count = 17) {
  const part = randomBlock(state.seed);
  const context = state.tokens.map((point) => token(part, point));
  const along = [...Array(count).keys()].map((i) => -REACH + ((i + 0.5) * 2 * REACH) / count);
  const pairs = along.map((y) => along.map((x) => {
    const here = token(part, [x, y]);
    const truth = outputOf(state, part, attendTo(part, [...context, here]).read, [x, y]);
    const { read } = attendTo(part, [here]);
    return [distance(outputOf(state, part, read, [x, y], delta, bias), truth), distance(outputOf(state, part, read, [x, y]), truth)];
  }));
  const [errors, alone] = [0, 1].map((which) => pairs.map((row) => row.map((pair) => pair[which])));
  const better = pairs.flat().filter(([error, other]) => error < other).length / (count * count);
  const zero = solveUpdate({ ...state, query: madeAt(state).query }).fits;
  return { along, errors, alone, better, zero };
}
