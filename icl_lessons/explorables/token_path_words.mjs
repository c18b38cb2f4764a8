// The weights that stand for the tokens read so far, said in words. Pure functions.
import { formatNumber, plural, shortNumber } from "./parts.mjs";
import { EXAMPLES } from "./token_path_math.mjs";

export const WEIGHTS = { written: "written down: they do regression", random: "random: they have learned nothing" };
export const ATTENTIONS = { softmax: "softmax, a weighted mean", linear: "linear, a sum over 100" };
export const ORDERS = { drawn: "as drawn", sorted: "sorted by x", shuffled: "shuffled" };
export const PATHS = { additive: "additive: for the tokens read", factorised: "factorised: tokens taken in" };

/** A size: three digits that count. */
export const sizeText = (value) => (value === 0 ? "0" : formatNumber(value, value >= 100 ? 0 : value >= 10 ? 1 : 3));

/** What the weights are. */
export function weightsSentence({ weights, attention, query, slope }) {
  if (weights === "random") return "Weights as they are drawn, so the prediction means nothing: it goes wherever the context pushes it.";
  const through = "The dense layer hands both coordinates on: GELU(z) − GELU(−z) = z.";
  return attention === "softmax"
    ? `Written down: the query x scores example i by xᵢ x, and softmax makes of that a weighted mean of the examples. For normal inputs the mean of x tends to the query, ${formatNumber(query, 2)}, so that of y to ${formatNumber(slope * query, 2)}. ${through}`
    : `Written down: the query x weighs example i by xᵢ x over 100. The sum over all is the prediction after one step of gradient descent from 0 with step size 1. ${through}`;
}

/** How large the misfit of the two roads is, or that it is rounding. */
export const biggest = (trace) => trace.changed.reduce((most, value, i) => Math.max(most, Math.abs(value - trace.withContext[i])), 0);

/** What the increments say, and what they do not. */
export function incrementSentence(state, solution) {
  const [mine, other] = [solution[state.weights], solution[state.weights === "written" ? "random" : "written"]];
  const power = (trace) => formatNumber(trace.slope, 2);
  const both = `${power(mine)} here, ${power(other)} with the ${state.weights === "written" ? "random" : "written"} weights`;
  if (state.path === "factorised") {
    const says = mine.slope > 0 ? "Steps grow towards the end of this path, where each token is a larger part of what is left: that they vanish belongs to the other path."
      : "On this path each token is a larger part of what is left than the one before: no 1/i is to be expected.";
    return `Slopes of the increments from the fifth token on: ${both}. ${says}`;
  }
  if (state.order === "sorted") return `Slopes of the increments from the fifth token on: ${both}. Sorted tokens come in an order that the weights of the mean depend on, so 1/i need not show.`;
  return state.attention === "softmax"
    ? `Slopes of the increments from the fifth token on: ${both}. A mean over i tokens moves by about 1/i whatever the block has learned, so vanishing increments are no sign of learning.`
    : `Slopes of the increments from the fifth token on: ${both}. A sum moves by what a token brings, however many came before it: there is no 1/i, and what slope there is comes from the draw.`;
}

/** The caption under the plots. */
export function pathCaption(state, solution) {
  const { read, path, weights } = state;
  const trace = solution[weights];
  const now = path === "additive"
    ? `After ${plural(read, "token")} the changed block without context predicts ${formatNumber(trace.changed[read], 3)}, as the unchanged one does with them; the answer is ${formatNumber(solution.answer, 3)}.`
    : `The block that has taken in ${plural(read, "token")} and reads the other ${EXAMPLES - read} predicts ${formatNumber(trace.changed[read], 3)}, as the unchanged one does with all ${EXAMPLES}; without the rest it would predict ${formatNumber(trace.alone[read], 3)}.`;
  const rank = read === 0 ? "" : path === "additive"
    ? `The change of W has size ${sizeText(trace.size[read])} (${shortNumber(trace.size[read] / trace.sizeW, 2)} times |W₀|) and rank one, after one token as after a hundred.`
    : `The change of W has singular values ${trace.singular[read].map(sizeText).join(" and ")}${read > 1 ? ", so rank two" : ""}`
      + `${read === EXAMPLES ? ": this path ends at another matrix than the additive one, with the same output." : "."}`;
  const order = state.order === "drawn" ? "" : path === "additive"
    ? "Another order is another path to the same end." : "Another order gives another path and, on this path, another end matrix with the same output.";
  return [now, rank, order, incrementSentence(state, solution)].filter(Boolean).join(" ");
}

const list = (values, picks, digits = 3) => picks.map((i) => `${i}: ${formatNumber(values[i], digits)}`).join(", ");
const PICKS = [0, 1, 2, 5, 10, 20, 50, 100];

/** Everything a reader who sees the plots sees, as paragraphs. */
export function pathDescription(state, solution) {
  const { written, random, answer } = solution;
  const trace = solution[state.weights];
  return [
    `${weightsSentence(state)} Order of the examples: ${ORDERS[state.order]}. The last one read is ${state.read === 0 ? "none" : `(${solution.examples[state.read - 1].map((value) => formatNumber(value, 2)).join(", ")})`}.`,
    `Predictions after so many tokens, with the written weights: ${list(written.alone, PICKS)}; with the random ones: ${list(random.alone, PICKS)}. The answer is ${formatNumber(answer, 3)}.`,
    `How far the token moves W, by its number, written weights: ${PICKS.slice(1).map((i) => `${i}: ${formatNumber(written.increments[i - 1], 3)}`).join(", ")}; `
      + `random: ${PICKS.slice(1).map((i) => `${i}: ${formatNumber(random.increments[i - 1], 3)}`).join(", ")}.`,
    `Along the direction A(x)/|A(x)| = (${trace.unit.map((value) => formatNumber(value, 2)).join(", ")}) the update is at, after so many tokens: `
      + `${PICKS.map((i) => `${i}: (${trace.along[i].map((value) => formatNumber(value, 2)).join(", ")})`).join(", ")}.`,
    `With and without the context the predictions differ by at most ${formatNumber(biggest(trace))}.`
      + (state.path === "additive" ? ` Descent on the losses tr(Gᵢᵀ W) and the closed form give the same matrices; the largest difference is ${formatNumber(trace.difference)}.` : ""),
  ];
}
