// Answers in every order of a few demonstrations, looked up. Pure functions; nothing is drawn here.
export const LEARNERS = ["in_context", "one_by_one", "full_batch", "filter"];
const UNIT = 10000; // probabilities come as whole numbers of 1/10000

/** Every order of 0 ... n - 1, from first to last by their digits. */
export function permutations(n) {
  const orders = [[]];
  for (let length = 0; length < n; length += 1) {
    orders.push(...orders.splice(0).flatMap((start) =>
      [...Array(n).keys()].filter((next) => !start.includes(next)).map((next) => [...start, next])));
  }
  return orders;
}

/** Numbers of two bytes each, the low one first, in base 64. */
function numbersOf(text) {
  const bytes = atob(text);
  return Float64Array.from({ length: bytes.length / 2 }, (_, i) => (bytes.charCodeAt(2 * i) + 256 * bytes.charCodeAt(2 * i + 1)) / UNIT);
}

/** The sets with their laws as numbers. */
export const unpackSets = (sets) => sets.map((set) => ({
  ...set, learners: Object.fromEntries(LEARNERS.map((name) => [name, { ...set.learners[name], values: numbersOf(set.learners[name].laws) }])),
}));

/** Probabilities of the label words, then of everything else; an axis of length 1 has one value for all. */
export function lawOf({ shape, values }, place) {
  const start = shape.slice(0, 4).reduce((at, size, axis) => at * size + Math.min(place[axis], size - 1), 0) * shape[4];
  const law = [...values.slice(start, start + shape[4])];
  return [...law, Math.max(0, 1 - law.reduce((a, b) => a + b, 0))];
}

/** What every learner answers in this order and in all of them. */
export function solveOrders(set, { order, query, model, rate }) {
  const orders = permutations(set.demonstrations.length);
  const at = orders.findIndex((one) => one.join() === order.join());
  const { right } = set.queries[query];
  const learners = Object.fromEntries(LEARNERS.map((name) => {
    const learner = set.learners[name];
    const laws = orders.map((_, i) => lawOf(learner, [model, rate, i, query]));
    const chances = laws.map((law) => law[right]);
    const bySensitivity = learner.sensitivity[Math.min(model, learner.shape[0] - 1)][Math.min(rate, learner.shape[1] - 1)];
    return [name, {
      laws, law: laws[at], chances, chance: chances[at], low: Math.min(...chances), high: Math.max(...chances),
      below: chances.filter((chance) => chance < chances[at]).length, // orders in which it is lower
      correct: laws.filter((law) => law[right] === Math.max(...law.slice(0, -1))).length, // orders in which no label word is above it
      sensitivity: bySensitivity[query], mean: bySensitivity.reduce((a, b) => a + b, 0) / bySensitivity.length,
    }];
  }));
  return { orders, at, right, learners };
}

/** The order with one demonstration moved to another place. */
export function moved(order, from, to) {
  const next = order.filter((_, i) => i !== from);
  next.splice(to, 0, order[from]);
  return next;
}
