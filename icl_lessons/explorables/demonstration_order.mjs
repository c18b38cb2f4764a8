// Four demonstrations that change places: the answers of a prompt, of two descents and of a Bayes filter.
import {
  button, captionAndWords, clamp, component, figure, fitWidth, html, labelledCheck, labelledRange, labelledSelect, linearScale,
  onResize, oncePerFrame, panel, startingStates, svg,
} from "./parts.mjs";
import { LEARNERS, moved, permutations, solveOrders, unpackSets } from "./demonstration_order_math.mjs";
import { NAMES, chanceText, isWrong, orderCaption, orderDescription, orderText, rateText, shownText } from "./demonstration_order_words.mjs";

const TRAITS = ["chosen", "order", "query", "model", "rate", "zoom"];
const ROW = 20; // pixels for each probability
const STRIP = 66; // and for each learner's 24 answers

/** Starting states, of these sets. */
function presetsOf(sets) {
  const first = [...sets[0].demonstrations.keys()];
  const start = { order: first, query: 0, model: 0, rate: Math.min(1, sets[0].rates.length - 1), zoom: false };
  const presets = {};
  sets.forEach((set, chosen) => {
    const wrong = set.demonstrations.findIndex(isWrong);
    if (wrong < 0) presets[`set ${chosen}`] = [`Right labels: ${set.name}`, { ...start, chosen }];
    else {
      presets[`first ${chosen}`] = ["The wrong label first", { ...start, chosen, order: moved(first, wrong, 0) }];
      presets[`last ${chosen}`] = ["The wrong label last", { ...start, chosen, order: moved(first, wrong, first.length - 1) }];
    }
  });
  presets.large = ["Descent at the largest rate", { ...start, chosen: 0, rate: sets[0].rates.length - 1 }];
  return presets;
}

function renderDemonstrationOrder({ model, el }) {
  const sets = unpackSets(model.get("sets"));
  const count = sets[0].demonstrations.length;
  const orders = permutations(count);
  const read = () => Object.fromEntries(TRAITS.map((name) => [name, model.get(name)]));
  let state = read();
  let solution = null;
  const telling = captionAndWords();
  const redraw = oncePerFrame(draw);
  function change(values) {
    for (const [name, value] of Object.entries(values)) model.set(name, value);
    model.save_changes();
    state = read();
    redraw();
  }

  // ---- controls
  const starts = startingStates({ model, traits: TRAITS, presets: presetsOf(sets), apply: change });
  const numbered = (label, name, list) => labelledSelect({ label, options: list.map((text, i) => [i, text]), onchange: (value) => change({ [name]: Number(value) }) });
  const selects = {
    chosen: numbered("Demonstrations of", "chosen", sets.map((set) => set.name)),
    model: numbered("Model", "model", sets[0].models),
    query: numbered("Query", "query", sets[0].queries.map((query) => query.text)),
  };
  const rate = labelledRange({
    label: "Rate of both descents", min: 0, max: sets[0].rates.length - 1, step: 1, format: (i) => rateText(sets[0].rates[i]), oninput: (value) => change({ rate: value }),
  });
  const place = labelledRange({
    label: `One of ${orders.length} orders`, min: 1, max: orders.length, step: 1, format: (i) => orderText(orders[i - 1]), oninput: (value) => change({ order: orders[value - 1] }),
  });
  const extreme = (text, end) => button(text, () => {
    const { chances } = solution.learners.in_context;
    change({ order: orders[chances.indexOf(end(...chances))] });
  });
  const zoom = labelledCheck({ label: "Each from its lowest to its highest", onchange: (checked) => change({ zoom: checked }) });

  // ---- the cards: places that stay, whose demonstrations change
  const list = html("ol", { class: "icl-cards", "aria-label": "Demonstrations, in the order in which they are read" });
  const cards = [...Array(count).keys()].map((at) => {
    const [number, text, note] = ["icl-card-number", "icl-card-text", "icl-card-note"].map((name) => html("span", { class: name }));
    const mover = (sign, by) => button(sign, () => move(at, at + by), { class: "icl-button icl-card-button" });
    const [up, down] = [mover("↑", -1), mover("↓", 1)];
    const li = html("li", { class: "icl-card" }, html("span", { class: "icl-grip", "aria-hidden": "true" }, "⠿"), number, html("span", { class: "icl-card-words" }, text, note), up, down);
    li.addEventListener("keydown", (event) => {
      const by = { ArrowUp: -1, ArrowDown: 1 }[event.key];
      if (!by) return;
      event.preventDefault();
      move(at, at + by);
    });
    return { li, number, text, note, up, down };
  });
  list.append(...cards.map((card) => card.li));

  /** Take a demonstration to another place; the focus goes with it. */
  function move(from, to) {
    if (to < 0 || to >= count) return;
    const held = ["up", "down"].find((name) => cards[from][name] === document.activeElement);
    change({ order: moved(state.order, from, to) });
    drawCards();
    if (!held) return;
    const wanted = cards[to][held];
    (wanted.disabled ? cards[to][held === "up" ? "down" : "up"] : wanted).focus({ preventScroll: true });
  }

  let held = null; // the pointer that drags, and the place of what it holds
  const placeAt = (y) => cards.findIndex(({ li }) => y < li.getBoundingClientRect().bottom);
  list.addEventListener("pointerdown", (event) => {
    if (held || event.button !== 0 || event.target.closest("button")) return;
    if (event.pointerType !== "mouse" && !event.target.closest(".icl-grip")) return;
    const at = cards.findIndex(({ li }) => li.contains(event.target));
    if (at < 0) return;
    event.preventDefault();
    list.setPointerCapture(event.pointerId);
    held = { pointer: event.pointerId, at };
    telling.says.setAttribute("aria-busy", "true");
    drawCards();
  });
  list.addEventListener("pointermove", (event) => {
    if (event.pointerId !== held?.pointer) return;
    const found = placeAt(event.clientY);
    const to = found < 0 ? count - 1 : found;
    if (to === held.at) return;
    const from = held.at;
    held.at = to;
    move(from, to);
  });
  const release = (event) => {
    if (event.pointerId !== held?.pointer) return;
    held = null;
    telling.says.removeAttribute("aria-busy");
    drawCards();
  };
  list.addEventListener("pointerup", release);
  list.addEventListener("pointercancel", release);

  // ---- the panels
  const asked = html("p", { class: "icl-asked" });
  const [bars, strips] = [svg("svg", { class: "icl-plot", role: "img" }), svg("svg", { class: "icl-plot icl-strips", role: "img" })];
  const [barNote, stripNote] = [html("p", { class: "icl-note" }), html("p", { class: "icl-note" })];
  const cells = Object.fromEntries(LEARNERS.map((name) => [name, ["chance", "sensitivity", "mean"].map(() => html("td", {}))]));
  const table = html("table", { class: "icl-methods" },
    html("caption", { class: "icl-hidden" }, "The right answer's probability in this order, and order sensitivity"),
    html("thead", {}, html("tr", {}, ...["Learner", "right answer", "Sen, this query", "Sen, mean"].map((head) => html("th", { scope: "col" }, head)))),
    html("tbody", {}, ...LEARNERS.map((name) => html("tr", {}, html("th", { scope: "row" }, NAMES[name]), ...cells[name]))));
  const root = component("icl-orders", "Explorable: the order of demonstrations",
    starts.el,
    html("div", { class: "icl-controls icl-halves" }, selects.chosen.el, selects.model.el, selects.query.el, rate.el),
    html("div", { class: "icl-panels icl-spaced" },
      panel("Read in this order", list, asked, place.el,
        html("div", { class: "icl-bar icl-tight" }, button("Reverse", () => change({ order: [...state.order].reverse() })), extreme("Lowest in context", Math.min), extreme("Highest in context", Math.max))),
      panel("What comes next, in this order", figure(bars), barNote),
      panel("The right answer in all orders", figure(strips), zoom.el, stripNote),
      panel("How much the order matters", table, html("p", { class: "icl-note" },
        "Sen, order sensitivity: the standard deviation of each word's probability over all orders, summed over the whole vocabulary; its mean is over the queries."))),
    ...telling.nodes);
  el.append(root);

  function draw() {
    state = read();
    solution = solveOrders(sets[state.chosen], state);
    drawControls();
    drawCards();
    drawBars();
    drawStrips();
    for (const name of LEARNERS) {
      const { chance, sensitivity, mean } = solution.learners[name];
      [chance, sensitivity, mean].forEach((value, i) => { cells[name][i].textContent = chanceText(value); });
    }
    telling.tell(orderCaption(sets[state.chosen], state, solution), orderDescription(sets[state.chosen], state, solution));
    root.dataset.solution = JSON.stringify(solution);
  }

  function drawControls() {
    for (const [name, each] of Object.entries(selects)) each.input.value = state[name];
    sets[state.chosen].queries.forEach((query, i) => { selects.query.input.options[i].textContent = query.text; });
    rate.set(state.rate);
    place.set(solution.at + 1);
    zoom.input.checked = state.zoom;
    starts.show();
  }

  function drawCards() {
    const set = sets[state.chosen];
    state.order.forEach((which, at) => {
      const { li, number, text, note, up, down } = cards[at];
      const one = set.demonstrations[which];
      number.textContent = which + 1;
      text.replaceChildren(`${one.text}: `, html("strong", {}, set.labels[one.label]));
      note.textContent = isWrong(one) ? `wrong: it is ${set.labels[one.right]}` : "";
      li.classList.toggle("icl-wrong", isWrong(one));
      li.classList.toggle("icl-held", held?.at === at);
      [up.disabled, down.disabled] = [at === 0, at === count - 1];
      up.setAttribute("aria-label", `${shownText(set, which)}, move up to place ${at}`);
      down.setAttribute("aria-label", `${shownText(set, which)}, move down to place ${at + 2}`);
    });
    const query = set.queries[state.query];
    asked.replaceChildren(html("span", { class: "icl-card-number" }, "?"), html("span", { class: "icl-card-words" }, `${query.text}:`,
      html("span", { class: "icl-card-note" }, `right answer: ${set.labels[query.right]}`)));
  }

  function drawBars() {
    const set = sets[state.chosen];
    const words = [...set.labels, "everything else"];
    const block = 24 + ROW * words.length;
    const { width, height } = fitWidth(bars, LEARNERS.length * block + 30);
    const x = linearScale(0, 1, 104, width - 48);
    const nodes = [0, 0.5, 1].flatMap((value) => [
      svg("line", { class: "icl-grid", x1: x(value), x2: x(value), y1: 4, y2: height - 26 }),
      svg("text", { class: "icl-tick", x: x(value), y: height - 10, "text-anchor": "middle" }, String(value))]);
    LEARNERS.forEach((name, k) => {
      const { law, laws } = solution.learners[name];
      nodes.push(svg("text", { class: "icl-axis icl-strong", x: 2, y: k * block + 16 }, NAMES[name]));
      law.forEach((chance, i) => {
        const y = k * block + 22 + i * ROW;
        const all = laws.map((one) => one[i]);
        const [low, high] = [x(Math.min(...all)), x(Math.max(...all))];
        nodes.push(
          svg("text", { class: `icl-tick${i === solution.right ? " icl-strong" : ""}`, x: 98, y: y + 14, "text-anchor": "end" }, words[i]),
          svg("rect", { class: `icl-bar-of icl-${name}`, x: x(0), y: y + 3, width: Math.max(x(chance) - x(0), 0.5), height: ROW - 7 }),
          high - low < 1.5 ? null : svg("path", { class: "icl-reach", d: `M${low} ${y + 4.5} V${y + ROW - 5.5} M${low} ${y + ROW / 2 - 0.5} H${high} M${high} ${y + 4.5} V${y + ROW - 5.5}` }),
          svg("text", { class: "icl-tick", x: width - 2, y: y + 14, "text-anchor": "end" }, chanceText(chance)));
      });
    });
    bars.replaceChildren(...nodes.filter(Boolean));
    barNote.textContent = "Bars: this order. Thin lines with ends: from the lowest to the highest of all orders. The right answer is bold.";
    bars.setAttribute("aria-label", LEARNERS.map((name) => `${NAMES[name]}: ${solution.learners[name].law.map((chance, i) => `${words[i]} ${chanceText(chance)}`).join(", ")}.`).join(" "));
  }

  /** Where a probability lies in a learner's strip. */
  function stripScale({ low, high }, width) {
    const own = state.zoom && high - low >= 0.0005;
    return Object.assign(linearScale(own ? low : 0, own ? high : 1, 12, width - 12), { own });
  }

  function drawStrips() {
    const { width } = fitWidth(strips, LEARNERS.length * STRIP);
    const nodes = [];
    LEARNERS.forEach((name, k) => {
      const y = k * STRIP + 28;
      const { chances, chance } = solution.learners[name];
      const x = stripScale(solution.learners[name], width);
      const end = (value, side) => svg("text", { class: "icl-tick", x: x(value), y: y + 32, "text-anchor": x.own ? side : "middle" }, x.own ? chanceText(value) : String(value));
      nodes.push(
        svg("text", { class: "icl-axis icl-strong", x: 2, y: y - 12 }, NAMES[name]),
        svg("line", { class: "icl-scale", x1: x(x.low), x2: x(x.high), y1: y + 18, y2: y + 18 }),
        ...chances.map((value) => svg("line", { class: `icl-mark-of icl-${name}`, x1: x(value), x2: x(value), y1: y + 5, y2: y + 18 })),
        svg("path", { class: "icl-now", d: `M${x(chance) - 6} ${y - 5} h12 l-6 9 Z` }),
        end(x.low, "start"), end(x.high, "end"),
        svg("text", { class: "icl-tick", x: width - 2, y: y - 12, "text-anchor": "end" }, chanceText(chance)));
    });
    strips.replaceChildren(...nodes);
    const word = sets[state.chosen].labels[solution.right];
    stripNote.textContent = `The probability of ${word} in each of ${orders.length} orders; the triangle is this one. Press near a mark to put the demonstrations into its order.`;
    strips.setAttribute("aria-label", `${stripNote.textContent.split(";")[0]}. ${LEARNERS.map((name) => { const { chance, low, high } = solution.learners[name]; return `${NAMES[name]}: ${chanceText(chance)}, from ${chanceText(low)} to ${chanceText(high)}`; }).join("; ")}.`);
  }

  strips.addEventListener("click", (event) => {
    const box = strips.getBoundingClientRect();
    const one = solution.learners[LEARNERS[clamp(Math.floor((event.clientY - box.top) / STRIP), 0, LEARNERS.length - 1)]];
    const value = stripScale(one, box.width).invert(event.clientX - box.left);
    const away = one.chances.map((chance) => Math.abs(chance - value));
    if (one.high > one.low) change({ order: orders[away.indexOf(Math.min(...away))] });
  });

  for (const name of TRAITS) model.on(`change:${name}`, redraw);
  const stop = onResize(root, redraw);
  draw();
  return () => {
    stop();
    redraw.cancel();
    for (const name of TRAITS) model.off(`change:${name}`, redraw);
  };
}

export default { render: renderDemonstrationOrder };
