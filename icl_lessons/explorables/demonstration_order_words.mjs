// Answers in the orders of a few demonstrations, said in words. Pure functions of their state and solution.
import { formatNumber, plural, shortNumber } from "./parts.mjs";
import { LEARNERS } from "./demonstration_order_math.mjs";

export const NAMES = {
  in_context: "In-context learning", one_by_one: "Stochastic descent", full_batch: "Full-batch descent", filter: "Exact Bayes filter",
};

export const chanceText = (chance) => formatNumber(chance, 3);
export const rateText = (rate) => shortNumber(rate, 4);

/** An order as the cards number it. */
export const orderText = (order) => order.map((i) => i + 1).join(" ");

/** A demonstration as it is read. */
export const shownText = (set, i) => `${set.demonstrations[i].text}: ${set.labels[set.demonstrations[i].label]}`;

/** Whether a demonstration's label names its own value. */
export const isWrong = ({ label, right }) => label !== right;

/** Where one learner's answer lies among those of all orders. */
export function placeSentence(name, { chance, low, high, below }, count) {
  const start = `${name === "filter" ? "The exact Bayes filter" : NAMES[name]} gives it ${chanceText(chance)}`;
  if (high - low < 0.0005) return `${start} in every order.`;
  return `${start}, between ${chanceText(low)} and ${chanceText(high)} over all ${count} orders; lower in ${below} of them.`;
}

/** Which of in-context learning and stochastic descent depends more on the order, on this query. */
export function compareSentence(set, { rate }, { learners }) {
  const [context, descent] = [learners.in_context.sensitivity, learners.one_by_one.sensitivity];
  const figures = (...pair) => `order sensitivity ${pair.map(chanceText).join(" against ")}`;
  return context > descent
    ? `At rate ${rateText(set.rates[rate])} in-context learning depends more on the order than stochastic descent does (${figures(context, descent)}).`
    : `At rate ${rateText(set.rates[rate])} stochastic descent depends more on the order than in-context learning does (${figures(descent, context)}): which of them does is a statement about the rate.`;
}

/** What the filter says of the same orders. */
function filterSentence({ learners: { filter } }) {
  return filter.sensitivity < 0.0005
    ? "The filter, which knows that the subject of a text can change, has no reason to care about the order here: every label fits the same subject."
    : `The filter, which knows that the subject of a text can change, depends on the order too (${chanceText(filter.sensitivity)}): that alone is nothing against a rational reader.`;
}

/** The caption under the plots. */
export function orderCaption(set, state, solution) {
  const query = set.queries[state.query];
  return [
    `Order ${orderText(state.order)}. The answer to “${query.text}” is ${set.labels[solution.right]}.`,
    ...LEARNERS.map((name) => placeSentence(name, solution.learners[name], solution.orders.length)),
    compareSentence(set, state, solution),
  ].join(" ");
}

/** Everything a reader who sees the plots sees, as paragraphs. */
export function orderDescription(set, state, solution) {
  const words = [...set.labels, "everything else"];
  const count = solution.orders.length;
  const wrong = set.demonstrations.flatMap((one, i) => (isWrong(one) ? [`${i + 1} (rightly ${set.labels[one.right]})`] : []));
  return [
    `${set.models[state.model]}. The demonstrations in this order: ${state.order.map((i) => `${i + 1}, ${shownText(set, i)}`).join("; ")}. `
      + `${wrong.length ? `The label of ${wrong.join(" and ")} is wrong. ` : ""}The query: ${set.queries[state.query].text}.`,
    ...LEARNERS.map((name) => {
      const one = solution.learners[name];
      return `${NAMES[name]}: ${one.law.map((chance, i) => `${words[i]} ${chanceText(chance)}`).join(", ")}. `
        + `In ${one.correct} of ${plural(count, "order")} no label word has more than ${set.labels[solution.right]}. `
        + `Order sensitivity ${chanceText(one.sensitivity)} on this query, ${chanceText(one.mean)} on average over ${plural(set.queries.length, "query").replace("querys", "queries")}.`;
    }),
    `Both descents: rate ${rateText(set.rates[state.rate])}, ${set.passes} passes. Full-batch descent takes ${plural(set.passes, "step")}, stochastic descent ${set.passes * set.demonstrations.length}, `
      + "one demonstration at a time in this order. Both change all weights and answer the query without demonstrations.",
    filterSentence(solution),
  ];
}
