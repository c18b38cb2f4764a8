// Token by token: the weights that stand for the tokens read so far, and what their path does not show.
import {
  axes, button, captionAndWords, clamp, component, figure, fitWidth, formatNumber, html, labelledRange, labelledSelect,
  legendKey, linearScale, onResize, oncePerFrame, panel, plural, shortNumber, startingStates, svg, ticks, uniqueId,
} from "./parts.mjs";
import { EXAMPLES, solvePath } from "./token_path_math.mjs";
import { ATTENTIONS, ORDERS, PATHS, WEIGHTS, biggest, incrementSentence, pathCaption, pathDescription, sizeText, weightsSentence } from "./token_path_words.mjs";

const TRAITS = ["weights", "attention", "order", "path", "read", "slope", "query", "shuffle", "seed"];
const START = { weights: "written", attention: "softmax", order: "drawn", path: "additive", read: 30, slope: 1.2, query: 0.8, shuffle: 0, seed: 70 };
const PRESETS = {
  written: ["Weights that do regression", START],
  random: ["Weights that have learned nothing", { ...START, weights: "random" }],
  linear: ["A sum instead of a mean", { ...START, attention: "linear" }],
  sorted: ["The same examples, sorted", { ...START, order: "sorted" }],
  factorised: ["The factorised path", { ...START, path: "factorised", read: 90 }],
};
const LOOKS = { written: "edited", random: "plain" };

const readPath = (model) => Object.fromEntries(TRAITS.map((name) => [name, model.get(name)]));
const corners = (list) => list.map(([x, y]) => `${x.toFixed(1)},${y.toFixed(1)}`).join(" ");
const goal = (x, y) => svg("path", { class: "icl-goal", d: `M${x - 7} ${y} H${x + 7} M${x} ${y - 7} V${y + 7}` });
const markOf = (kind, x, y, r = 3) => (kind === "written" ? svg("circle", { class: "icl-dot", cx: x, cy: y, r })
  : svg("rect", { class: "icl-plain-mark", x: x - r, y: y - r, width: 2 * r, height: 2 * r }));

function renderTokenPath({ model, el }) {
  let state = readPath(model);
  let [solution, solved] = [null, ""];
  let playing = 0;
  const telling = captionAndWords();
  const clips = { context: uniqueId("clip"), way: uniqueId("clip") };
  const redraw = oncePerFrame(draw);
  function change(values) {
    for (const [name, value] of Object.entries(values)) model.set(name, value);
    model.save_changes();
    redraw();
  }

  // ---- controls
  const starts = startingStates({ model, traits: TRAITS, presets: PRESETS, apply: (values) => { pause(); change(values); } });
  const select = (label, name, options) => labelledSelect({ label, options: Object.entries(options), onchange: (value) => change({ [name]: value }) });
  const selects = {
    weights: select("Weights of the block", "weights", WEIGHTS), attention: select("Attention", "attention", ATTENTIONS),
    order: select("Order of the examples", "order", ORDERS), path: select("Path", "path", PATHS),
  };
  const range = (label, name, min, max, step, format) => labelledRange({ label, min, max, step, format, oninput: (value) => { pause(); change({ [name]: value }); } });
  const ranges = {
    slope: range("Slope of the line", "slope", -2, 2, 0.1, (value) => formatNumber(value, 1)),
    query: range("Query x", "query", 0.3, 2, 0.05, (value) => formatNumber(value, 2)),
    read: range("Tokens read", "read", 0, EXAMPLES, 1, String),
  };
  const still = window.matchMedia?.("(prefers-reduced-motion: reduce)");
  const play = button("Play", () => {
    if (playing) return pause();
    if (still?.matches) return change({ read: EXAMPLES });
    telling.says.setAttribute("aria-busy", "true");
    play.textContent = "Pause";
    if (state.read >= EXAMPLES) change({ read: 0 });
    playing = setInterval(() => {
      const next = model.get("read") + 1;
      if (next <= EXAMPLES) change({ read: next });
      if (next >= EXAMPLES) pause();
    }, 120);
    return undefined;
  });
  function pause() {
    clearInterval(playing);
    playing = 0;
    play.textContent = "Play";
    telling.says.removeAttribute("aria-busy");
  }
  const one = button("One token", () => { pause(); change({ read: Math.min(model.get("read") + 1, EXAMPLES) }); });
  const back = button("To token 0", () => { pause(); change({ read: 0 }); });
  const shuffle = button("Shuffle", () => change(state.order === "shuffled" ? { shuffle: (state.shuffle + 1) % 1000 } : { order: "shuffled" }));
  const another = button("Other examples, another random block", () => change({ seed: (state.seed + 1) % 1000 }));

  // ---- numbers
  const tile = (name) => {
    const [value, note] = [html("span", { class: "icl-tile-value" }), html("span", { class: "icl-tile-note" })];
    return { el: html("div", { class: "icl-tile" }, html("span", { class: "icl-tile-name" }, name), value, note), value, note };
  };
  const tiles = { prediction: tile("Prediction at the query"), size: tile("Change of W so far"), step: tile("The last token moved W by") };

  // ---- the panels
  const drawings = Object.fromEntries(["context", "way", "prediction", "steps"].map((name) => [name, svg("svg", { class: "icl-plot", role: "img" })]));
  const notes = Object.fromEntries(["context", "way", "prediction", "steps"].map((name) => [name, html("p", { class: "icl-note" })]));
  const sample = (kind) => svg("g", {}, svg("line", { class: `icl-${LOOKS[kind]}`, x1: 1, x2: 33, y1: 9, y2: 9 }), markOf(kind, 17, 9));
  const wayKey = html("span", {});
  const aloneKey = legendKey(34, svg("line", { class: "icl-way icl-way-plusplus", x1: 1, x2: 33, y1: 9, y2: 9 }), "without the rest");

  const root = component("icl-token-path", "Explorable: the context token by token",
    starts.el,
    html("div", { class: "icl-controls icl-halves" }, ...Object.values(selects).map((each) => each.el), ranges.slope.el, ranges.query.el),
    html("div", { class: "icl-controls icl-halves" }, ranges.read.el, html("div", { class: "icl-bar icl-tight" }, play, one, back)),
    html("div", { class: "icl-bar icl-tight" }, shuffle, another),
    html("div", { class: "icl-tiles icl-spaced" }, tiles.prediction.el, tiles.size.el, tiles.step.el),
    html("div", { class: "icl-panels" },
      panel("The examples, read one after the other", figure(drawings.context), html("ul", { class: "icl-legend" },
        legendKey(18, svg("circle", { class: "icl-example", cx: 9, cy: 9, r: 5 }), "read"), legendKey(18, svg("circle", { class: "icl-ghost", cx: 9, cy: 9, r: 4 }), "not yet"),
        legendKey(18, svg("circle", { class: "icl-ring", cx: 9, cy: 9, r: 6 }), "prediction"), legendKey(18, goal(9, 9), "answer")), notes.context),
      panel("Prediction after each token", figure(drawings.prediction), html("ul", { class: "icl-legend" },
        legendKey(34, sample("written"), "written weights"), legendKey(34, sample("random"), "random weights"), aloneKey,
        legendKey(26, svg("line", { class: "icl-exact", x1: 1, x2: 25, y1: 9, y2: 9 }), "answer")), notes.prediction),
      panel("How far each token moves W", figure(drawings.steps), html("ul", { class: "icl-legend" },
        legendKey(18, markOf("written", 9, 9), "written"), legendKey(18, markOf("random", 9, 9), "random"),
        legendKey(26, svg("line", { class: "icl-exact", x1: 1, x2: 25, y1: 9, y2: 9 }), "1/i, through the median")), notes.steps),
      panel("The path of the update, along its one direction", figure(drawings.way), html("ul", { class: "icl-legend" }, html("li", {}, wayKey)), notes.way)),
    ...telling.nodes);
  el.append(root);

  function draw() {
    state = readPath(model);
    const key = JSON.stringify({ ...state, read: 0 });
    if (key !== solved) [solution, solved] = [solvePath(state), key];
    drawControls();
    drawContext();
    drawPrediction();
    drawSteps();
    drawWay();
    telling.tell(pathCaption(state, solution), pathDescription(state, solution));
    const short = ({ weights, increments, slope, singular, along, withContext, changed, alone, difference }) =>
      ({ weights: weights[state.read], increments, slope, singular: singular[state.read], along: along[state.read], withContext, changed, alone, difference });
    root.dataset.solution = JSON.stringify({ written: short(solution.written), random: short(solution.random), examples: solution.examples, answer: solution.answer });
  }

  function drawControls() {
    for (const [name, each] of Object.entries(selects)) each.input.value = state[name];
    for (const [name, each] of Object.entries(ranges)) each.set(state[name]);
    one.disabled = state.read >= EXAMPLES;
    back.disabled = state.read === 0;
    shuffle.textContent = state.order === "shuffled" ? "Shuffle again" : "Shuffle";
    aloneKey.hidden = state.path === "additive";
    const trace = solution[state.weights];
    const { read } = state;
    tiles.prediction.value.textContent = formatNumber(trace.changed[read], 3);
    tiles.prediction.note.textContent = `answer ${formatNumber(solution.answer, 3)}; with and without context: ${formatNumber(biggest(trace))} apart`;
    tiles.size.value.textContent = sizeText(trace.size[read]);
    tiles.size.note.textContent = `${shortNumber(trace.size[read] / trace.sizeW, 2)} times |W₀|; singular values ${trace.singular[read].map((value) => (value < 1e-12 * (1 + trace.size[read]) ? "0" : sizeText(value))).join(" and ")}`;
    tiles.step.value.textContent = read === 0 ? "none" : sizeText(trace.increments[read - 1]);
    tiles.step.note.textContent = read === 0 ? "no token read" : `times its number, ${read}: ${sizeText(read * trace.increments[read - 1])}`;
    starts.show();
  }

  const frame = (drawing, share, left = 46) => {
    const { width, height } = fitWidth(drawing, (wide) => clamp(share * wide, 220, 300));
    return { left, right: width - 12, top: 26, bottom: height - 40 };
  };
  const clipTo = (id, { left, right, top, bottom }) => svg("clipPath", { id }, svg("rect", { x: left, y: top, width: right - left, height: bottom - top }));

  function drawContext() {
    const area = frame(drawings.context, 0.72, 34);
    const tall = Math.max(...solution.examples.map(([, y]) => Math.abs(y)), Math.abs(solution.answer), 1) * 1.08;
    const x = linearScale(-3, 3, area.left, area.right);
    const y = linearScale(-tall, tall, area.bottom, area.top);
    const trace = solution[state.weights];
    const said = trace.changed[state.read];
    const at = y(clamp(said, -tall, tall));
    const last = state.read > 0 ? solution.examples[state.read - 1] : null;
    drawings.context.replaceChildren(
      clipTo(clips.context, area), ...axes({ x, y, ...area, xName: "input x", yName: "target y", xTicks: [-3, -2, -1, 0, 1, 2, 3] }),
      svg("line", { class: "icl-query-line", x1: x(state.query), x2: x(state.query), y1: area.top, y2: area.bottom }),
      svg("g", { "clip-path": `url(#${clips.context})` },
        ...solution.examples.map(([px, py], i) => svg("circle", i < state.read ? { class: "icl-example", cx: x(px), cy: y(py), r: 4.5 } : { class: "icl-ghost", cx: x(px), cy: y(py), r: 3 })),
        last ? svg("circle", { class: "icl-past icl-hollow", cx: x(last[0]), cy: y(last[1]), r: 8 }) : null),
      goal(x(state.query), y(solution.answer)), svg("circle", { class: "icl-ring", cx: x(state.query), cy: at, r: 7 }));
    notes.context.textContent = weightsSentence(state);
    drawings.context.setAttribute("aria-label", `${plural(state.read, "example")} of ${EXAMPLES} read. At x = ${formatNumber(state.query, 2)} the prediction is ${formatNumber(said, 3)}, the answer ${formatNumber(solution.answer, 3)}.`);
  }

  function drawPrediction() {
    const area = frame(drawings.prediction, 0.72);
    const lines = ["random", "written"].map((kind) => [kind, solution[kind].changed]);
    const alone = state.path === "factorised" ? solution[state.weights].alone : [];
    const every = [...lines.flatMap(([, values]) => values), ...alone, solution.answer, 0].map((value) => clamp(value, -20, 20));
    const [least, most] = [Math.min(...every), Math.max(...every)];
    const room = 0.07 * (most - least || 1);
    const x = linearScale(0, EXAMPLES, area.left, area.right);
    const y = linearScale(least - room, most + room, area.bottom, area.top);
    const place = (values) => values.map((value, i) => [x(i), y(clamp(value, -20, 20))]);
    const { read } = state;
    const nodes = [svg("line", { class: "icl-exact", x1: area.left, x2: area.right, y1: y(solution.answer), y2: y(solution.answer) })];
    if (alone.length) nodes.push(svg("polyline", { class: "icl-way icl-way-plusplus", points: corners(place(alone)) }));
    for (const [kind, values] of lines) {
      const all = place(values);
      nodes.push(svg("polyline", { class: `icl-${LOOKS[kind]} icl-faint`, points: corners(all) }), svg("polyline", { class: `icl-${LOOKS[kind]}`, points: corners(all.slice(0, read + 1)) }),
        markOf(kind, ...all[read], kind === state.weights ? 6 : 4));
    }
    drawings.prediction.replaceChildren(...axes({ x, y, ...area, xName: "tokens i read", yName: "prediction at the query", xTicks: [0, 25, 50, 75, 100] }), ...nodes);
    const far = (kind) => Math.abs(solution[kind].alone[EXAMPLES] - solution.answer);
    notes.prediction.textContent = state.path === "additive"
      ? `After all ${EXAMPLES} tokens the written weights are ${formatNumber(far("written"), 2)} from the answer, the random ones ${formatNumber(far("random"), 2)}.`
      : "With the rest as context the prediction is that of the whole context at every step.";
    drawings.prediction.setAttribute("aria-label", `Predictions after each token. ${notes.prediction.textContent}`);
  }

  function drawSteps() {
    const area = frame(drawings.steps, 0.72);
    const kinds = ["random", "written"];
    const sizes = kinds.flatMap((kind) => solution[kind].increments).filter((size) => size > 0);
    const low = Math.max(Math.floor(Math.log10(Math.min(...sizes))), Math.ceil(Math.log10(Math.max(...sizes))) - 6);
    const high = Math.max(Math.ceil(Math.log10(Math.max(...sizes))), low + 1);
    const x = linearScale(0, 2, area.left, area.right);
    const y = linearScale(low, high, area.bottom, area.top);
    const place = (size, i) => [x(Math.log10(i + 1)), y(clamp(Math.log10(Math.max(size, 1e-300)), low, high))];
    const trace = solution[state.weights];
    const middle = trace.increments.map((size, i) => size * (i + 1)).sort((a, b) => a - b)[EXAMPLES / 2];
    const nodes = [];
    for (const value of [0, 1, 2]) {
      nodes.push(svg("line", { class: "icl-grid", x1: x(value), x2: x(value), y1: area.top, y2: area.bottom }), svg("text", { class: "icl-tick", x: x(value), y: area.bottom + 16, "text-anchor": value === 2 ? "end" : "middle" }, String(10 ** value)));
    }
    const every = high - low > 5 ? 2 : 1;
    for (let value = low; value <= high; value += every) {
      nodes.push(svg("line", { class: "icl-grid", x1: area.left, x2: area.right, y1: y(value), y2: y(value) }),
        svg("text", { class: "icl-tick", x: area.left - 6, y: y(value) + 4, "text-anchor": "end" }, value >= -3 && value <= 4 ? String(10 ** value) : value === 0 ? "1" : `10${[...String(value)].map((sign) => ({ "-": "⁻" })[sign] ?? "⁰¹²³⁴⁵⁶⁷⁸⁹"[sign]).join("")}`));
    }
    const clipped = [0, 2].map((power) => [x(power), y(clamp(Math.log10(middle) - power, low, high))]);
    nodes.push(svg("line", { class: "icl-exact", x1: clipped[0][0], y1: clipped[0][1], x2: clipped[1][0], y2: clipped[1][1] }));
    for (const kind of kinds) {
      solution[kind].increments.forEach((size, i) => {
        const node = markOf(kind, ...place(size, i), kind === state.weights ? 3.2 : 2.4);
        if (i >= state.read) node.classList.add("icl-faint");
        nodes.push(node);
      });
    }
    if (state.read > 0) nodes.push(svg("circle", { class: "icl-past icl-hollow", cx: place(trace.increments[state.read - 1], state.read - 1)[0], cy: place(trace.increments[state.read - 1], state.read - 1)[1], r: 7.5 }));
    drawings.steps.replaceChildren(
      svg("text", { class: "icl-axis", x: (area.left + area.right) / 2, y: area.bottom + 33, "text-anchor": "middle" }, "token i, logarithmic"),
      svg("text", { class: "icl-axis", x: area.left, y: area.top - 10 }, "|Wᵢ − Wᵢ₋₁|, logarithmic"), ...nodes);
    notes.steps.textContent = incrementSentence(state, solution);
    drawings.steps.setAttribute("aria-label", `How far each token moves W, on logarithmic axes. ${notes.steps.textContent}`);
  }

  function drawWay() {
    const trace = solution[state.weights];
    const ghost = solution.drawn && state.path === "additive" ? solution.drawn.along : [];
    const all = [...trace.along, ...ghost];
    const [lows, highs] = [Math.min, Math.max].map((pick) => [0, 1].map((k) => pick(...all.map((point) => point[k]))));
    const area = frame(drawings.way, 0.72);
    const half = 0.56 * Math.max((highs[0] - lows[0]) / (area.right - area.left), (highs[1] - lows[1]) / (area.bottom - area.top), 1e-9);
    const center = [0, 1].map((k) => (lows[k] + highs[k]) / 2);
    const [wide, tall] = [half * (area.right - area.left), half * (area.bottom - area.top)];
    const x = linearScale(center[0] - wide, center[0] + wide, area.left, area.right);
    const y = linearScale(center[1] - tall, center[1] + tall, area.bottom, area.top);
    const place = (points) => points.map(([a, b]) => [x(a), y(b)]);
    const points = place(trace.along);
    const look = LOOKS[state.weights];
    drawings.way.replaceChildren(
      clipTo(clips.way, area), ...axes({ x, y, ...area, xName: "first coordinate of rᵢ", yName: "second coordinate", xTicks: ticks(x.low, x.high, 5), yTicks: ticks(y.low, y.high, 4) }),
      ghost.length ? svg("polyline", { class: "icl-contour", points: corners(place(ghost)) }) : null,
      svg("polyline", { class: `icl-${look} icl-faint`, points: corners(points) }), svg("polyline", { class: `icl-${look}`, points: corners(points.slice(0, state.read + 1)) }),
      ...points.slice(0, state.read + 1).map(([px, py]) => markOf(state.weights, px, py, 2.4)),
      goal(...points[EXAMPLES]), svg("circle", { class: "icl-past", cx: points[state.read][0], cy: points[state.read][1], r: 6 }),
      svg("text", { class: "icl-axis icl-strong", x: points[0][0] + 8, y: points[0][1] - 8 }, "W₀"));
    wayKey.textContent = `${state.weights === "written" ? "Written" : "Random"} weights. Ring: now; cross: after all ${EXAMPLES}${ghost.length ? "; thin line: the order as drawn" : ""}.`;
    const unit = trace.unit.map((value) => formatNumber(value, 2)).join(", ");
    notes.way.textContent = state.path === "additive"
      ? `Wᵢ − W₀ = W₀ rᵢ âᵀ: every update changes what W makes of one direction, â = A(x)/|A(x)| = (${unit}), and of no other. Only rᵢ moves.`
      : `What Wᵢ − W₀ makes of â = (${unit}), as W₀ rᵢ. Other directions change too on this path; the end of this plot is that of the additive path.`;
    drawings.way.setAttribute("aria-label", `The path of r: from (0, 0) to (${trace.along[EXAMPLES].map((value) => formatNumber(value, 2)).join(", ")}), now at (${trace.along[state.read].map((value) => formatNumber(value, 2)).join(", ")}). ${notes.way.textContent}`);
  }

  for (const name of TRAITS) model.on(`change:${name}`, redraw);
  const stop = onResize(root, redraw);
  draw();
  return () => {
    stop();
    pause();
    redraw.cancel();
    for (const name of TRAITS) model.off(`change:${name}`, redraw);
  };
}

export default { render: renderTokenPath };
