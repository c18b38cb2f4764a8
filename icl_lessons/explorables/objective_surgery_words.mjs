// What the edited layers show, said in words. Pure functions of their state and solution.
import { formatNumber, plural, shortNumber, subscript } from "./parts.mjs";

export const EDITS = {
  squared: "No edit: squared loss", ridge: "Leak: ridge", huber: "Clip values: Huber", absolute: "Signs as values: absolute", cosine: "Turn only: cosine",
  sign_flipped: "P → −P: sign flipped", weighted: "One key: weighted loss", forget: "Zeros in Γ: forget", metric: "Γ: another metric",
};
const LOSSES = {
  squared: "squared loss", ridge: "squared loss plus λ/2 |W|²", huber: "Huber's loss", absolute: "absolute loss", cosine: "minus the mean cosine",
  sign_flipped: "minus the squared loss", weighted: "weighted squared loss", forget: "squared loss", metric: "squared loss",
};

/** A loss: three or four digits that count. */
export const lossSize = (value) => {
  const large = Math.abs(value);
  if (large === 0) return "0";
  return formatNumber(value, large >= 1000 ? 0 : large >= 100 ? 1 : large >= 10 ? 2 : large >= 0.01 ? 3 : 4);
};

/** The value map as a formula. */
export function valueFormula({ objective, delta }) {
  if (objective === "huber") return `v = clip(y − p, ±${formatNumber(delta, 2)}), coordinate by coordinate: two ReLUs each`;
  if (objective === "absolute") return "v = sign(y − p), coordinate by coordinate";
  if (objective === "cosine") return "v = (ŷ − (p̂ᵀŷ) p̂) / |p|, hats for unit vectors: no part along p";
  return "v = y − p";
}

/** Where the edit is, and the problem it makes of the old one. */
export function editSentence(state, solution) {
  const { objective, ridge, delta, outlierWeight, forgotten, metric, stepSize } = state;
  const kept = solution.layer.keep[0][0];
  return {
    squared: "No edit: every layer takes a step down 1/(2N) Σ |W xᵢ − yᵢ|².",
    ridge: `Each layer keeps 1 − ηλ = ${formatNumber(kept, 2)} of every prediction before it adds anything: λ/2 |W|² with λ = ${shortNumber(ridge, 2)} joins the loss.`,
    huber: `The value map clips at ±${formatNumber(delta, 2)}: no example can write more than that, however far off its target is. `
      + "No attention matrix changes.",
    absolute: "The value map keeps only the sign of each residual: a far target pulls no harder than a near one. Steps of one length cannot come to rest.",
    cosine: "The value map turns a prediction towards its target and ignores how long either is. No attention matrix changes.",
    sign_flipped: "The projection P has the other sign: the same matrices climb the loss that they went down.",
    weighted: `The outlier's key is multiplied by ${shortNumber(outlierWeight, 2)}: its term of the loss counts ${shortNumber(outlierWeight, 2)} times.`,
    forget: `Row and column ${forgotten} of Γ are zero: no step changes the weights of x${subscript(forgotten)}, which stay where they started. `
      + "It is regression on the other feature.",
    metric: `Γ is ${formatNumber(metric, 2)} of the way from I to S⁻¹: the loss is the old one, the steps are preconditioned.`
      + (metric === 1 && stepSize === 1 ? " With η = 1 the first layer is at the bottom." : ""),
  }[objective];
}

/** A thing worth seeing in the present state; empty where there is none. */
export function noticeSentence(state, solution) {
  const { layers, objective } = state;
  const { errors, losses, cosines, plainErrors } = solution;
  const shown = errors.slice(0, layers + 1);
  const best = shown.indexOf(Math.min(...shown));
  const found = [];
  if (objective === "cosine") {
    const mean = cosines.reduce((total, value) => total + value, 0) / cosines.length;
    found.push(`The mean cosine is ${formatNumber(mean, 3)} of at most 1, and the answers are still wrong by ${lossSize(errors[layers])}.`);
  }
  if (layers > 0 && best < layers && losses[layers] < losses[best] - 1e-9 && errors[layers] > 1.02 * errors[best]) {
    found.push(`The inner loss has fallen to the end, the error on the true task has ${best === 0 ? "only risen" : `risen since layer ${best}`}.`);
  }
  if (objective !== "squared" && layers > 0) {
    const ratio = plainErrors[layers] / errors[layers];
    if (ratio > 1.05) found.push(`Without the edit the error would be ${shortNumber(ratio, 1)} times as large.`);
    else if (ratio < 0.95) found.push(`Without the edit the error would be smaller, ${lossSize(plainErrors[layers])}.`);
  }
  return found.join(" ");
}

/** The caption under the plots. */
export function surgeryCaption(state, solution) {
  const { layers, objective, stepSize } = state;
  const { losses, errors } = solution;
  const rounding = solution.relativeDifference < 1e-11 ? ", which is rounding" : "";
  const path = layers === 0 ? `No layer yet: the inner loss, ${LOSSES[objective]}, is ${lossSize(losses[0])} and the error on the true task ${lossSize(errors[0])}.`
    : `${plural(layers, "layer")} with η = ${formatNumber(stepSize, 2)} take the inner loss, ${LOSSES[objective]}, from ${lossSize(losses[0])} to `
      + `${lossSize(losses[layers])} and the error on the true task from ${lossSize(errors[0])} to ${lossSize(errors[layers])}.`;
  return [editSentence(state, solution), path, noticeSentence(state, solution),
    `Descent on the inner loss and attention on tokens give the same weights; the largest difference is ${formatNumber(solution.difference)}${rounding}.`]
    .filter(Boolean).join(" ");
}

const point = ([a, b]) => `(${formatNumber(a, 2)}, ${formatNumber(b, 2)})`;
const matrixText = (rows) => rows.map((row) => `[${row.map((value) => shortNumber(value, 3)).join(", ")}]`).join(", ");
export const some = (part) => [part].flat(Infinity).some(Boolean);

/** Which parts of the layer the edit has changed, in a sentence. */
export function changedSentence(state, solution) {
  const { changed } = solution;
  const parts = [
    [some(changed.gamma), "Γ"], [some(changed.projection), "the projection P"], [some(changed.keep), "what is kept of p"],
    [some(changed.keyWeights), "one key"], [["huber", "absolute", "cosine"].includes(state.objective), "the value map"],
  ].filter(([yes]) => yes).map(([, name]) => name);
  return parts.length === 0 ? "Nothing differs from the layer without an edit."
    : `Changed: ${parts.join(" and ")}, framed here. All else is the layer without an edit.`;
}

/** Everything a reader who sees the plots sees, as paragraphs. */
export function surgeryDescription(state, solution) {
  const { layers, row } = state;
  const { layer, weights, plain, losses, errors, plainErrors, values, predictions, targets } = solution;
  const every = (list) => list.slice(0, layers + 1);
  return [
    `The layer: Γ is ${matrixText(layer.gamma)}; P, from v to p, is ${matrixText(layer.projection)}; of p it keeps ${shortNumber(layer.keep[0][0], 3)}; `
      + `the keys are multiplied by ${layer.keyWeights.map((value) => shortNumber(value, 2)).join(", ")}; ${valueFormula(state)}. ${changedSentence(state, solution)}`,
    `Row ${row} of W, layer by layer: ${every(weights).map((W) => point(W[row - 1])).join(", ")}. Without the edit it ends at ${point(plain[layers][row - 1])}.`,
    `The eight predictions, their targets and what they write: ${predictions.map((p, i) => `${point(p)}, ${point(targets[i])}, ${point(values[i])}`).join("; ")}. `
      + "The last example is the outlier.",
    `Inner losses: ${every(losses).map(lossSize).join(", ")}. Errors on the true task: ${every(errors).map(lossSize).join(", ")}; `
      + `without the edit: ${every(plainErrors).map(lossSize).join(", ")}.`,
  ];
}
