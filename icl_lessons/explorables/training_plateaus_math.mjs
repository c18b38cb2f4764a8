// Training of linear attention on the exact expected loss, in time. Pure functions.
//
// y_hat = beta^T M x_q, beta = 1/N sum_i y_i x_i, x ~ N(0, Lambda), Lambda = diag(eigenvalues), and
// M = sum_h v_h U_h (merged) or sum_h v_h sum_r k_hr q_hr^T (separate). Training is gradient flow,
// tau d theta/dt = -1/2 dL/d theta, L = E (y_hat - y)^2. A state is one list of numbers: v, then U, or
// v, then k, then q.
import { normals } from "./random.mjs";

export const D = 4;
export const MOST_HEADS = 8;
export const MOST_RANK = 4;
export const KINDS = ["merged", "separate"];
const STREAMS = { merged: [0, 1], separate: [2, 3, 4] };
const TOLERANCE = 2e-6; // of one step, relative
const MOST_STEPS = 6000;
const MOST_STAGES = 60;
const NEAR = 0.02; // training has arrived when less than this share of the smallest drop is left
const PAUSE = 0.25; // a pause is slower than this share of the drops around it
const LEAST = 0.01; // of the whole fall: what a drop falls at least
const REST = 1e-9; // and rests below this one, from where on a run is not followed
const range = (count) => [...Array(count).keys()];
const sum = (list) => list.reduce((total, value) => total + value, 0);

// ---------------------------------------------------------------------------- the law

/** rho_d = 1 / (1 + (1 + tr Lambda / lambda_d) / N). */
export function shrinkage({ eigenvalues, examples }) {
  const trace = sum(eigenvalues);
  return eigenvalues.map((value) => 1 / (1 + (1 + trace / value) / examples));
}

/** Directions, the largest eigenvalue first. */
export const orderOf = ({ eigenvalues }) => range(D).sort((a, b) => eigenvalues[b] - eigenvalues[a] || a - b);

/** Losses at the fixed points with 0, 1, ..., D directions, the largest eigenvalues first. */
export function plateauLosses(law) {
  const rho = shrinkage(law);
  const found = [sum(law.eigenvalues)];
  for (const d of orderOf(law)) found.push(found.at(-1) - law.eigenvalues[d] * rho[d]);
  return found;
}

/** The loss of M, a list of D * D numbers: sum_d lambda_d - 2 lambda_d^2 M_dd + sum_ij e_i lambda_j M_ij^2. */
export function lossOf({ eigenvalues, examples }, M) {
  const rho = shrinkage({ eigenvalues, examples });
  let loss = 0;
  for (let i = 0; i < D; i += 1) {
    const moment = eigenvalues[i] ** 2 / rho[i];
    loss += eigenvalues[i] - 2 * eigenvalues[i] ** 2 * M[i * D + i];
    for (let j = 0; j < D; j += 1) loss += moment * eigenvalues[j] * M[i * D + j] ** 2;
  }
  return loss;
}

// ---------------------------------------------------------------------------- heads

/** The start: normal numbers times `size`; more heads or a higher rank keep the numbers of the others. */
export function startOf({ kind, heads, rank, size, seed }) {
  const scaled = (stream, count) => normals(seed, stream, count).map((value) => value * size);
  const [first, ...rest] = STREAMS[kind];
  const values = scaled(first, MOST_HEADS).slice(0, heads);
  const blocks = rest.map((stream) => {
    const all = scaled(stream, MOST_HEADS * MOST_RANK * D);
    return kind === "merged" ? all.slice(0, heads * D * D)
      : range(heads).flatMap((h) => [...all.slice(h * MOST_RANK * D, (h * MOST_RANK + rank) * D)]);
  });
  return Float64Array.from([...values, ...blocks.flatMap((block) => [...block])]);
}

/** M of a state, D * D numbers row by row, into `M`. */
export function productOf({ kind, heads, rank }, state, M = new Float64Array(D * D)) {
  M.fill(0);
  for (let h = 0; h < heads; h += 1) {
    const value = state[h];
    if (kind === "merged") {
      const at = heads + h * D * D;
      for (let i = 0; i < D * D; i += 1) M[i] += value * state[at + i];
    } else {
      for (let r = 0; r < rank; r += 1) {
        const k = heads + (h * rank + r) * D;
        const q = k + heads * rank * D;
        for (let i = 0; i < D; i += 1) {
          const key = value * state[k + i];
          for (let j = 0; j < D; j += 1) M[i * D + j] += key * state[q + j];
        }
      }
    }
  }
  return M;
}

const force = new Float64Array(D * D);

/** tau times the speed of a state: the force -1/2 dL/dM = Lambda^2 - E[S^2] M Lambda, through the product. */
export function speedOf(model, state, speed = new Float64Array(state.length)) {
  const { kind, heads, rank, eigenvalues, moment } = model;
  productOf(model, state, force);
  for (let i = 0; i < D; i += 1) {
    for (let j = 0; j < D; j += 1) force[i * D + j] *= -moment[i] * eigenvalues[j];
    force[i * D + i] += eigenvalues[i] * eigenvalues[i];
  }
  for (let h = 0; h < heads; h += 1) {
    const value = state[h];
    let pull = 0;
    if (kind === "merged") {
      const at = heads + h * D * D;
      for (let i = 0; i < D * D; i += 1) {
        pull += state[at + i] * force[i];
        speed[at + i] = value * force[i];
      }
    } else {
      for (let r = 0; r < rank; r += 1) {
        const k = heads + (h * rank + r) * D;
        const q = k + heads * rank * D;
        for (let j = 0; j < D; j += 1) speed[q + j] = 0;
        for (let i = 0; i < D; i += 1) {
          const key = value * state[k + i];
          let pulled = 0;
          for (let j = 0; j < D; j += 1) {
            pulled += force[i * D + j] * state[q + j];
            speed[q + j] += key * force[i * D + j];
          }
          speed[k + i] = value * pulled;
          pull += state[k + i] * pulled;
        }
      }
    }
    speed[h] = pull;
  }
  return speed;
}

/** All that a run depends on, with E[S^2] of the law worked out. */
export function modelOf(settings, kind) {
  const rho = shrinkage(settings);
  return { ...settings, kind, moment: settings.eigenvalues.map((value, d) => value ** 2 / rho[d]) };
}

// ---------------------------------------------------------------------------- the flow in time

const schemes = new Map();

/** Coefficients of the Runge-Kutta-Chebyshev method with `s` stages (Sommeijer, Shampine and Verwer 1997). */
function schemeOf(s) {
  if (schemes.has(s)) return schemes.get(s);
  const w0 = 1 + 2 / (13 * s * s);
  const [T, dT, ddT] = [[1, w0], [0, 1], [0, 0]]; // Chebyshev polynomials at w0 and their derivatives
  for (let j = 2; j <= s; j += 1) {
    T.push(2 * w0 * T[j - 1] - T[j - 2]);
    dT.push(2 * T[j - 1] + 2 * w0 * dT[j - 1] - dT[j - 2]);
    ddT.push(4 * dT[j - 1] + 2 * w0 * ddT[j - 1] - ddT[j - 2]);
  }
  const w1 = dT[s] / ddT[s];
  const b = T.map((_, j) => ddT[Math.max(j, 2)] / dT[Math.max(j, 2)] ** 2);
  const stages = range(s - 1).map((i) => {
    const j = i + 2;
    const pull = (2 * b[j] * w1) / b[j - 1];
    return { mu: (2 * b[j] * w0) / b[j - 1], nu: -b[j] / b[j - 2], pull, back: -(1 - b[j - 1] * T[j - 1]) * pull };
  });
  schemes.set(s, { first: b[1] * w1, stages });
  return schemes.get(s);
}

/** One step of that method: second order, and stable for steps that grow with the square of the stages. */
function chebyshevStep(model, state, speed, size, s) {
  const { first, stages } = schemeOf(s);
  const n = state.length;
  let before = Float64Array.from(state);
  let now = new Float64Array(n);
  let next = new Float64Array(n);
  const at = new Float64Array(n);
  for (let i = 0; i < n; i += 1) now[i] = state[i] + first * size * speed[i];
  for (const { mu, nu, pull, back } of stages) {
    speedOf(model, now, at);
    for (let i = 0; i < n; i += 1) {
      next[i] = (1 - mu - nu) * state[i] + mu * now[i] + nu * before[i] + size * (pull * at[i] + back * speed[i]);
    }
    [before, now, next] = [now, next, before];
  }
  return now;
}

function length(list) {
  let square = 0;
  for (let i = 0; i < list.length; i += 1) square += list[i] * list[i];
  return Math.sqrt(square);
}

/**
 * Follow the flow on from the end of `run`, adding to it, until `over(run)` or the time `until`.
 * Step sizes follow an estimate of the error, the number of stages one of the largest curvature.
 */
function follow(model, run, until, over) {
  let state = run.state;
  let speed = speedOf(model, state);
  let [time, size, probe] = [run.times.at(-1), run.size, run.probe ?? speed];
  for (; run.steps < MOST_STEPS && time < until && !over(run); run.steps += 1) {
    const nudge = (1e-4 * length(state)) / length(probe);
    const pushed = speedOf(model, state.map((value, i) => value + nudge * probe[i]));
    const long = length(probe);
    const turned = pushed.map((value, i) => (value - speed[i]) / nudge / long); // one power iteration
    if (length(turned) > 0) probe = turned;
    const curvature = 1.3 * length(probe) + 1e-12;
    size = Math.min(size, until - time, (0.65 * MOST_STAGES ** 2) / curvature);
    const s = Math.max(2, 1 + Math.ceil(Math.sqrt(1 + 1.54 * size * curvature)));
    const next = chebyshevStep(model, state, speed, size, s);
    const there = speedOf(model, next);
    let error = 0;
    for (let i = 0; i < state.length; i += 1) {
      const part = 0.8 * (state[i] - next[i]) + 0.4 * size * (speed[i] + there[i]);
      error += (part / (TOLERANCE * (model.size + Math.max(Math.abs(state[i]), Math.abs(next[i]))))) ** 2;
    }
    error = Math.sqrt(error / state.length);
    const tried = size;
    size *= Number.isFinite(error) ? Math.min(3, Math.max(0.2, 0.8 * (error + 1e-12) ** (-1 / 3))) : 0.2;
    if (!(error <= 1)) continue;
    [time, state, speed] = [time + tried, next, there];
    const M = productOf(model, state);
    run.times.push(time);
    run.states.push(state);
    run.products.push(M);
    run.losses.push(lossOf(model, M));
    run.falls.push(2 * length(speed) ** 2); // -tau dL/dt
  }
  return Object.assign(run, { state, size, probe });
}

/** Where training ends: the number of directions that the heads can hold, and the loss there. */
export function endOf(settings, kind) {
  const components = kind === "merged" ? D : Math.min(D, settings.heads * settings.rank);
  return { components, loss: plateauLosses(settings)[components] };
}

/** Both parametrisations from their starts until both have arrived and a quarter longer. */
export function followBoth(settings) {
  const least = Math.min(...settings.eigenvalues.map((value, d) => value * shrinkage(settings)[d]));
  const within = (kind, share) => ({ losses }) => losses.at(-1) <= endOf(settings, kind).loss + share * least;
  const runs = Object.fromEntries(KINDS.map((kind) => {
    const model = modelOf(settings, kind);
    const state = startOf(model);
    const M = productOf(model, state);
    const run = {
      model, state, times: [0], states: [state], products: [M], losses: [lossOf(model, M)], falls: [2 * length(speedOf(model, state)) ** 2],
      steps: 0, size: 0.1, probe: null,
    };
    return [kind, follow(model, run, Infinity, within(kind, NEAR))];
  }));
  const horizon = 1.25 * Math.max(...KINDS.map((kind) => runs[kind].times.at(-1)));
  for (const kind of KINDS) {
    const run = follow(runs[kind].model, runs[kind], horizon, within(kind, REST));
    if (run.times.at(-1) < horizon) {
      for (const part of ["states", "products", "losses", "falls"]) run[part].push(run[part].at(-1));
      run.times.push(horizon);
    }
  }
  return { runs, horizon };
}

// ---------------------------------------------------------------------------- what a run shows

/** How much of what a direction has at the end it has now: lambda_d M_dd / rho_d. */
export const sharesOf = (law, M) => shrinkage(law).map((rho, d) => (law.eigenvalues[d] * M[d * D + d]) / rho);

/** M at a time, between two steps on the line through them. */
export function productAt({ times, products }, time) {
  let [low, high] = [0, times.length - 1];
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (times[middle] <= time) low = middle; else high = middle;
  }
  const part = Math.min(1, Math.max(0, (time - times[low]) / (times[high] - times[low])));
  return products[low].map((value, i) => value + part * (products[high][i] - value));
}

/** The head that changed M most between two steps, counted from 1. */
function headOf({ model, states }, from, to) {
  const alone = { ...model, heads: 1 };
  const per = model.kind === "merged" ? D * D : model.rank * D;
  const product = (state, h) => {
    const blocks = range(model.kind === "merged" ? 1 : 2)
      .flatMap((b) => [...state.slice(model.heads * (1 + b * per) + h * per, model.heads * (1 + b * per) + (h + 1) * per)]);
    return productOf(alone, [state[h], ...blocks]);
  };
  const change = range(model.heads).map((h) => {
    const [before, after] = [product(states[from], h), product(states[to], h)];
    return length(after.map((value, i) => value - before[i]));
  });
  return 1 + change.indexOf(Math.max(...change));
}

/**
 * The drops of a run: the loss falls fastest at `time`, and pauses at the steps `from` and `to`. In a pause
 * the speed of the fall is below `PAUSE` of the highest in the drops before and after it.
 */
export function dropsOf(run) {
  const { times, losses, falls } = run;
  const peaks = []; // [step of the fastest fall, step of the pause before it]
  let low = 0; // the slowest step since the last peak
  for (let i = 0; i < falls.length; i += 1) {
    if (falls[i] < falls[low]) low = i;
    const last = peaks.at(-1);
    if (!last) peaks.push([i, 0]);
    else if (falls[low] < PAUSE * Math.min(falls[last[0]], falls[i])) peaks.push([i, low]);
    else if (falls[i] > falls[last[0]]) last[0] = i;
    else continue;
    low = i;
  }
  return peaks.map(([at, from], i) => ({ at, from, to: peaks[i + 1]?.[1] ?? falls.length - 1 }))
    .filter(({ from, to }) => losses[from] - losses[to] >= LEAST * (losses[0] - losses.at(-1)))
    .map(({ at, from, to }) => ({ time: times[at], loss: losses[to], head: headOf(run, from, to) }));
}

// ---------------------------------------------------------------------------- one number a direction

/** Time of the reduced equation dx/dt = x^2 - x^5, up to a constant; x = v / v_end, t in 1/(lambda^2 v_end). */
export const reducedClock = (x) => -1 / x - Math.log1p(-x) / 3 + Math.log(1 + x + x * x) / 6 - Math.atan((2 * x + 1) / Math.sqrt(3)) / Math.sqrt(3);

const HALF = 0.5 ** (1 / 3); // x where the share x^3 is a half

/** The speed of that clock in each direction, lambda^2 v_end with v_end = (rho / lambda)^(1/3). */
const paces = (law) => shrinkage(law).map((rho, d) => law.eigenvalues[d] ** 2 * (rho / law.eigenvalues[d]) ** (1 / 3));

/** When a head that starts with v = `start` along a direction has learned half of it; 0 if it has. */
export function reducedHalfTimes(law, start) {
  return paces(law).map((pace, d) => {
    const x = (start * law.eigenvalues[d] ** 2) / pace;
    return x < HALF ? (reducedClock(HALF) - reducedClock(x)) / pace : 0;
  });
}

/** Shares x^3 at a time, of heads that have learned half at `halfTimes`; 0 where that is null. */
export function reducedShares(law, halfTimes, time) {
  return paces(law).map((pace, d) => {
    if (halfTimes[d] === null) return 0;
    const clock = reducedClock(HALF) + pace * (time - halfTimes[d]);
    let [low, high] = [0, 1];
    for (let i = 0; i < 54; i += 1) {
      const middle = (low + high) / 2;
      if (reducedClock(middle) < clock) low = middle; else high = middle;
    }
    return low ** 3;
  });
}

/** The loss of shares s_d: tr Lambda - sum_d lambda_d rho_d (2 s_d - s_d^2). */
export const lossOfShares = (law, shares) => {
  const rho = shrinkage(law);
  return sum(shares.map((s, d) => law.eigenvalues[d] * (1 - rho[d] * (2 * s - s * s))));
};

/** When each share first passes a half; null where it never does. */
export function halfTimesOf(law, { times, products }) {
  const shares = products.map((M) => sharesOf(law, M));
  return range(D).map((d) => {
    const i = shares.findIndex((share) => share[d] >= 0.5);
    if (i <= 0) return i === 0 ? 0 : null;
    const [before, after] = [shares[i - 1][d], shares[i][d]];
    return times[i - 1] + ((0.5 - before) / (after - before)) * (times[i] - times[i - 1]);
  });
}

/** Everything the drawing needs of one setting; nothing of it depends on the moment looked at. */
export function solvePlateaus(settings) {
  const { runs, horizon } = followBoth(settings);
  const separate = runs.separate;
  const halfTimes = halfTimesOf(settings, separate);
  const every = Math.ceil(separate.times.length / 300);
  const reduced = settings.rank > 1 || halfTimes.includes(0) ? null : separate.times.flatMap((time, i) => (i % every ? []
    : [{ time, loss: lossOfShares(settings, reducedShares(settings, halfTimes, time)), away: separate.losses[i] }]));
  return {
    runs, horizon, halfTimes, reduced, plateaus: plateauLosses(settings), rho: shrinkage(settings),
    drops: Object.fromEntries(KINDS.map((kind) => [kind, dropsOf(runs[kind])])),
    expectedTimes: reducedHalfTimes(settings, settings.size),
    distance: reduced && Math.max(...reduced.map(({ loss, away }) => Math.abs(loss - away))),
  };
}
