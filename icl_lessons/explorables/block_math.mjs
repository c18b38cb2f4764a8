// A block of attention and an MLP at one query, and the singular values of a small matrix. Pure
// functions that the components of Implicit dynamics share.

export function inner(a, b) {
  let total = 0;
  for (let i = 0; i < a.length; i += 1) total += a[i] * b[i];
  return total;
}
export const applyTo = (A, v) => A.map((row) => inner(row, v));
export const plus = (a, b, scale = 1) => a.map((value, i) => value + scale * b[i]);
export const outer = (a, b) => a.map((left) => b.map((right) => left * right));
export const sizeOf = (values) => Math.hypot(...values.flat());

/** The error function: a series of positive terms, good to rounding; beyond 6 it is 1. */
export function erf(x) {
  const size = Math.abs(x);
  if (size > 6) return Math.sign(x);
  let [term, total] = [size, size];
  for (let n = 1; term > 1e-17 * total; n += 1) {
    term *= (2 * size * size) / (2 * n + 1);
    total += term;
  }
  return (Math.sign(x) * 2 * total * Math.exp(-size * size)) / Math.sqrt(Math.PI);
}

export const gelu = (x) => 0.5 * x * (1 + erf(x / Math.SQRT2));

/**
 * What attention brings to the last of `tokens`, and how much of each token's value is in it.
 *
 * `part` holds w_query, w_key, w_value and projection. By softmax the shares sum to 1; by linear
 * attention they are the scores themselves.
 */
export function attendTo(part, tokens, kind = "softmax") {
  const asked = applyTo(part.w_query, tokens[tokens.length - 1]);
  const key = asked.reduce((total, value, k) => plus(total, part.w_key[k], value), tokens[0].map(() => 0));
  const scores = tokens.map((token) => inner(token, key));
  let shares = scores;
  if (kind === "softmax") {
    const scaled = scores.map((score) => score / Math.sqrt(asked.length));
    const most = Math.max(...scaled);
    const grown = scaled.map((score) => Math.exp(score - most));
    const sum = grown.reduce((total, value) => total + value, 0);
    shares = grown.map((value) => value / sum);
  }
  const mean = tokens.reduce((total, token, i) => plus(total, token, shares[i]), tokens[0].map(() => 0));
  return { read: applyTo(part.projection, applyTo(part.w_value, mean)), shares };
}

/** What the MLP makes of `read`, its first matrix being `dense`. */
export const finish = (part, dense, read) =>
  plus(applyTo(part.write, plus(applyTo(dense, read), part.dense_bias).map(gelu)), part.write_bias);

/** Singular values, largest first: rotations of the columns until all are at right angles. */
export function singularValues(A) {
  const columns = A[0].map((_, j) => A.map((row) => row[j]));
  for (let sweep = 0; sweep < 40; sweep += 1) {
    let turned = false;
    for (let i = 0; i < columns.length; i += 1) {
      for (let j = i + 1; j < columns.length; j += 1) {
        const [a, b, c] = [inner(columns[i], columns[i]), inner(columns[j], columns[j]), inner(columns[i], columns[j])];
        if (Math.abs(c) <= 1e-16 * Math.sqrt(a * b)) continue;
        turned = true;
        const tau = (b - a) / (2 * c);
        const t = (tau >= 0 ? 1 : -1) / (Math.abs(tau) + Math.hypot(1, tau));
        const cosine = 1 / Math.hypot(1, t);
        const [p, q] = [columns[i], columns[j]];
        columns[i] = p.map((value, k) => cosine * (value - t * q[k]));
        columns[j] = q.map((value, k) => cosine * (value + t * p[k]));
      }
    }
    if (!turned) break;
  }
  return columns.map((column) => Math.hypot(...column)).sort((a, b) => b - a);
}
