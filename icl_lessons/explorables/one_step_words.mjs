// What the one-step explorable shows, said in words. Pure functions of its state and solution.
import { formatNumber, plural, shortNumber, subscript } from "./parts.mjs";

export const NO_EXAMPLES = "There are no examples. With N = 0 the 1/N in the gradient and in the "
  + "attention layer has no meaning, so there is nothing to compute. Add an example.";

/** What the step size does, in a sentence. */
export function stepSentence(state, solution) {
  const { best, divergence, leastSquares, meanSquare } = solution;
  if (solution.regime === "flat") {
    return "Every input is 0, so no weight changes a prediction: the loss is flat and no step diverges.";
  }
  if (solution.regime === "still") return "A step of size 0 goes nowhere.";
  if (Math.abs(state.initialWeight - leastSquares) < 1e-9) {
    return "The start is already the least-squares weight, where the gradient is 0: no step moves it.";
  }
  const factor = 1 - state.stepSize * meanSquare;
  return {
    best: `This is the best step, 1 / (mean of x²) = ${formatNumber(best)}: one such step lands on the least-squares line.`,
    approaches: `The step is shorter than the best one, ${formatNumber(best)}: each step closes `
      + `${shortNumber(100 * (1 - factor), 0)} % of the way to the least-squares line.`,
    overshoots: `The step is longer than the best one, ${formatNumber(best)}: each step jumps past the `
      + `least-squares line and leaves ${shortNumber(100 * Math.abs(factor), 0)} % of the distance, on the other side.`,
    swings: `The step is 2 / (mean of x²) = ${formatNumber(divergence)}, twice the best one: the line swings `
      + "from side to side and gets no nearer.",
    diverges: `It diverges: the step is longer than 2 / (mean of x²) = ${formatNumber(divergence)}, so each `
      + "step lands farther from the least-squares line than the one before.",
  }[solution.regime];
}

function agreement(solution) {
  const rounding = solution.relativeDifference < 1e-12;
  if (solution.difference === 0) return "they agree in every digit";
  return `the largest difference in any slot of any layer is ${formatNumber(solution.difference)}`
    + (rounding ? ", which is rounding" : "");
}

/** The caption under the plots. */
export function caption(state, solution) {
  if (solution.n === 0) return NO_EXAMPLES;
  const { steps, stepSize, initialWeight, xQuery } = state;
  const start = `w${subscript(0)} = ${shortNumber(initialWeight, 2)}`;
  const first = steps === 0
    ? `No step and no layer yet: the weight is ${start}.`
    : `${plural(steps, "step")} of size ${formatNumber(stepSize, 2)} from ${start} `
      + `${steps === 1 ? "gives" : "give"} w${subscript(steps)} = ${formatNumber(solution.weights[steps])}.`;
  const second = `At x = ${formatNumber(xQuery, 2)} gradient descent predicts ${formatNumber(solution.prediction)} and `
    + `${plural(steps, "linear attention layer")} ${steps === 1 ? "predicts" : "predict"} `
    + `${formatNumber(solution.attentionPrediction)}; ${agreement(solution)}.`;
  const third = steps === 0 ? `The loss is ${formatNumber(solution.losses[0])}; least squares reaches `
    + `${formatNumber(solution.leastLoss)}.`
    : `The loss goes from ${formatNumber(solution.losses[0])} to ${formatNumber(solution.losses[steps])}; `
      + `least squares reaches ${formatNumber(solution.leastLoss)}.`;
  return [first, second, third, stepSentence(state, solution)].join(" ");
}

/** Everything a reader who sees the plots sees, as paragraphs. */
export function description(state, solution, layer) {
  const { xs, ys, xQuery } = state;
  if (solution.n === 0) return [NO_EXAMPLES];
  const two = (value) => formatNumber(value, 2);
  const list = (values) => values.map((value) => formatNumber(value)).join(", ");
  const points = xs.map((x, i) => `example ${i + 1} at x ${two(x)}, y ${two(ys[i])}`).join("; ");
  const slots = solution.tokens[layer].map((token) => token[1]);
  const paragraphs = [
    `The first plot shows ${plural(solution.n, "example")}: ${points}. The query stands at x ${two(xQuery)}. Lines `
      + "through the origin show the slopes that gradient descent holds: "
      + `${list(solution.weights)}. `
      + (solution.leastSquares === null ? "No slope is better than another."
        : `A thin line shows the least-squares slope, ${formatNumber(solution.leastSquares)}.`),
    `The table shows the tokens. Each has an x slot, which no layer changes, and a y slot. After layer ${layer} `
      + `the y slots of the examples hold ${list(slots.slice(0, -1))}: what the line has not yet explained, `
      + `y − (w${subscript(layer)} − w${subscript(0)}) x. The y slot of the query holds `
      + `${formatNumber(slots[slots.length - 1])}, minus the prediction.`,
    "The third plot is the loss as a function of the weight, a parabola"
      + (solution.leastSquares === null ? " that is flat here." : ` with its lowest point, `
        + `${formatNumber(solution.leastLoss)}, at the least-squares slope.`)
      + ` The fourth is the loss after each step: ${list(solution.losses)}.`,
  ];
  paragraphs.push(stepSentence(state, solution));
  return paragraphs;
}
