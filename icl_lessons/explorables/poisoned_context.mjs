// A poisoned context: drag one example of a line, and see which of four learners break.
import {
  axes, button, captionAndWords, clamp, component, dragHandles, figure, fitWidth, formatNumber, handle, html,
  labelledRange, labelledSelect, legendKey, linearScale, onResize, oncePerFrame, panel, roundTo, shortNumber,
  startingStates, svg, ticks, uniqueId,
} from "./parts.mjs";
import { INPUTS, LEARNERS, REACH, TARGETS, hijackExample, lineAt, movedAt, solvePoison, worstExample } from "./poisoned_context_math.mjs";
import { cellText, divergenceSentence, influenceSentence, learnerNames, poisonCaption, poisonDescription, shortNames, sizeText } from "./poisoned_context_words.mjs";

const TRAITS = ["which", "example", "query", "step_size", "steps", "penalty", "delta", "threshold", "budget", "learner", "target"];
const WINDOW = [4.2, 8.4]; // of the plot, each way
const SHIFTS = 6; // of the two plots of movement, each way
const LOOKS = { one_step: "descent", steps: "plusplus", ridge: "newton", clipped: "preconditioned" };

const LABEL = {
  which: 6, example: [1.4, 5], query: 1.7, step_size: 0.8, steps: 10, penalty: 1, delta: 1, threshold: 1, budget: 3, learner: "one_step", target: 3,
};
const PRESETS = {
  label: ["One wrong label", LABEL],
  clean: ["The clean context", { ...LABEL, example: [1.4, -0.9] }],
  input: ["One far input", { ...LABEL, example: [4, -2] }],
  distant: ["A wrong label far from the query", { ...LABEL, which: 1, example: [-1.4, 8] }],
  hijack: ["The hijack: one step says 3", { ...LABEL, example: [1.7, roundTo(hijackExample({ which: 6, query: 1.7, stepSize: 0.8, target: 3 }).label, 6)] }],
};

const readPoison = (model) => ({
  which: model.get("which"), example: model.get("example"), query: model.get("query"), stepSize: model.get("step_size"), steps: model.get("steps"),
  penalty: model.get("penalty"), delta: model.get("delta"), threshold: model.get("threshold"), budget: model.get("budget"), learner: model.get("learner"), target: model.get("target"),
});

/** The mark of a learner: never colour alone. */
function learnerMark(name, x, y, r) {
  const shape = {
    one_step: () => svg("circle", { cx: x, cy: y, r }),
    steps: () => svg("path", { d: `M${x} ${y - 1.3 * r} L${x + 1.3 * r} ${y} L${x} ${y + 1.3 * r} L${x - 1.3 * r} ${y} Z` }),
    ridge: () => svg("path", { d: `M${x} ${y - 1.2 * r} L${x + 1.2 * r} ${y + r} L${x - 1.2 * r} ${y + r} Z` }),
    clipped: () => svg("rect", { x: x - 0.9 * r, y: y - 0.9 * r, width: 1.8 * r, height: 1.8 * r }),
  }[name]();
  shape.setAttribute("class", `icl-mark-${LOOKS[name]}`);
  return shape;
}

const learnerKey = (name) => svg("svg", { class: "icl-key", width: 40, height: 20, "aria-hidden": "true" },
  svg("line", { class: `icl-way icl-way-${LOOKS[name]}`, x1: 2, x2: 38, y1: 10, y2: 10 }), learnerMark(name, 20, 10, 5));

function renderPoison({ model, el }) {
  let state = readPoison(model);
  let solution = solvePoison(state);
  const clip = uniqueId("clip");
  const telling = captionAndWords();
  const redraw = oncePerFrame(draw);
  function change(values) {
    for (const [name, value] of Object.entries(values)) model.set(name, value);
    model.save_changes();
    redraw();
  }

  // ---- controls
  const starts = startingStates({ model, traits: TRAITS, presets: PRESETS, apply: change });
  const range = (label, name, min, max, step, format = (value) => formatNumber(value, 2)) =>
    labelledRange({ label, min, max, step, format, oninput: (value) => change({ [name]: value }) });
  const ranges = {
    step_size: range("Step size η of GD", "step_size", 0.1, 1.2, 0.05), steps: range("Steps K", "steps", 2, 30, 1, String),
    penalty: range("Ridge: λ", "penalty", 0.05, 10, 0.05), delta: range("Clip labels at δ", "delta", 0.1, 6, 0.1),
    threshold: range("Broken if moved by over", "threshold", 0.1, 4, 0.1),
    budget: range("Budget: change of one label", "budget", 0.2, 5, 0.1), target: range("Hijack: one step shall say", "target", -4, 4, 0.1),
  };
  const learner = labelledSelect({ label: "Worst for", options: LEARNERS.map((name) => [name, name]), onchange: (name) => change({ learner: name }) });
  const worst = button("Place the worst label", () => {
    const found = worstExample(state);
    change({ which: found.which, example: found.example.map((value) => roundTo(value, 6)) });
  });
  const hijack = button("Hijack one step", () => change({ example: hijackExample(state).example.map((value) => roundTo(value, 6)) }));
  const mend = button("Put the example back", () => change({ example: [INPUTS[state.which - 1], TARGETS[state.which - 1]] }));
  const attackNote = html("p", { class: "icl-note" });

  // ---- the plot: every example can be taken, and so can the query
  const plot = svg("svg", { class: "icl-plot", role: "group", "aria-label": "The context and the learners' lines" });
  const back = svg("g", { "aria-hidden": "true" });
  let toX = linearScale(-WINDOW[0], WINDOW[0], 0, 1);
  let toY = linearScale(-WINDOW[1], WINDOW[1], 1, 0);
  const placeOf = (i) => (i === state.which - 1 ? state.example : [INPUTS[i], TARGETS[i]]);
  const examples = INPUTS.map((_, i) => handle({
    label: `Example ${i + 1}`, shapes: [svg("circle", { class: "icl-example", r: 6 }), svg("path", { class: "icl-outlier", d: "M0 -8 L8 0 L0 8 L-8 0 Z" })], position: () => placeOf(i),
    move: (to) => {
      change({ which: i + 1, example: to.map((value, part) => clamp(roundTo(value, 2), -REACH[part], REACH[part])) });
      state = readPoison(model);
    },
    step: 0.1, fineStep: 0.01,
  }));
  const query = handle({
    label: "The query x", shapes: [svg("path", { class: "icl-query", d: "M-4.5 -9 H4.5 V9 H-4.5 Z" })], horizontal: true, position: () => [state.query, -WINDOW[1] + 0.7],
    move: ([x]) => { change({ query: clamp(roundTo(x, 2), -3, 3) }); state = readPoison(model); },
    step: 0.1, fineStep: 0.01,
  });
  const handles = [...examples, query];
  plot.append(back, svg("g", {}, ...handles.map((one) => one.el)));
  dragHandles({
    surface: plot, handles: () => handles, says: telling.says,
    toPixels: (one) => { const [x, y] = one.position(); return [toX(x), toY(y)]; },
    toData: (px, py) => [toX.invert(px), toY.invert(py)],
  });
  const plotNote = html("p", { class: "icl-note" });

  // ---- tables and movements
  const names = Object.fromEntries(LEARNERS.map((name) => [name, html("span", {})]));
  const cells = Object.fromEntries(LEARNERS.map((name) => [name, ["before", "after", "moved", "verdict"].map(() => html("td", {}))]));
  const table = html("table", { class: "icl-methods" },
    html("caption", { class: "icl-hidden" }, "Each learner's prediction at the query, clean and now, and whether it breaks"),
    html("thead", {}, html("tr", {}, ...["Learner", "clean", "now", "moved", ""].map((head) => html("th", { scope: "col" }, head || html("span", { class: "icl-hidden" }, "verdict"))))),
    html("tbody", {}, ...LEARNERS.map((name) => html("tr", { "data-learner": name },
      html("th", { scope: "row" }, html("span", { class: "icl-learner" }, learnerKey(name), names[name])), ...cells[name]))));
  const influence = html("table", { class: "icl-matrix icl-rows" });
  const tableNote = html("p", { class: "icl-note" });
  const byLabel = svg("svg", { class: "icl-plot", role: "img" });
  const byInput = svg("svg", { class: "icl-plot", role: "img" });
  const legend = () => html("ul", { class: "icl-legend" }, ...LEARNERS.map((name) => html("li", {}, learnerKey(name), { one_step: "one step", steps: "K steps", ridge: "ridge", clipped: "clipped" }[name])),
    legendKey(22, svg("rect", { class: "icl-safe", x: 0, y: 3, width: 22, height: 12 }), "not broken"));

  const attacks = panel("Attacks in closed form", html("div", { class: "icl-controls icl-thirds" }, learner.el, ranges.budget.el, ranges.target.el),
    html("div", { class: "icl-bar icl-tight" }, worst, hijack, mend), attackNote);
  attacks.classList.add("icl-whole");

  const root = component("icl-poison icl-mesa", "Explorable: a poisoned context",
    starts.el,
    html("div", { class: "icl-controls icl-thirds" }, ranges.step_size.el, ranges.steps.el, ranges.penalty.el, ranges.delta.el, ranges.threshold.el),
    html("div", { class: "icl-panels icl-spaced" },
      panel("The context, with one example moved", figure(plot), plotNote),
      panel("At the query", table, influence, tableNote),
      panel("Another label, the same input", figure(byLabel), legend()),
      panel("Another input, the same label", figure(byInput), html("p", { class: "icl-note" }, "Lines as on the left. Beyond the frame a learner is drawn at its edge.")),
      attacks),
    ...telling.nodes);
  el.append(root);

  function draw() {
    state = readPoison(model);
    solution = solvePoison(state);
    drawControls();
    drawPlot();
    drawTable();
    drawMovement(byLabel, 1, "label y of the moved example");
    drawMovement(byInput, 0, "input x of the moved example");
    telling.tell(poisonCaption(state, solution), poisonDescription(state, solution));
    const { weights, before, after, bySum, moved, broken, influence: now, cleanInfluence, difference } = solution;
    root.dataset.solution = JSON.stringify({ weights, before, after, bySum, moved, broken, influence: now, cleanInfluence, difference });
  }

  function drawControls() {
    const values = { step_size: state.stepSize, steps: state.steps, penalty: state.penalty, delta: state.delta, threshold: state.threshold, budget: state.budget, target: state.target };
    for (const [name, value] of Object.entries(values)) ranges[name].set(value);
    const words = learnerNames(state);
    [...learner.input.options].forEach((option) => { option.textContent = words[option.value]; });
    learner.input.value = state.learner;
    mend.disabled = state.example[0] === INPUTS[state.which - 1] && state.example[1] === TARGETS[state.which - 1];
    const [bad, pair] = [worstExample(state), hijackExample(state)];
    attackNote.textContent = `Within ${formatNumber(state.budget, 2)}, the label that raises ${words[state.learner]} most is that of example ${bad.which}: by ${sizeText(bad.shift)}. `
      + `For one step to say ${formatNumber(state.target, 2)}, example ${state.which} moves to the query's x, q, with the label (N T/η − Σ yᵢ(1 + xᵢq)) / (1 + q²) = ${formatNumber(pair.label, 2)}`
      + `${pair.reached ? "" : `, outside the plot; at its edge it falls short`}. T is what it shall say; the sum is over the other five.`;
    starts.show();
  }

  function drawPlot() {
    const { width, height } = fitWidth(plot, (wide) => clamp(0.95 * wide, 300, 440));
    const area = { left: 34, right: width - 8, top: 24, bottom: height - 38 };
    toX = linearScale(-WINDOW[0], WINDOW[0], area.left, area.right);
    toY = linearScale(-WINDOW[1], WINDOW[1], area.bottom, area.top);
    const far = (value) => clamp(value, -1e4, 1e4);
    const lines = LEARNERS.map((name) => svg("line", { class: `icl-way icl-way-${LOOKS[name]}`, x1: toX(-WINDOW[0]), x2: toX(WINDOW[0]),
      y1: far(toY(lineAt(solution.weights[name], -WINDOW[0]))), y2: far(toY(lineAt(solution.weights[name], WINDOW[0]))) }));
    const i = state.which - 1;
    const [cx, cy] = [toX(INPUTS[i]), toY(TARGETS[i])];
    const [ex, ey] = [toX(state.example[0]), toY(state.example[1])];
    const qx = toX(state.query);
    back.replaceChildren(
      svg("clipPath", { id: clip }, svg("rect", { x: area.left, y: area.top, width: area.right - area.left, height: area.bottom - area.top })),
      ...axes({ x: toX, y: toY, ...area, xName: "input x", yName: "target y", xTicks: [-4, -2, 0, 2, 4], yTicks: [-8, -4, 0, 4, 8] }),
      svg("g", { "clip-path": `url(#${clip})` }, svg("line", { class: "icl-query-line", x1: qx, x2: qx, y1: area.top, y2: area.bottom }), ...lines,
        svg("line", { class: "icl-residual", x1: cx, y1: cy, x2: ex, y2: ey }), svg("circle", { class: "icl-ghost", cx, cy, r: 5.5 }),
        ...LEARNERS.map((name) => learnerMark(name, qx, far(toY(solution.after[name])), 5.5))));
    examples.forEach((one, k) => {
      const [x, y] = placeOf(k);
      one.el.classList.toggle("icl-taken", k === i);
      one.place(toX(x), toY(y), { text: `${formatNumber(x, 2)}, ${formatNumber(y, 2)}${k === i ? ", the moved one" : ""}`, now: y, low: -REACH[1], high: REACH[1] });
    });
    query.place(qx, toY(-WINDOW[1] + 0.7), { text: formatNumber(state.query, 2), now: state.query, low: -3, high: 3 });
    plotNote.textContent = "Drag any example (the one moved before, the diamond, goes back) or the query's bar; or focus one and use the arrow keys. Marks on the dotted line: predictions at the query.";
  }

  function drawTable() {
    const words = shortNames(state);
    for (const name of LEARNERS) {
      names[name].textContent = words[name];
      const [before, after, moved, verdict] = cells[name];
      before.textContent = cellText(solution.before[name], 999);
      after.textContent = cellText(solution.after[name], 999);
      moved.textContent = cellText(solution.moved[name], 999);
      verdict.textContent = solution.broken[name] ? "✗ breaks" : "✓ holds";
      verdict.className = solution.broken[name] ? "icl-breaks" : "";
    }
    influence.replaceChildren(
      html("caption", {}, "Influence aᵢ of each label on the prediction, in closed form, with the example where it is now"),
      html("thead", {}, html("tr", {}, html("th", { scope: "col" }, "label"), ...LEARNERS.map((name) => html("th", { scope: "col" }, words[name])))),
      html("tbody", {}, ...INPUTS.map((_, i) => html("tr", {}, html("th", { scope: "row" }, i === state.which - 1 ? `${i + 1} ◆` : String(i + 1)),
        ...LEARNERS.map((name) => solution.influence[name][i]).map((a) => html("td", { class: i === state.which - 1 ? "icl-changed" : a === 0 ? "icl-zero" : "" }, cellText(a, 999)))))));
    tableNote.textContent = [influenceSentence(state, solution), divergenceSentence(state, solution)].filter(Boolean).join(" ");
  }

  /** How far every learner moves while one coordinate of the example (0: input, 1: label) runs over the plot. */
  function drawMovement(drawing, part, xName) {
    const { width, height } = fitWidth(drawing, (wide) => clamp(0.62 * wide, 220, 300));
    const area = { left: 40, right: width - 12, top: 26, bottom: height - 40 };
    const reach = REACH[part];
    const x = linearScale(-reach, reach, area.left, area.right);
    const y = linearScale(-SHIFTS, SHIFTS, area.bottom, area.top);
    const at = (value) => y(clamp(value, -SHIFTS, SHIFTS));
    const along = [...Array(161).keys()].map((k) => -reach + (2 * reach * k) / 160);
    const moved = movedAt(state, along.map((value) => (part === 1 ? [state.example[0], value] : [value, state.example[1]])));
    const now = x(state.example[part]);
    drawing.replaceChildren(
      svg("rect", { class: "icl-safe", x: area.left, y: at(state.threshold), width: area.right - area.left, height: at(-state.threshold) - at(state.threshold) }),
      ...axes({ x, y, ...area, xName, yName: "prediction moved by", yTicks: [-6, -3, 0, 3, 6], xTicks: ticks(-reach, reach, 4) }),
      svg("line", { class: "icl-query-line", x1: now, x2: now, y1: area.top, y2: area.bottom }),
      ...LEARNERS.map((name) => svg("polyline", { class: `icl-way icl-way-${LOOKS[name]}`, points: along.map((value, k) => `${x(value).toFixed(1)},${at(moved[k][name]).toFixed(1)}`).join(" ") })),
      ...LEARNERS.map((name) => learnerMark(name, now, at(solution.moved[name]), 5)));
    const ends = LEARNERS.map((name) => `${learnerNames(state)[name]} from ${sizeText(moved[0][name])} to ${sizeText(moved[160][name])}`);
    drawing.setAttribute("aria-label", `How far each prediction moves as the ${xName} goes from ${shortNumber(-reach)} to ${shortNumber(reach)}: ${ends.join("; ")}.`);
  }

  for (const name of TRAITS) model.on(`change:${name}`, redraw);
  const stop = onResize(root, redraw);
  draw();
  return () => {
    stop();
    redraw.cancel();
    for (const name of TRAITS) model.off(`change:${name}`, redraw);
  };
}

export default { render: renderPoison };
