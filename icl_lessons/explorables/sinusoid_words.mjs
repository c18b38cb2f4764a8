// What the sine explorable shows, said in words. Pure functions of its state and solution.
import { formatNumber, plural, shortNumber } from "./parts.mjs";

/** An error: three digits that count, or a power of ten. */
export const errorText = (value) => (value >= 100 || value < 1e-5 ? formatNumber(value, 1) : formatNumber(value, value >= 0.1 ? 3 : value >= 0.01 ? 4 : 5));

export const turns = (phase) => `${shortNumber(phase / Math.PI, 2)}π`;

const share = (error, zero) => (zero > 0 ? `${shortNumber((100 * error) / zero, error < 0.1 * zero ? 1 : 0)} %` : "more than all");

/** What a learner leaves of the curve, in a sentence. */
function leaves(name, learner, zero) {
  if (zero === 0) return `${name} is off by ${errorText(learner.error)} on a curve that is 0 everywhere.`;
  const part = learner.error / zero;
  if (part > 1000) return `${name} is far off: half its mean squared error is ${formatNumber(learner.error, 1)}.`;
  return `${name} leaves ${share(learner.error, zero)} of the error of predicting 0`
    + `${part > 1.005 ? ", so it does worse than that" : ""}.`;
}

function growth(state, learner) {
  return learner.grows ? `The steps are too long for these examples: what is left unexplained grows with every layer.`
    : state.steps === 0 ? "With no layer the targets are not used." : "";
}

export function sineCaption(state, solution) {
  const { network, line, zero } = solution;
  const shown = state.features ? network : line;
  const drawn = state.features ? `The curve shows ${plural(state.steps, "step")} of gradient descent on the network's features.`
    : `The curve shows ${plural(state.steps, "step")} of gradient descent on the raw input: a line through the origin, whatever the examples say.`;
  const moved = state.offsets.filter((offset) => offset !== 0).length;
  return [
    `${plural(state.xs.length, "example")} of ${formatNumber(state.amplitude, 2)} sin(x + ${turns(state.phase)})`
      + `${moved ? `, ${moved} of them moved off it` : ""}.`,
    drawn,
    leaves("With features it", network, zero),
    leaves("Attention alone", line, zero),
    growth(state, shown),
    `At x = ${formatNumber(state.xQuery, 2)} the prediction is ${formatNumber(shown.prediction)} and the sine is `
      + `${formatNumber(state.amplitude * Math.sin(state.xQuery + state.phase))}.`,
    `Attention on tokens and descent on weights differ by at most ${formatNumber(shown.difference)}`
      + `${shown.relativeDifference < 1e-11 ? ", which is rounding" : ""}.`,
  ].filter(Boolean).join(" ");
}

/** Which examples the query listens to. */
export function kernelSentence(state, solution) {
  const values = (state.features ? solution.network : solution.line).kernelAtExamples;
  const order = values.map((value, i) => [Math.abs(value), i]).sort((a, b) => b[0] - a[0]);
  const [top, second] = order;
  const name = ([, i]) => `example ${i + 1} at x = ${formatNumber(state.xs[i], 2)} (k = ${formatNumber(values[i], 2)})`;
  const whom = top[0] === 0 ? "no example" : order.length === 1 ? name(top) : `${name(top)} and ${name(second)}`;
  return `The query at x = ${formatNumber(state.xQuery, 2)} listens most to ${whom}. `
    + (state.features ? "k is the inner product of the features of an example with those of the query; a negative k means that the query "
      + "counts the example's target with the opposite sign."
      : "Without features k(x, x′) = x x′: the farther an example lies from 0, the louder it is, wherever the query stands.");
}

/** Everything a reader who sees the plots sees, as paragraphs. */
export function sineDescription(state, solution) {
  const shown = state.features ? solution.network : solution.line;
  const at = (x) => formatNumber(shown.curve[Math.round(20 * x) + 100], 2);
  const points = state.xs.map((x, i) => `example ${i + 1} at x ${formatNumber(x, 2)}, y ${formatNumber(solution.ys[i], 2)}`).join("; ");
  return [
    `The first plot shows ${points}; the true sine as a thin line; and the predictions, which are `
      + `${[-5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5].map((x) => `${at(x)} at x = ${shortNumber(x, 0)}`).join(", ")}.`,
    `Half the mean squared error over the plot is ${errorText(solution.network.error)} with features, ${errorText(solution.line.error)} for `
      + `attention alone and ${errorText(solution.zero)} for predicting 0.`,
    `The second plot is the kernel between the query and tokens along the sine. ${kernelSentence(state, solution)}`,
  ];
}
