// The plateaus of linear attention, said in words. Pure functions of their state and solution.
import { formatNumber, plural, roundTo, shortNumber } from "./parts.mjs";
import { D, endOf, orderOf, sharesOf } from "./training_plateaus_math.mjs";

export const NAMES = { merged: "merged key-query matrices", separate: "separate keys and queries" };

/** A time in tau: three digits that count, or all of them. */
export const timeText = (time) => (time < 0.005 ? "0" : time >= 99999.5 ? `${formatNumber(time / 1000, 0)} thousand` : formatNumber(roundTo(time, 2), time >= 99.5 ? 0 : time >= 9.95 ? 1 : 2));
export const lossText = (loss) => formatNumber(loss, 3);
export const entryText = (entry) => formatNumber(roundTo(entry, 2), 2);
export const listed = (words) => (words.length < 2 ? words.join("") : `${words.slice(0, -1).join(", ")} and ${words.at(-1)}`);

const drops = (list) => `${plural(list.length, "drop")}${list.length > 0 ? `, at ${listed(list.map(({ time }) => timeText(time)))} τ` : ""}`;

/** The theory's plateau nearest to a loss. */
export const nearestPlateau = ({ plateaus }, loss) => plateaus.reduce((best, value) => (Math.abs(value - loss) < Math.abs(best - loss) ? value : best));

/** How equal the variances are. */
const ratioOf = ({ eigenvalues }) => Math.max(...eigenvalues) / Math.min(...eigenvalues);

/** What one parametrisation has learned at the moment. */
export function momentSentence(state, M) {
  const shares = sharesOf(state, M);
  const order = orderOf(state).map((d) => shares[d]);
  const count = order.filter((share) => share > 0.5).length;
  const clean = order.every((share, i) => Math.abs(share - (i < count ? 1 : 0)) < 0.05);
  const heads = `At ${timeText(state.time)} τ the layer with ${NAMES[state.shown]}`;
  if (clean && count === D) return `${heads} uses all ${D} directions: it has found the best M.`;
  if (clean && count === 0) return `${heads} still predicts 0, or nearly.`;
  if (clean) return `${heads} does principal component regression with ${plural(count, "component")}.`;
  return `${heads} has learned these shares of the four directions: ${shares.map(entryText).join(", ")}.`;
}

/** Where the loss rests, and what theory says. */
export function plateauSentence(state, solution) {
  const list = solution.drops.separate.slice(0, -1).map(({ loss }) => loss);
  if (list.length === 0) return "";
  return `Between its drops the separate layer's loss is slowest at ${listed(list.map(lossText))}; theory has plateaus at ${listed(list.map((loss) => lossText(nearestPlateau(solution, loss))))}.`;
}

/** A thing worth seeing in the present state; empty where there is none. */
export function noticeSentence(state, solution) {
  const { separate } = solution.drops;
  const { components, loss } = endOf(state, "separate");
  const found = [];
  if (components < D) {
    found.push(`${plural(state.heads, "separate head")} of rank ${state.rank} can hold ${plural(components, "direction")}: the loss stays at ${lossText(loss)}, above the least one, ${lossText(solution.plateaus[D])}.`);
  }
  if (state.rank > 1 && separate.length > 1) {
    const pauses = separate.slice(1).map(({ time, head }, i) => ({ lasts: time - separate[i].time, same: head === separate[i].head }));
    const [inside, between] = [true, false].map((same) => pauses.filter((one) => one.same === same).map(({ lasts }) => timeText(lasts)));
    const parts = [
      inside.length ? `One head makes more than one drop, with one value weight for ${state.rank} pairs of key and query: between drops of one head pass ${listed(inside)} τ` : "",
      between.length ? `${inside.length ? "" : "No two drops in a row are of one head: "}between drops of different heads${inside.length ? "" : " pass"} ${listed(between)} τ` : "",
    ];
    found.push(`${parts.filter(Boolean).join(", ")}.${inside.length && between.length ? " For smaller and smaller starts the second kind grows like 1/start, the first like its logarithm." : ""}`);
  }
  if (ratioOf(state) < 1.1) {
    found.push("With equal variances no direction comes first, and the heads take directions of their own, not the four axes drawn here: the drops have one height, and chance alone sets the pauses. The reduced equations are for the axes.");
  }
  if (components === D && state.rank === 1 && separate.length < D) {
    found.push(`From a start this large ${separate.length === 1 ? "the pauses have washed out" : `only ${separate.length - 1} of ${D - 1} pauses can be told`}: some directions are learned before others have ended.`);
  }
  return found.join(" ");
}

/** How far the reduced equations are from the run. */
export function reducedSentence(state, solution) {
  if (state.rank > 1) return "The reduced equations are for heads of rank 1.";
  if (solution.reduced === null) return "No reduced equations: at this start a direction is more than half learned.";
  return `The reduced equations know one moment of each direction, when it is half learned. At the moments drawn their loss is never further from the run's than ${formatNumber(solution.distance, solution.distance < 0.0095 ? 4 : 2)}.`;
}

/** The caption under the plots. */
export function plateauCaption(state, solution, M) {
  const { merged, separate } = solution.drops;
  return [
    `Merged key-query matrices: ${drops(merged)}. Separate keys and queries of rank ${state.rank}: ${drops(separate)}.`,
    plateauSentence(state, solution), noticeSentence(state, solution), momentSentence(state, M), reducedSentence(state, solution),
  ].filter(Boolean).join(" ");
}

/** Everything a reader who sees the plots sees, as paragraphs. */
export function plateauDescription(state, solution, products) {
  const numbers = (list, digits) => list.map((value) => formatNumber(value, digits)).join(", ");
  const diagonal = (M) => [...Array(D).keys()].map((d) => entryText(M[d * D + d])).join(", ");
  const off = (M) => entryText(Math.max(...[...M].map((value, i) => (i % (D + 1) === 0 ? 0 : Math.abs(value)))));
  const { drops: all, plateaus, rho, expectedTimes, halfTimes, horizon } = solution;
  return [
    `Variances of the four directions: ${numbers(state.eigenvalues, 3)}; contexts of ${plural(state.examples, "example")}; ${plural(state.heads, "head")}, rank ${state.rank}; `
      + `every number at the start is normal with standard deviation ${shortNumber(state.size, 4)}. Training is followed for ${timeText(horizon)} τ.`,
    `Losses at the theory's plateaus with 0 to 4 directions: ${plateaus.map(lossText).join(", ")}.`,
    ...["merged", "separate"].map((kind) => `With ${NAMES[kind]}: ${all[kind].map(({ time, loss, head }, i) => `drop ${i + 1} at ${timeText(time)} τ, to ${lossText(loss)}, most of it by head ${head}`).join("; ")}.`),
    `Separate, half of a direction is learned at ${halfTimes.map((time) => (time === null ? "no time" : `${timeText(time)} τ`)).join(", ")}. `
      + `A head of rank 1 that starts on the direction with v = ${shortNumber(state.size, 4)} would take ${expectedTimes.map((time) => `${timeText(time)} τ`).join(", ")}.`,
    `At ${timeText(state.time)} τ the diagonal of M is ${diagonal(products.merged)} merged and ${diagonal(products.separate)} separate; its largest other entry is ${off(products.merged)} and ${off(products.separate)}. `
      + `The end of training is ρ/λ: ${numbers(rho.map((value, d) => value / state.eigenvalues[d]), 2)}.`,
  ];
}
