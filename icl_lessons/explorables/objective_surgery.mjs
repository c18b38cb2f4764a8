// Surgery on the inner objective: edit one layer of attention, and see which loss it descends now.
import {
  axes, button, captionAndWords, clamp, component, dragHandles, figure, fitWidth, formatNumber, handle, html,
  labelledRange, labelledSelect, legendKey, linearScale, onResize, oncePerFrame, panel, plural, roundTo, shortNumber,
  startingStates, subscript, svg, ticks, uniqueId,
} from "./parts.mjs";
import { MOST_LAYERS, OUTLIER, TRUE_WEIGHTS, contourLines, sliceOf, solveSurgery } from "./objective_surgery_math.mjs";
import { EDITS, changedSentence, lossSize, some, surgeryCaption, surgeryDescription, valueFormula } from "./objective_surgery_words.mjs";

const TRAITS = ["objective", "step_size", "layers", "ridge", "delta", "outlier_weight", "forgotten", "metric", "outlier", "row"];
const WINDOW = { x: [-1.8, 2.4], y: [-1.6, 2.2] }; // of the map of weights
const REACH = 3.2; // of the plane of targets
const FARTHEST = 3; // of the outlier
const VALUES = 4.5; // of the plot of the value map
const VALUE_MAPS = ["huber", "absolute", "cosine"]; // the edits that change it

const START = {
  objective: "huber", step_size: 0.4, layers: 12, ridge: 0.5, delta: 0.5, outlier_weight: 0.1, forgotten: 2, metric: 1, outlier: [-2.5, 2.5], row: 1,
};
const ON_THE_TASK = [1.41, -1.08]; // where the outlier is none
const PRESETS = {
  huber: ["One outlier, Huber's loss", START],
  squared: ["One outlier, squared loss", { ...START, objective: "squared" }],
  weighted: ["One outlier, its key times 0", { ...START, objective: "weighted", outlier_weight: 0 }],
  cosine: ["Cosine: a high score, a wrong answer", { ...START, objective: "cosine", step_size: 0.6, layers: 40, outlier: ON_THE_TASK }],
  flipped: ["The sign flipped", { ...START, objective: "sign_flipped", layers: 4, outlier: ON_THE_TASK }],
  forget: ["A feature forgotten", { ...START, objective: "forget", outlier: ON_THE_TASK }],
  metric: ["Γ = S⁻¹: one layer", { ...START, objective: "metric", step_size: 1, layers: 1, outlier: ON_THE_TASK }],
};

const readSurgery = (model) => ({
  objective: model.get("objective"), stepSize: model.get("step_size"), layers: model.get("layers"), ridge: model.get("ridge"), delta: model.get("delta"),
  outlierWeight: model.get("outlier_weight"), forgotten: model.get("forgotten"), metric: model.get("metric"), outlier: model.get("outlier"), row: model.get("row"),
});

const diamond = (x, y, r, name) => svg("path", { class: name, d: `M${x} ${y - r} L${x + r} ${y} L${x} ${y + r} L${x - r} ${y} Z` });
const cross = (x, y, name = "icl-goal") => svg("path", { class: name, d: `M${x - 7} ${y} H${x + 7} M${x} ${y - 7} V${y + 7}` });
const points = (list) => list.map(([x, y]) => `${x.toFixed(1)},${y.toFixed(1)}`).join(" ");

/** An arrow with its head, or nothing where it is too short to have one. */
function arrow(x, y, toX, toY) {
  const length = Math.hypot(toX - x, toY - y);
  if (length < 1) return svg("g", {});
  const [ux, uy] = [(toX - x) / length, (toY - y) / length];
  const head = Math.min(8, 0.6 * length);
  const wing = (side) => `${(toX - head * ux + side * 0.45 * head * uy).toFixed(1)} ${(toY - head * uy - side * 0.45 * head * ux).toFixed(1)}`;
  return svg("path", { class: "icl-pull", d: `M${x.toFixed(1)} ${y.toFixed(1)} L${toX.toFixed(1)} ${toY.toFixed(1)} M${wing(1)} L${toX.toFixed(1)} ${toY.toFixed(1)} L${wing(-1)}` });
}

function renderSurgery({ model, el }) {
  let state = readSurgery(model);
  let solution = solveSurgery(state);
  let playing = 0;
  const [mapClip, planeClip, valueClip] = [uniqueId("clip"), uniqueId("clip"), uniqueId("clip")];
  const telling = captionAndWords();
  const redraw = oncePerFrame(draw);
  function change(values) {
    for (const [name, value] of Object.entries(values)) model.set(name, value);
    model.save_changes();
    redraw();
  }

  // ---- controls
  const starts = startingStates({ model, traits: TRAITS, presets: PRESETS, apply: (values) => { pause(); change(values); } });
  const range = (label, name, min, max, step, format = (value) => formatNumber(value, 2)) =>
    labelledRange({ label, min, max, step, format, oninput: (value) => { pause(); change({ [name]: value }); } });
  const edit = labelledSelect({ label: "The edit", options: Object.entries(EDITS), onchange: (objective) => change({ objective }) });
  const stepSize = range("Step size η", "step_size", 0, 1.5, 0.05);
  const layers = range("Layers", "layers", 0, MOST_LAYERS, 1, String);
  const settings = {
    ridge: range("Leak λ", "ridge", 0, 2, 0.05), huber: range("Clip at δ", "delta", 0.05, 4, 0.05),
    weighted: range("Outlier's key times", "outlier_weight", 0, 3, 0.05), metric: range("From I to S⁻¹", "metric", 0, 1, 0.05),
    forget: labelledSelect({ label: "The feature to forget", options: [["1", "x₁"], ["2", "x₂"]], onchange: (value) => change({ forgotten: Number(value) }) }),
  };
  const still = window.matchMedia?.("(prefers-reduced-motion: reduce)");
  const play = button("Play", () => {
    if (playing) return pause();
    const from = state.layers >= MOST_LAYERS ? 0 : state.layers;
    if (still?.matches) return change({ layers: MOST_LAYERS });
    telling.says.setAttribute("aria-busy", "true");
    play.textContent = "Pause";
    change({ layers: from });
    playing = setInterval(() => {
      const next = model.get("layers") + 1;
      if (next <= MOST_LAYERS) change({ layers: next });
      if (next >= MOST_LAYERS) pause();
    }, 220);
    return undefined;
  });
  function pause() {
    clearInterval(playing);
    playing = 0;
    play.textContent = "Play";
    telling.says.removeAttribute("aria-busy");
  }
  const one = button("One layer", () => { pause(); change({ layers: Math.min(model.get("layers") + 1, MOST_LAYERS) }); });
  const back = button("To layer 0", () => { pause(); change({ layers: 0 }); });

  // ---- numbers
  const tile = (name) => {
    const [value, note] = [html("span", { class: "icl-tile-value" }), html("span", { class: "icl-tile-note" })];
    return { el: html("div", { class: "icl-tile" }, html("span", { class: "icl-tile-name" }, name), value, note), value, note };
  };
  const tiles = { loss: tile("Inner loss"), error: tile("Error on the true task"), plain: tile("That error without the edit") };

  // ---- the panels
  const parts = html("div", {});
  const partsNote = html("p", { class: "icl-note" });
  const map = svg("svg", { class: "icl-plot", role: "img" });
  const mapNote = html("p", { class: "icl-note" });
  const row = labelledSelect({ label: "Weights of", options: [["1", "the first target, y₁"], ["2", "the second target, y₂"]], onchange: (value) => change({ row: Number(value) }) });
  const curve = svg("svg", { class: "icl-plot", role: "img" });
  const curveNote = html("p", { class: "icl-note" });
  const plane = svg("svg", { class: "icl-plot", role: "group", "aria-label": "The plane of targets" });
  const planeBack = svg("g", { "aria-hidden": "true" });
  let toX = linearScale(-REACH, REACH, 0, 1);
  let toY = linearScale(-REACH, REACH, 1, 0);
  const outlier = handle({
    label: "The outlier's target", shapes: [diamond(0, 0, 8, "icl-outlier")], position: () => state.outlier,
    move: (to) => {
      change({ outlier: to.map((value) => clamp(roundTo(value, 2), -FARTHEST, FARTHEST)) });
      state = readSurgery(model);
    },
    step: 0.1, fineStep: 0.01,
  });
  plane.append(planeBack, svg("g", {}, outlier.el));
  dragHandles({
    surface: plane, handles: () => [outlier], says: telling.says,
    toPixels: (held) => { const [x, y] = held.position(); return [toX(x), toY(y)]; },
    toData: (px, py) => [toX.invert(px), toY.invert(py)],
  });
  const planeNote = html("p", { class: "icl-note" });
  const history = { losses: svg("svg", { class: "icl-plot", role: "img" }), errors: svg("svg", { class: "icl-plot", role: "img" }) };
  const lines = { edited: svg("line", { class: "icl-edited", x1: 1, x2: 33, y1: 9, y2: 9 }), plain: svg("line", { class: "icl-plain", x1: 1, x2: 33, y1: 9, y2: 9 }) };
  const lineKey = (name, text) => legendKey(34, lines[name].cloneNode(), text);

  const root = component("icl-surgery icl-mesa", "Explorable: surgery on the inner objective",
    starts.el,
    html("div", { class: "icl-controls icl-thirds" }, edit.el, stepSize.el, layers.el, ...Object.values(settings).map((one) => one.el)),
    html("div", { class: "icl-bar icl-tight" }, play, one, back),
    html("div", { class: "icl-tiles icl-spaced" }, tiles.loss.el, tiles.error.el, tiles.plain.el),
    html("div", { class: "icl-panels" },
      panel("The layer, and what the edit changed", parts, partsNote, figure(curve), html("ul", { class: "icl-legend" },
        legendKey(34, lines.edited.cloneNode(), "v"), lineKey("plain", "without the edit"), legendKey(18, svg("circle", { class: "icl-dot", cx: 9, cy: 9, r: 5 }), "examples"),
        legendKey(18, diamond(9, 9, 7, "icl-outlier"), "outlier")), curveNote),
      panel("The path of the weights on the inner loss", row.el, figure(map), html("ul", { class: "icl-legend" },
        lineKey("edited", "with the edit"), lineKey("plain", "without"), legendKey(18, cross(9, 9), "true task")), mapNote),
      panel("Predictions, targets, and their pulls", figure(plane), html("ul", { class: "icl-legend" },
        legendKey(18, svg("circle", { class: "icl-dot", cx: 9, cy: 9, r: 5 }), "prediction"), legendKey(18, svg("circle", { class: "icl-example", cx: 9, cy: 9, r: 5 }), "target"),
        legendKey(18, diamond(9, 9, 7, "icl-outlier"), "outlier's target, drag it"), legendKey(30, arrow(2, 9, 28, 9), "its pull, c·v")), planeNote),
      panel("Inner loss, and error on the true task", figure(history.losses), figure(history.errors),
        html("p", { class: "icl-note" }, "Error: ½ E|W x − W* x|² for x ~ N(0, I). Lines as above, the layers without the edit dashed."))),
    ...telling.nodes);
  el.append(root);

  function draw() {
    state = readSurgery(model);
    solution = solveSurgery(state);
    drawControls();
    drawParts();
    drawMap();
    drawCurve();
    drawPlane();
    drawHistory("losses", "inner loss", [["edited", solution.losses]]);
    drawHistory("errors", "error on the true task", [["plain", solution.plainErrors], ["edited", solution.errors]]);
    telling.tell(surgeryCaption(state, solution), surgeryDescription(state, solution));
    const { weights, attention, losses, errors, plainErrors, layer, changed, values, predictions, targets, difference } = solution;
    root.dataset.solution = JSON.stringify({ weights, attention, losses, errors, plainErrors, layer, changed, values, predictions, targets, difference });
  }

  function drawControls() {
    edit.input.value = state.objective;
    stepSize.set(state.stepSize);
    layers.set(state.layers);
    row.input.value = String(state.row);
    settings.ridge.set(state.ridge);
    settings.huber.set(state.delta);
    settings.weighted.set(state.outlierWeight);
    settings.metric.set(state.metric);
    settings.forget.input.value = String(state.forgotten);
    for (const [name, setting] of Object.entries(settings)) setting.el.hidden = name !== state.objective;
    one.disabled = state.layers >= MOST_LAYERS;
    back.disabled = state.layers === 0;
    const { losses, errors, plainErrors } = solution;
    for (const [part, list] of [[tiles.loss, losses], [tiles.error, errors], [tiles.plain, plainErrors]]) {
      part.value.textContent = lossSize(list[state.layers]);
      part.note.textContent = `after ${plural(state.layers, "layer")}; ${lossSize(list[0])} before`;
    }
    starts.show();
  }

  function drawParts() {
    const { layer, changed } = solution;
    const table = (name, rows, marks, heads, sides) => html("table", { class: `icl-matrix${sides ? "" : " icl-rows"}` },
      html("caption", {}, some(marks) ? `${name}: changed` : name),
      html("thead", {}, html("tr", {}, sides ? html("td", {}) : null, ...heads.map((head) => html("th", { scope: "col" }, head)))),
      html("tbody", {}, ...rows.map((values, a) => html("tr", {}, sides ? html("th", { scope: "row" }, sides[a]) : null,
        ...values.map((value, b) => html("td", { class: marks[a][b] ? "icl-changed" : value === 0 ? "icl-zero" : "" }, shortNumber(value, 3)))))));
    parts.replaceChildren(
      html("p", { class: "icl-formula" }, "p ← keep · p + P Σᵢ cᵢ vᵢ (xᵢᵀ Γ x)"),
      html("div", { class: "icl-pair" },
        table("Γ", layer.gamma, changed.gamma, ["x₁", "x₂"], ["x₁", "x₂"]),
        table("P, v → p", layer.projection, changed.projection, ["v₁", "v₂"], ["p₁", "p₂"]),
        table("keep", layer.keep, changed.keep, ["p₁", "p₂"], ["p₁", "p₂"])),
      table("c, on the keys", [layer.keyWeights], [changed.keyWeights], ["1", "2", "3", "4", "5", "6", "7", "outlier"], null),
      html("p", { class: `icl-formula${VALUE_MAPS.includes(state.objective) ? " icl-changed" : ""}` },
        `Value map${VALUE_MAPS.includes(state.objective) ? " changed" : ""}: ${valueFormula(state)}`));
    partsNote.textContent = changedSentence(state, solution);
  }

  function drawMap() {
    const { width, height } = fitWidth(map, (wide) => 64 + ((wide - 48) * (WINDOW.y[1] - WINDOW.y[0])) / (WINDOW.x[1] - WINDOW.x[0]));
    const area = { left: 40, right: width - 8, top: 24, bottom: height - 40 };
    const x = linearScale(...WINDOW.x, area.left, area.right);
    const y = linearScale(...WINDOW.y, area.bottom, area.top);
    const a = state.row - 1;
    const now = solution.weights[state.layers];
    const slice = sliceOf(state, now, a, WINDOW.x, WINDOW.y);
    const contours = contourLines(slice.xs, slice.ys, slice.values, slice.levels).map((segments) => svg("path", {
      class: "icl-contour", d: segments.map(([x1, y1, x2, y2]) => `M${x(x1).toFixed(1)} ${y(y1).toFixed(1)}L${x(x2).toFixed(1)} ${y(y2).toFixed(1)}`).join(""),
    }));
    const place = (W) => [clamp(x(W[a][0]), -1e4, 1e4), clamp(y(W[a][1]), -1e4, 1e4)];
    const [path, plain] = [solution.weights, solution.plain].map((list) => list.slice(0, state.layers + 1).map(place));
    const [px, py] = path[state.layers];
    map.replaceChildren(
      svg("clipPath", { id: mapClip }, svg("rect", { x: area.left, y: area.top, width: area.right - area.left, height: area.bottom - area.top })),
      ...axes({ x, y, ...area, xName: `weight of x₁ for y${subscript(state.row)}`, yName: `weight of x₂ for y${subscript(state.row)}`, xTicks: [-1, 0, 1, 2], yTicks: [-1, 0, 1, 2] }),
      svg("g", { "clip-path": `url(#${mapClip})` }, ...contours,
        svg("polyline", { class: "icl-plain", points: points(plain) }),
        ...plain.map(([cx, cy]) => svg("rect", { class: "icl-plain-mark", x: cx - 2.5, y: cy - 2.5, width: 5, height: 5 })),
        svg("polyline", { class: "icl-edited", points: points(path) }), ...path.map(([cx, cy]) => svg("circle", { class: "icl-dot", cx, cy, r: 3 })),
        svg("circle", { class: "icl-past", cx: px, cy: py, r: 6.5 }), cross(x(TRUE_WEIGHTS[a][0]), y(TRUE_WEIGHTS[a][1]))));
    const gone = solution.weights.slice(0, state.layers + 1).findIndex((W) => W[a][0] < WINDOW.x[0] || W[a][0] > WINDOW.x[1] || W[a][1] < WINDOW.y[0] || W[a][1] > WINDOW.y[1]);
    mapNote.textContent = `Contours of the inner loss, equal areas between them; the other row of W is held where it is now.${gone >= 0 ? ` The path leaves the plot at layer ${gone}.` : ""}`;
    map.setAttribute("aria-label", `Row ${state.row} of W over contours of the inner loss. It is at ${formatNumber(now[a][0], 2)}, ${formatNumber(now[a][1], 2)} after `
      + `${plural(state.layers, "layer")}; the true task is at ${formatNumber(TRUE_WEIGHTS[a][0], 2)}, ${formatNumber(TRUE_WEIGHTS[a][1], 2)}. ${mapNote.textContent}`);
  }

  function drawCurve() {
    const { width, height } = fitWidth(curve, (wide) => clamp(0.72 * wide, 240, 330));
    const area = { left: 40, right: width - 12, top: 24, bottom: height - 40 };
    const turning = state.objective === "cosine";
    const [wide, tall] = turning ? [180, 1.3] : [VALUES, VALUES];
    const x = linearScale(-wide, wide, area.left, area.right);
    const y = linearScale(-tall, tall, area.bottom, area.top);
    const a = state.row - 1;
    const one = (r) => (state.objective === "huber" ? clamp(r, -state.delta, state.delta) : state.objective === "absolute" ? Math.sign(r) : r);
    const along = [...Array(181).keys()].map((i) => -wide + (2 * wide * i) / 180);
    const line = turning ? along.map((angle) => [x(angle), y(Math.sin((angle * Math.PI) / 180))])
      : state.objective === "absolute" ? [[x(-wide), y(-1)], [x(0), y(-1)], [x(0), y(1)], [x(wide), y(1)]] : along.map((r) => [x(r), y(one(r))]);
    const dots = solution.predictions.map((p, i) => {
      const [target, v] = [solution.targets[i], solution.values[i]];
      const turn = Math.atan2(p[0] * target[1] - p[1] * target[0], p[0] * target[0] + p[1] * target[1]);
      return turning ? [(turn * 180) / Math.PI, p[0] * v[1] - p[1] * v[0]] : [target[a] - p[a], v[a]];
    });
    curve.replaceChildren(
      svg("clipPath", { id: valueClip }, svg("rect", { x: area.left, y: area.top, width: area.right - area.left, height: area.bottom - area.top })),
      ...axes({ x, y, ...area, xName: turning ? "angle from p to y, degrees" : `residual y${subscript(state.row)} − p${subscript(state.row)}`,
        yName: turning ? "value map: |p| times v, across p" : `value map: v${subscript(state.row)}`, xTicks: turning ? [-180, -90, 0, 90, 180] : [-4, -2, 0, 2, 4], yTicks: turning ? [-1, 0, 1] : [-4, -2, 0, 2, 4] }),
      svg("g", { "clip-path": `url(#${valueClip})` },
        turning ? null : svg("line", { class: "icl-plain", x1: x(-wide), y1: y(-wide), x2: x(wide), y2: y(wide) }),
        svg("polyline", { class: "icl-edited", points: points(line) }),
        ...dots.map(([r, v], i) => (i === OUTLIER ? diamond(clamp(x(r), -99, 9999), clamp(y(v), -99, 9999), 7, "icl-outlier")
          : svg("circle", { class: "icl-dot", cx: clamp(x(r), -99, 9999), cy: clamp(y(v), -99, 9999), r: 4.5 })))));
    const [r, v] = dots[OUTLIER];
    curveNote.textContent = turning ? `The outlier's target is ${formatNumber(Math.abs(r), 0)}° away; a target of any length would pull as hard.`
      : `The outlier's residual is ${formatNumber(r, 2)}, and it writes ${formatNumber(v, 2)}.`
        + (VALUE_MAPS.includes(state.objective) ? "" : " This edit leaves the value map as it was.");
    curve.setAttribute("aria-label", `The value map: ${valueFormula(state)}. ${curveNote.textContent}`);
  }

  function drawPlane() {
    const { width, height } = fitWidth(plane, (wide) => Math.min(wide, 400));
    const side = Math.min(width - 40, height - 64);
    const area = { left: (width - side) / 2 + 12, right: (width + side) / 2 + 12, top: 24, bottom: 24 + side };
    toX = linearScale(-REACH, REACH, area.left, area.right);
    toY = linearScale(-REACH, REACH, area.bottom, area.top);
    const place = ([x, y]) => [clamp(toX(x), -1e4, 1e4), clamp(toY(y), -1e4, 1e4)];
    const { predictions, targets, pulls } = solution;
    planeBack.replaceChildren(
      svg("clipPath", { id: planeClip }, svg("rect", { x: area.left, y: area.top, width: side, height: side })),
      ...axes({ x: toX, y: toY, ...area, xName: "first target, y₁", yName: "second target, y₂", xTicks: [-3, -2, -1, 0, 1, 2, 3], yTicks: [-3, -2, -1, 0, 1, 2, 3] }),
      svg("g", { "clip-path": `url(#${planeClip})` },
        ...targets.map((y, i) => (i === OUTLIER ? null : svg("circle", { class: "icl-example", cx: place(y)[0], cy: place(y)[1], r: 4.5 }))).filter(Boolean),
        ...predictions.map((p, i) => arrow(...place(p), ...place(p.map((value, a) => value + pulls[i][a])))),
        ...predictions.map((p, i) => svg("circle", { class: i === OUTLIER ? "icl-past" : "icl-dot", cx: place(p)[0], cy: place(p)[1], r: 4.5 }))));
    outlier.place(...place(state.outlier), {
      text: `${formatNumber(state.outlier[0], 2)}, ${formatNumber(state.outlier[1], 2)}`, now: state.outlier[1], low: -FARTHEST, high: FARTHEST,
    });
    planeNote.textContent = "The next layer adds η/N times these pulls, shared out by the scores xᵢᵀΓx. The ring is the outlier's prediction. Drag its target, or focus it and use the arrow keys; "
      + "on the true task it lies at (1.41, −1.08).";
  }

  function drawHistory(which, yName, drawn) {
    const figureOf = history[which];
    const { width, height } = fitWidth(figureOf, (wide) => clamp(0.52 * wide, 190, 240));
    const shown = drawn.map(([name, list]) => [name, list.slice(0, state.layers + 1)]);
    const all = shown.flatMap(([, list]) => list);
    const [least, most] = [Math.min(0, ...all), Math.max(0, ...all)];
    const high = most > least ? most + 0.06 * (most - least) : 1;
    const area = { left: 62, right: width - 12, top: 26, bottom: height - 40 };
    const x = linearScale(0, Math.max(state.layers, 10), area.left, area.right);
    const y = linearScale(least, high, area.bottom, area.top);
    const names = ticks(least, high, 4);
    figureOf.replaceChildren(
      ...axes({ x, y, ...area, xName: "layer", yName, yTicks: [], xTicks: ticks(0, Math.max(state.layers, 10), 5).filter(Number.isInteger) }),
      ...names.flatMap((value) => [svg("line", { class: "icl-grid", x1: area.left, x2: area.right, y1: y(value), y2: y(value) }),
        svg("text", { class: "icl-tick", x: area.left - 6, y: y(value) + 4, "text-anchor": "end" }, Math.abs(value) >= 1e4 ? value.toExponential(0).replace("e+", "e").replace("-", "−") : shortNumber(value, 2))]),
      ...shown.flatMap(([name, list]) => [
        svg("polyline", { class: `icl-${name}`, points: points(list.map((value, k) => [x(k), y(value)])) }),
        ...list.map((value, k) => (name === "plain" ? svg("rect", { class: "icl-plain-mark", x: x(k) - 2.2, y: y(value) - 2.2, width: 4.4, height: 4.4 })
          : svg("circle", { class: "icl-dot", cx: x(k), cy: y(value), r: 3 })))]));
    figureOf.setAttribute("aria-label", `${yName} after each layer. ${shown.map(([name, list]) => `${name === "plain" ? "Without the edit" : "With the edit"}: ${list.map(lossSize).join(", ")}.`).join(" ")}`);
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

export default { render: renderSurgery };
