// The context as a weight update, said in words. Pure functions of its state and solution.
import { formatNumber, plural, shortNumber } from "./parts.mjs";

export const place = ([x, y]) => `(${formatNumber(x, 2)}, ${formatNumber(y, 2)})`;

/** An entry of a matrix: two decimals, none where they would not fit. */
export const entryText = (value) => value.toFixed(Math.abs(value) >= 100 ? 0 : Math.abs(value) >= 10 ? 1 : 2).replace(/^-(?=0(?:\.0*)?$)/, "").replace("-", "−");

/** A difference that may be rounding. */
export const gapText = (value) => (value === 0 ? "0" : formatNumber(value, 3));

/** What the update is, whatever it is used for. */
export function updateSentence(state, solution) {
  const { rank, size, sizeW, singular, made } = solution;
  const n = made.tokens.length;
  if (n === 0) return "There is no context, so nothing to stand for: the update is 0, its rank 0.";
  return `${n === 1 ? "One token stands" : `${n} tokens stand`} as one change of W of rank ${rank}: a column times a row, with the one singular value `
    + `${formatNumber(size, 3)}, ${formatNumber(size / sizeW, 2)} times |W|; the next is ${singular[1] === 0 ? "0" : formatNumber(singular[1], 3)}.`;
}

/** Whether it does what it is for. */
export function useSentence(state, solution) {
  const { kept, skip, patchBias, query } = state;
  const { gap, alone, made } = solution;
  const moved = kept.length > 0 && (made.query[0] !== query[0] || made.query[1] !== query[1]);
  const other = kept.length > 0 && JSON.stringify(made.tokens) !== JSON.stringify(state.tokens);
  if (solution.fits) {
    return `The changed block without context puts out what the block puts out with it: they differ by ${gapText(gap)}${gap > 0 ? ", which is rounding" : ""}; `
      + `with W as it was they would differ by ${gapText(alone)}.${kept.length > 0 ? " The update is kept: now move the query." : ""}`;
  }
  const causes = [
    moved && `it was made for the query ${place(made.query)}`,
    other && `for ${made.tokens.length === state.tokens.length ? "tokens that have moved since" : `${plural(made.tokens.length, "token")}`}`,
  ].filter(Boolean).join(" and ");
  if (causes) {
    return `The kept update is wrong here: ${causes}, and the outputs part by ${gapText(gap)}. With no update at all they would by ${gapText(alone)}.`;
  }
  return skip && !patchBias
    ? `The skip connection carries A(C, x) around the matrix, and no change of W reaches that: the outputs part by ${gapText(gap)}, the length of A(C, x) − A(x). Patch the bias.`
    : `The outputs part by ${gapText(gap)}.`;
}

/** The caption under the plots. */
export function updateCaption(state, solution) {
  return `${updateSentence(state, solution)} ${useSentence(state, solution)} This block has learned nothing: its weights are random. The identity holds for any weights and any tokens.`;
}

/** What a token is worth, for the note under the plane. */
export function tokenSentence(state, solution, i) {
  if (state.tokens.length === 0) return "No token: attention has only the query itself.";
  const share = `Token ${i + 1} has ${formatNumber(100 * solution.shares[i], 0)} % of the query's attention`;
  return state.kept.length > 0 ? `${share}.` : `${share}; without it the update would change by ${formatNumber(solution.worth[i], 3)}.`;
}

/** What the map of errors shows. */
export const mapSentence = (map, solution) =>
  `The stronger the colour, the farther the changed block is from the truth if this one update is used at that query; the most is ${formatNumber(Math.max(...map.errors.flat()), 2)}. `
  + `The ring at ${place(solution.made.query)} is where the update was made${map.zero ? "; there the error is 0" : ", and even there it is no longer right"}. On ${formatNumber(100 * map.better, 0)} % of the square it is better than no update, on the hatched rest worse.`;

const vector = (values, digits = 3) => `(${values.map((value) => shortNumber(value, digits)).join(", ")})`;

/** Everything a reader who sees the plots sees, as paragraphs. */
export function updateDescription(state, solution) {
  const { left, right, dense, delta, singularW, shares, worth, withContext, changed, without, bias } = solution;
  const rows = (matrix) => matrix.map((row) => vector(row, 2)).join(", ");
  return [
    `Query ${place(state.query)}. Tokens and their shares of attention: ${state.tokens.map((point, i) => `${place(point)} ${formatNumber(shares[i], 3)}`).join("; ") || "none"}; `
      + `the query itself ${formatNumber(shares[shares.length - 1], 3)}.`,
    `W by rows: ${rows(dense)}; its singular values ${singularW.map((value) => formatNumber(value, 2)).join(", ")}. The update by rows: ${rows(delta)}. `
      + `It is the left vector ${vector(left)} times the right vector A(x) = ${vector(right)}.`,
    state.kept.length > 0 ? "The update is kept and does not follow tokens or query."
      : `Change of the update without each token: ${worth.map((value) => formatNumber(value, 3)).join(", ") || "no token"}.`,
    `Outputs at the query: with context ${vector(withContext, 6)}; without context, W changed ${vector(changed, 6)}; without context, W as it was ${vector(without, 6)}.`
      + (state.skip ? ` A skip connection adds the query and what attention brings; the last bias changes by ${vector(bias)}.` : ""),
  ];
}
