// A poisoned context, said in words. Pure functions of its state and solution.
import { formatNumber, shortNumber } from "./parts.mjs";
import { LEARNERS } from "./poisoned_context_math.mjs";

/** The learners' names; the second says how many steps it takes. */
export const learnerNames = ({ steps }) => ({
  one_step: "one-step GD", steps: `${steps}-step GD`, ridge: "ridge", clipped: "clipped one-step GD",
});

/** The same for narrow cells. */
export const shortNames = ({ steps }) => ({ one_step: "one step", steps: `${steps} steps`, ridge: "ridge", clipped: "clipped" });

/** A prediction: two digits that count, or a power of ten. */
export const sizeText = (value) => formatNumber(value, Math.abs(value) >= 100 ? 0 : Math.abs(value) >= 10 ? 1 : 2);

/** The same in a narrow cell: what is larger than `most` is said to be so. */
export const cellText = (value, most) => (Math.abs(value) <= most ? sizeText(value) : value > 0 ? `>${most}` : `<−${most}`);

const point = ([a, b]) => `(${formatNumber(a, 2)}, ${formatNumber(b, 2)})`;
const listed = (words) => (words.length < 2 ? words.join("") : `${words.slice(0, -1).join(", ")} and ${words[words.length - 1]}`);

/** Who breaks, and who does not. */
export function brokenSentence(state, solution) {
  const names = learnerNames(state);
  const [broken, whole] = [true, false].map((wanted) => LEARNERS.filter((name) => solution.broken[name] === wanted).map((name) => names[name]));
  const limit = formatNumber(state.threshold, 2);
  if (broken.length === 0) return `No learner has moved by more than ${limit}.`;
  if (whole.length === 0) return `All four learners have moved by more than ${limit}: they break.`;
  return `Moved by more than ${limit}, and so broken: ${listed(broken)}. Not: ${listed(whole)}.`;
}

/** What the closed forms say about this move. */
export function influenceSentence(state, solution) {
  const { which, example } = state;
  const [x, y] = [solution.clean.xs[which - 1], solution.clean.ys[which - 1]];
  const change = example[1] - y;
  if (example[0] === x && change === 0) return "The example is at its clean place.";
  if (Math.abs(example[0] - x) < 1e-9) {
    const a = solution.influence.one_step[which - 1];
    return `Only its label has changed, by ${formatNumber(change, 2)}, so a learner that is linear in labels moves by its influence times that: `
      + `${formatNumber(a, 3)} × ${formatNumber(change, 2)} = ${formatNumber(a * change, 2)} for one-step GD. `
      + `Clipped GD cannot move by more than 2δη|1 + xq|/N = ${formatNumber(solution.clippedBound, 2)} here, whatever the label (q is the query's x).`;
  }
  return `Its input has changed too: with it the influence of its label changes, and for ${learnerNames(state).steps} and ridge that of every other label.`;
}

/** A step that is too long for the context's curvature. */
export function divergenceSentence(state, solution) {
  const product = state.stepSize * solution.curvature;
  return product <= 2 ? "" : `The step size times this context's largest curvature is ${formatNumber(product, 2)}, more than 2: `
    + `${learnerNames(state).steps} overshoots farther every time.`;
}

export function poisonCaption(state, solution) {
  const names = learnerNames(state);
  const { which, example, query } = state;
  const from = [solution.clean.xs[which - 1], solution.clean.ys[which - 1]];
  const moves = LEARNERS.map((name) => `${names[name]} from ${sizeText(solution.before[name])} to ${sizeText(solution.after[name])}`);
  const rounding = solution.relativeDifference < 1e-11 ? ", which is rounding" : "";
  return [`Example ${which} is moved from ${point(from)} to ${point(example)}. At the query x = ${formatNumber(query, 2)} that takes ${listed(moves)}.`,
    brokenSentence(state, solution), divergenceSentence(state, solution),
    `Weights and influences give the same predictions; the largest difference is ${formatNumber(solution.difference)}${rounding}.`].filter(Boolean).join(" ");
}

/** Everything a reader who sees the plots sees, as paragraphs. */
export function poisonDescription(state, solution) {
  const names = learnerNames(state);
  const { context, weights, moved, influence } = solution;
  return [
    `The examples are ${context.xs.map((x, i) => point([x, context.ys[i]])).join(", ")}; number ${state.which} is the moved one. The query is at x = ${formatNumber(state.query, 2)}.`,
    ...LEARNERS.map((name) => `${names[name]} draws the line y = ${formatNumber(weights[name][0], 2)} + ${formatNumber(weights[name][1], 2)} x; its prediction has moved by `
      + `${sizeText(moved[name])} and it ${solution.broken[name] ? "breaks" : "holds"}. Influences of the six labels: ${influence[name].map((a) => shortNumber(a, 3)).join(", ")}.`),
    `${brokenSentence(state, solution)} ${influenceSentence(state, solution)}`,
  ];
}
