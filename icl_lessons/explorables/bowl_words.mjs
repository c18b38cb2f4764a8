// What the quadratic bowl shows, said in words. Pure functions of its state and solution.
import { formatNumber, plural, shortNumber, subscript } from "./parts.mjs";

export const METHOD_NAMES = {
  descent: "gradient descent", preconditioned: "preconditioned descent", plusplus: "GD++", newton: "Newton",
};
export const METHOD_TITLES = {
  descent: "Gradient descent", preconditioned: "Preconditioned descent", plusplus: "GD++", newton: "Newton–Schulz",
};

/** A loss or a factor: small ones as powers of ten. */
export const size = (value) => {
  const large = Math.abs(value);
  if (large === 0) return "0";
  if (large < 1e-3) return formatNumber(value, 2);
  return formatNumber(value, large >= 1000 ? 0 : large >= 10 ? 1 : large >= 0.1 ? 3 : 4);
};

/** Which of the methods shown diverge here, and why, a sentence each. */
export function troubles(state, solution) {
  const { stepSize, gamma, layers, methods } = state;
  const found = [];
  if (methods.includes("descent") && stepSize > 2) {
    found.push(`Gradient descent diverges: its step η = ${shortNumber(stepSize, 2)} is longer than 2 / λ = 2, with λ = 1 the steepest curvature.`);
  }
  if (methods.includes("preconditioned") && stepSize * solution.fittedTop > 2) {
    found.push(`Preconditioned descent diverges: the largest eigenvalue of P S is ${formatNumber(solution.fittedTop, 2)}, and steps longer than `
      + `2 / ${formatNumber(solution.fittedTop, 2)} = ${formatNumber(2 / solution.fittedTop, 2)} overshoot farther every time.`);
  }
  const { losses } = solution.methods.plusplus;
  if (methods.includes("plusplus") && layers > 0 && losses[layers] > losses[0] * (1 + 1e-12)) {
    found.push(`GD++ ends higher than it started: with η = ${shortNumber(stepSize, 2)} and γ = ${shortNumber(gamma, 2)} its first steps overshoot.`);
  }
  return found;
}

/** What the fixed preconditioner does to this bowl. */
export function preconditionerSentence(state, solution) {
  const [before, after] = [state.conditioning, solution.fittedConditioning];
  const number = `condition number from ${shortNumber(before, 1)} to ${shortNumber(after, 1)}`;
  if (after < 1.0005) {
    return "The preconditioner P is the inverse of this covariance: P S is the identity, and the path is a straight line to w*.";
  }
  if (after < 0.999 * before) return `The preconditioner was fitted to another covariance and still helps: P S takes the ${number}.`;
  if (after > 1.001 * before) return `The preconditioner was fitted to another covariance and does harm here: P S takes the ${number}.`;
  return `The preconditioner changes nothing about the condition number, ${shortNumber(before, 1)}.`;
}

/** The caption under the plots. */
export function bowlCaption(state, solution, outside) {
  const { layers, methods } = state;
  const start = `A bowl with condition number ${shortNumber(state.conditioning, 1)}; the loss at w = 0 is ${size(solution.startLoss)}.`;
  if (methods.length === 0) return `${start} No method is chosen.`;
  const ends = methods.map((name) => [name, solution.methods[name].losses[layers]]);
  const reached = layers === 0 ? "No layer yet."
    : `After ${plural(layers, "layer")} it is ${ends.map(([name, loss]) => `${size(loss)} with ${METHOD_NAMES[name]}`).join(", ")}.`;
  const sentences = [start, reached, ...troubles(state, solution)];
  const gone = Object.entries(outside).filter(([name]) => methods.includes(name));
  if (gone.length) {
    sentences.push(...gone.map(([name, layer]) => `The path of ${METHOD_NAMES[name]} leaves the plot after layer ${layer}.`));
  }
  if (methods.includes("preconditioned")) sentences.push(preconditionerSentence(state, solution));
  const worst = Math.max(...methods.map((name) => solution.methods[name].difference));
  const rounding = methods.every((name) => solution.methods[name].relativeDifference < 1e-11);
  sentences.push(`Attention on tokens gives the same weights; the largest difference is ${formatNumber(worst)}${rounding ? ", which is rounding" : ""}.`);
  return sentences.join(" ");
}

/** What the chosen method's layer does to the tokens. */
export function layerSentence(method, layer, solution) {
  const { spectra, left } = solution.methods[method];
  const k = layer;
  const now = (values) => values.map((value) => size(value)).join(" and ");
  if (method === "newton") {
    return k === 0 ? "Before any layer there is no M. The first layer reads S and Xᵀy from the examples and writes M₀ = αS with α = 1 / ‖SSᵀ‖."
      : `After layer ${k} two extra tokens hold the rows of M${subscript(k - 1)}. The eigenvalues of M${subscript(k - 1)} S are ${now(spectra[k])}; `
        + "each further layer squares what they lack to 1. One layer here is two of attention: the first writes S M into the t slots, the second adds "
        + "M − M S M. The s slots hold the rows of S, b holds Xᵀy / N, and the address of a row is a unit vector.";
  }
  const remains = `Of the way to w*, ${now(left[k])} is left in the two directions.`;
  if (method === "plusplus") {
    return k === 0 ? `Before any layer the inputs' covariance has the eigenvalues ${now(spectra[0])}. A layer takes each λ to λ(1 − γλ)².`
      : `After layer ${k} the inputs themselves have changed: λ → λ(1 − γλ)² left the eigenvalues ${now(spectra[k])}, `
        + `condition number ${formatNumber(Math.max(...spectra[k]) / Math.min(...spectra[k]), 2)}. ${remains}`;
  }
  return method === "descent"
    ? `No layer changes the inputs: every layer meets the eigenvalues ${now(spectra[0])} and leaves 1 − ηλ of the error in each direction. ${remains}`
    : `No layer changes the inputs, but the scores pass through P: every layer meets the eigenvalues of P S, ${now(spectra[0])}, and leaves 1 − ηλ `
      + `of the error in each of its directions. ${remains}`;
}

/** Everything a reader who sees the plots sees, as paragraphs. */
export function bowlDescription(state, solution, method, layer) {
  const { target, methods } = state;
  const two = (value) => formatNumber(value, 2);
  const point = ([a, b]) => `(${two(a)}, ${two(b)})`;
  return [
    `The first plot shows contours of the loss around its lowest point w* = ${point(target)}: ellipses, ${shortNumber(Math.sqrt(state.conditioning), 1)} times as long as wide, `
      + `with the long axis at ${shortNumber(state.angle, 0)} degrees. Every path starts at (0, 0).`,
    ...methods.map((name) => `${METHOD_TITLES[name]} visits ${solution.methods[name].weights.map(point).join(", ")}; `
      + `its losses are ${solution.methods[name].losses.map(size).join(", ")}.`),
    `The table is about ${METHOD_NAMES[method]}. ${layerSentence(method, layer, solution)}`,
    preconditionerSentence(state, solution),
  ];
}
