// How training finds it: linear attention trained live, with merged and with separate keys and queries.
import {
  axes, button, captionAndWords, clamp, component, figure, fitWidth, formatNumber, html, labelledRange, labelledSelect,
  legendKey, linearScale, onResize, oncePerFrame, panel, roundTo, shortNumber, startingStates, subscript, svg, ticks, uniqueId,
} from "./parts.mjs";
import { D, KINDS, MOST_HEADS, MOST_RANK, lossOf, productAt, sharesOf, solvePlateaus } from "./training_plateaus_math.mjs";
import { NAMES, entryText, lossText, momentSentence, nearestPlateau, plateauCaption, plateauDescription, reducedSentence, timeText } from "./training_plateaus_words.mjs";

const TRAITS = ["eigenvalues", "start", "examples", "heads", "rank", "seed", "time", "shown", "time_axis"];
const SMALLEST = 0.002; // start
const upTo = (count) => [...Array(count).keys()];

/** Four variances in even steps that sum to 1, the largest `ratio` times the smallest. */
const spectrum = (ratio) => upTo(D).map((i) => roundTo((ratio - ((ratio - 1) * i) / (D - 1)) / (D * (ratio + 1) / 2), 6));

const START = { eigenvalues: [0.4, 0.3, 0.2, 0.1], start: 0.01, examples: 31, heads: 5, rank: 1, seed: 0, time: 1060, shown: "separate", time_axis: "log" };
const PRESETS = {
  stairs: ["One drop against four", START],
  small: ["A start five times smaller", { ...START, start: 0.002, time: 5300 }],
  large: ["A large start", { ...START, start: 0.5, time: 5 }],
  white: ["Equal variances", { ...START, eigenvalues: spectrum(1), time: 1250 }],
  steep: ["Steep variances", { ...START, eigenvalues: spectrum(8), time: 5000 }],
  rank: ["Rank 2: two drops a head", { ...START, start: 0.002, rank: 2, time: 2600, time_axis: "linear" }],
  few: ["Three heads of rank 1", { ...START, heads: 3, time: 3300 }],
  short: ["One example a context", { ...START, examples: 1 }],
};

const readPlateaus = (model) => ({
  eigenvalues: model.get("eigenvalues"), size: model.get("start"), examples: model.get("examples"), heads: model.get("heads"), rank: model.get("rank"),
  seed: model.get("seed"), time: model.get("time"), shown: model.get("shown"), axis: model.get("time_axis"),
});

/** Points that differ by less than half a pixel are drawn once. */
function line(name, list) {
  const kept = list.filter(([x, y], i) => i === 0 || i === list.length - 1 || Math.abs(x - list[i - 1][0]) + Math.abs(y - list[i - 1][1]) > 0.02);
  return svg("polyline", { class: name, points: kept.map(([x, y]) => `${x.toFixed(1)},${y.toFixed(1)}`).join(" ") });
}

const square = (x, y) => svg("rect", { class: "icl-plain-mark", x: x - 3, y: y - 3, width: 6, height: 6 });
const lambdaName = (d) => `λ${subscript(d + 1)}`;

function renderPlateaus({ model, el }) {
  let [state, solution, solvedFor, playing, products] = [null, null, "", 0, null];
  const [lossClip, shareClip] = [uniqueId("clip"), uniqueId("clip")];
  const telling = captionAndWords();
  const redraw = oncePerFrame(draw);
  function change(values) {
    for (const [name, value] of Object.entries(values)) model.set(name, value);
    model.save_changes();
    redraw();
  }

  // ---- controls
  const starts = startingStates({ model, traits: TRAITS, presets: PRESETS, apply: (values) => { pause(); change(values); } });
  const slider = (label, min, max, step, format, values) => labelledRange({ label, min, max, step, format, oninput: (value) => { pause(); change(values(value)); } });
  const ratio = slider("Largest over smallest variance", 1, 8, 0.25, (value) => shortNumber(value, 2), (value) => ({ eigenvalues: spectrum(value) }));
  const size = slider("Size of the start", Math.log10(SMALLEST), 0, 0.05, (value) => shortNumber(10 ** value, value < -1 ? 4 : 2), (value) => ({ start: clamp(roundTo(10 ** value, 6), SMALLEST, 1) }));
  const examples = slider("Examples, N", 1, 200, 1, String, (value) => ({ examples: value }));
  const heads = slider("Heads", 1, MOST_HEADS, 1, String, (value) => ({ heads: value }));
  const rank = slider("Rank of separate heads", 1, MOST_RANK, 1, String, (value) => ({ rank: value }));
  const another = button("Another random start", () => { pause(); change({ seed: (model.get("seed") + 1) % 1000 }); });
  const variances = upTo(D).map((d) => slider(`Variance ${lambdaName(d)}`, 0.05, 1, 0.05, (value) => shortNumber(value, 3),
    (value) => ({ eigenvalues: state.eigenvalues.map((old, i) => (i === d ? roundTo(value, 6) : old)) })));
  const own = html("details", { class: "icl-details" }, html("summary", {}, "Set the four variances one by one"), html("div", { class: "icl-controls" }, ...variances.map((one) => one.el)));

  // ---- the moment
  let clock = { at: () => 0, invert: () => 0 }; // from time to 0..1 along the axis, and back
  const moment = slider("Moment", 0, 1, 0.005, (value) => `${timeText(clock.invert(value))} τ`, (value) => ({ time: roundTo(clock.invert(value), 6) }));
  const still = window.matchMedia?.("(prefers-reduced-motion: reduce)");
  const play = button("Play", () => {
    if (playing) return pause();
    if (still?.matches) return change({ time: roundTo(solution.horizon, 6) });
    let part = clock.at(state.time) > 0.99 ? 0 : clock.at(state.time);
    telling.says.setAttribute("aria-busy", "true");
    play.textContent = "Pause";
    playing = setInterval(() => {
      part = Math.min(1, part + 0.01);
      change({ time: roundTo(clock.invert(part), 6) });
      if (part >= 1) pause();
    }, 60);
    return undefined;
  });
  function pause() {
    clearInterval(playing);
    playing = 0;
    play.textContent = "Play";
    telling.says.removeAttribute("aria-busy");
  }
  const axis = labelledSelect({ label: "Time axis", options: [["log", "logarithmic"], ["linear", "linear"]], onchange: (value) => change({ time_axis: value }) });
  const shown = labelledSelect({ label: "Directions of", options: [["separate", NAMES.separate], ["merged", NAMES.merged]], onchange: (value) => change({ shown: value }) });

  // ---- numbers and panels
  const tile = (name) => {
    const [value, note] = [html("span", { class: "icl-tile-value" }), html("span", { class: "icl-tile-note" })];
    return { el: html("div", { class: "icl-tile" }, html("span", { class: "icl-tile-name" }, name), value, note), value, note };
  };
  const tiles = { merged: tile("Merged key-query: drops"), separate: tile("Separate: drops"), loss: tile("Separate's loss at the moment") };
  const drawings = Object.fromEntries(["losses", "shares", "bars"].map((name) => [name, svg("svg", { class: "icl-plot", role: "img" })]));
  const notes = Object.fromEntries(["losses", "shares", "bars", "table"].map((name) => [name, html("p", { class: "icl-note" })]));
  const table = html("table", { class: "icl-matrix icl-rows" });
  const stroke = (name) => svg("line", { class: name, x1: 1, x2: 33, y1: 9, y2: 9 });
  const root = component("icl-plateaus", "Explorable: the plateaus of training",
    starts.el,
    html("div", { class: "icl-controls icl-thirds" }, ratio.el, size.el, examples.el, heads.el, rank.el, html("div", { class: "icl-bar icl-tight" }, another)),
    own,
    html("div", { class: "icl-tiles icl-spaced" }, tiles.merged.el, tiles.separate.el, tiles.loss.el),
    html("div", { class: "icl-panels" },
      html("div", { class: "icl-whole" }, panel("The loss while it trains", figure(drawings.losses), html("ul", { class: "icl-legend" },
        legendKey(34, svg("g", {}, stroke("icl-merged"), square(17, 9)), "merged key-query"), legendKey(34, stroke("icl-separate"), "separate keys and queries"),
        legendKey(34, stroke("icl-reduced"), "reduced equations"), legendKey(34, stroke("icl-plateau"), "theory's plateaus")),
      html("div", { class: "icl-moment" }, moment.el, html("div", { class: "icl-bar icl-tight" }, play, axis.el)), notes.losses)),
      panel("Which direction is learned when", shown.el, figure(drawings.shares), notes.shares),
      panel("The predictor at the moment: the diagonal of M", figure(drawings.bars), html("ul", { class: "icl-legend" },
        legendKey(26, svg("rect", { class: "icl-strength", x: 3, y: 4, width: 20, height: 12 }), "now"), legendKey(26, svg("line", { class: "icl-target", x1: 2, x2: 24, y1: 9, y2: 9 }), "best M, ρ/λ")), notes.bars),
      html("div", { class: "icl-whole" }, panel("Drop by drop", table, notes.table))),
    ...telling.nodes);
  el.append(root);

  function solve() {
    state = readPlateaus(model);
    const { time, shown: side, axis: scale, ...settings } = state;
    const key = JSON.stringify(settings);
    if (key !== solvedFor) [solution, solvedFor] = [solvePlateaus(settings), key];
    const { runs, horizon } = solution;
    state.time = Math.min(state.time, horizon);
    products = Object.fromEntries(KINDS.map((kind) => [kind, productAt(runs[kind], state.time)]));
    const begun = Math.min(...KINDS.map((kind) => {
      const { losses, times } = runs[kind];
      return times[losses.findIndex((loss) => Math.abs(loss - losses[0]) > 0.01 * solution.plateaus[0])];
    }));
    const low = 10 ** Math.floor(Math.log10(0.7 * begun));
    const far = Math.log(horizon / low);
    clock = scale === "linear" ? { low: 0, at: (t) => t / horizon, invert: (part) => part * horizon }
      : { low, at: (t) => clamp(Math.log(Math.max(t, low) / low) / far, 0, 1), invert: (part) => (part <= 0 ? 0 : low * Math.exp(part * far)) };
  }

  function draw() {
    solve();
    ratio.set(Math.max(...state.eigenvalues) / Math.min(...state.eigenvalues));
    size.set(Math.log10(state.size));
    examples.set(state.examples);
    heads.set(state.heads);
    rank.set(state.rank);
    variances.forEach((one, d) => one.set(state.eigenvalues[d]));
    axis.input.value = state.axis;
    shown.input.value = state.shown;
    moment.set(clock.at(state.time));
    const spoken = `${timeText(state.time)} τ`;
    moment.el.querySelector("output").textContent = spoken;
    moment.input.setAttribute("aria-valuetext", spoken);
    for (const kind of KINDS) {
      const list = solution.drops[kind];
      tiles[kind].value.textContent = String(list.length);
      tiles[kind].note.textContent = `at ${list.map(({ time }) => timeText(time)).join(", ")} τ`;
    }
    const losses = Object.fromEntries(KINDS.map((kind) => [kind, lossOf(state, products[kind])]));
    tiles.loss.value.textContent = lossText(losses.separate);
    tiles.loss.note.textContent = `at ${timeText(state.time)} τ; merged ${lossText(losses.merged)}`;
    starts.show();
    drawLosses(losses);
    drawShares();
    drawBars();
    drawTable();
    telling.tell(plateauCaption(state, solution, products[state.shown]), plateauDescription(state, solution, products));
    const { horizon, drops, plateaus, halfTimes, expectedTimes, distance } = solution;
    const ends = Object.fromEntries(KINDS.map((kind) => [kind, { steps: solution.runs[kind].times.length, loss: solution.runs[kind].losses.at(-1) }]));
    root.dataset.solution = JSON.stringify({
      horizon, drops, plateaus, halfTimes, expectedTimes, distance, losses, ends, products: Object.fromEntries(KINDS.map((kind) => [kind, [...products[kind]]])),
    });
  }

  /** Axes with time along them, and the line of the moment. */
  function timeFrame(drawing, tall, top, bottom, yName, yTicks, right) {
    const { width, height } = fitWidth(drawing, tall);
    const area = { left: 40, right: width - right, top: 26, bottom: height - 40 };
    const y = linearScale(bottom, top, area.bottom, area.top);
    const x = (time) => area.left + clock.at(time) * (area.right - area.left);
    const scale = linearScale(0, solution.horizon, area.left, area.right);
    const many = area.right - area.left > 420;
    const marks = state.axis === "linear" ? ticks(0, solution.horizon, many ? 6 : 3)
      : upTo(12).map((power) => clock.low * 10 ** power).filter((time) => time <= solution.horizon * 1.001);
    const name = (value) => (value >= 1e6 ? `${shortNumber(value / 1e6, 1)} M` : value >= 1e4 ? `${shortNumber(value / 1e3, 0)} k` : shortNumber(value, 3));
    return {
      area, x, y, nodes: [
        ...axes({ x: scale, y, ...area, xName: `time in τ${state.axis === "log" ? ", log scale" : ""}`, yName, xTicks: [], yTicks }),
        ...marks.flatMap((time) => [svg("line", { class: "icl-grid", x1: x(time), x2: x(time), y1: area.top, y2: area.bottom }),
          svg("text", { class: "icl-tick", x: x(time), y: area.bottom + 16, "text-anchor": "middle" }, name(time))]),
        svg("line", { class: "icl-query-line", x1: x(state.time), x2: x(state.time), y1: area.top, y2: area.bottom }),
      ],
    };
  }

  const clipTo = (id, { left, right, top, bottom }) => svg("clipPath", { id }, svg("rect", { x: left, y: top - 4, width: right - left, height: bottom - top + 4 }));

  function drawLosses(losses) {
    const { runs, plateaus, reduced } = solution;
    const top = 1.08 * plateaus[0];
    const { area, x, y, nodes } = timeFrame(drawings.losses, (wide) => clamp(0.5 * wide, 250, 340), top, 0, "loss, E(ŷ − y)²", ticks(0, top, 5), 50);
    const path = (list) => list.map(({ time, loss }) => [x(time), Math.max(y(loss), -50)]);
    const [merged, separate] = KINDS.map((kind) => path(runs[kind].times.map((time, i) => ({ time, loss: runs[kind].losses[i] }))));
    const spaced = merged.filter(([px], i) => i > 0 && Math.floor(px / 48) > Math.floor(merged[i - 1][0] / 48)); // a square every 48 pixels
    let free = Infinity; // the lowest place that no label of a plateau has taken
    const labels = plateaus.map((loss) => [loss, y(loss)]).reverse().filter(([, py]) => { const yes = py < free - 14; if (yes) free = py; return yes; });
    drawings.losses.replaceChildren(clipTo(lossClip, area), ...nodes,
      ...plateaus.map((loss) => svg("line", { class: "icl-plateau", x1: area.left, x2: area.right, y1: y(loss), y2: y(loss) })),
      ...labels.map(([loss, py]) => svg("text", { class: "icl-tick", x: area.right + 6, y: py + 4 }, lossText(loss))),
      svg("g", { "clip-path": `url(#${lossClip})` }, line("icl-merged", merged), ...spaced.map(([px, py]) => square(px, py)), line("icl-separate", separate),
        reduced && line("icl-reduced", path(reduced)),
        square(x(state.time), y(losses.merged)), svg("circle", { class: "icl-dot", cx: x(state.time), cy: y(losses.separate), r: 5 })));
    const high = KINDS.filter((kind) => runs[kind].losses[0] > top).map((kind) => `${kind} starts at ${formatNumber(runs[kind].losses[0], 1)}, above the plot`);
    notes.losses.textContent = `${reducedSentence(state, solution)} A drop is a fall of at least 1 % of the whole, with a pause before and after in which the loss moves less than a quarter as fast.`
      + `${high.length ? ` ${high.join("; ")}.`.replace(/^ ./, (start) => start.toUpperCase()) : ""}`;
    drawings.losses.setAttribute("aria-label", `Losses while training. Merged key-query falls to ${solution.drops.merged.map(({ loss, time }) => `${lossText(loss)} at ${timeText(time)} τ`).join(", ")}; `
      + `separate to ${solution.drops.separate.map(({ loss, time }) => `${lossText(loss)} at ${timeText(time)} τ`).join(", ")}. Theory's plateaus: ${plateaus.map(lossText).join(", ")}.`);
  }

  function drawShares() {
    const { times, products: all } = solution.runs[state.shown];
    const shares = all.map((M) => sharesOf(state, M));
    const { area, x, y, nodes } = timeFrame(drawings.shares, (wide) => clamp(0.66 * wide, 220, 290), 1.12, -0.1, "share of λ M / ρ learned", [0, 0.5, 1], 12);
    const halves = upTo(D).map((d) => times[shares.findIndex((share) => share[d] >= 0.5)] ?? null);
    const placed = [];
    const labels = upTo(D).filter((d) => halves[d] !== null).sort((a, b) => halves[a] - halves[b]).map((d) => {
      const px = Math.max(x(halves[d]), area.left + 2);
      const level = [0.5, 0.3, 0.7, 0.15].find((one) => placed.every(([qx, taken]) => taken !== one || px - qx > 30)) ?? 0.5;
      placed.push([px, level]);
      const before = (placed.length === 1 && px > area.left + 24) || px > area.right - 24; // else on the line's right
      return svg("text", { class: "icl-line-name", x: px + (before ? -5 : 5), y: y(level) + 4, "text-anchor": before ? "end" : "start" }, lambdaName(d));
    });
    drawings.shares.replaceChildren(clipTo(shareClip, area), ...nodes,
      svg("g", { "clip-path": `url(#${shareClip})` }, ...upTo(D).map((d) => line(`icl-direction icl-direction-${d + 1}`, times.map((time, i) => [x(time), clamp(y(shares[i][d]), -50, 2 * area.bottom)]))),
        ...upTo(D).map((d) => svg("circle", { class: "icl-dot", cx: x(state.time), cy: clamp(y(sharesOf(state, products[state.shown])[d]), -50, 2 * area.bottom), r: 4 }))),
      ...labels);
    const never = halves.map((time, d) => (time === null ? lambdaName(d) : null)).filter(Boolean);
    notes.shares.textContent = `Solid λ₁, long dashes λ₂, short dashes λ₃, dots λ₄; names stand where half is learned.${never.length ? ` Never: ${never.join(", ")}.` : ""}`;
    drawings.shares.setAttribute("aria-label", `Directions of the layer with ${NAMES[state.shown]}: half is learned at ${halves.map((time, d) => `${time === null ? "no time" : `${timeText(time)} τ`} for ${lambdaName(d)} = ${shortNumber(state.eigenvalues[d], 3)}`).join(", ")}.`);
  }

  function drawBars() {
    const { width, height } = fitWidth(drawings.bars, (wide) => clamp(0.66 * wide, 220, 290));
    const area = { left: 40, right: width - 8, top: 26, bottom: height - 40 };
    const M = products[state.shown];
    const values = upTo(D).map((d) => M[d * D + d]);
    const best = solution.rho.map((rho, d) => rho / state.eigenvalues[d]);
    const top = 1.18 * Math.max(...best);
    const least = -0.08 * top;
    const y = linearScale(least, top, area.bottom, area.top);
    const x = linearScale(0, D, area.left, area.right);
    drawings.bars.replaceChildren(...axes({ x, y, ...area, xName: "direction, by its variance λ", yName: "entry of M", xTicks: [], yTicks: ticks(0, top, 4) }),
      ...upTo(D).flatMap((d) => {
        const [from, to] = [clamp(y(values[d]), area.top, area.bottom), y(0)];
        const middle = (x(d) + x(d + 1)) / 2;
        const half = 0.3 * (x(1) - x(0));
        return [
          svg("rect", { class: "icl-strength", x: middle - half, y: Math.min(from, to), width: 2 * half, height: Math.abs(to - from) }),
          svg("line", { class: "icl-target", x1: middle - half - 3, x2: middle + half + 3, y1: y(best[d]), y2: y(best[d]) }),
          svg("text", { class: "icl-tick", x: middle, y: Math.min(from, y(best[d])) - 7, "text-anchor": "middle" }, entryText(values[d])),
          svg("text", { class: "icl-tick", x: middle, y: area.bottom + 16, "text-anchor": "middle" }, shortNumber(state.eigenvalues[d], 3)),
        ];
      }));
    notes.bars.textContent = `${momentSentence(state, M)} Best: ${best.map(entryText).join(", ")}.`;
    drawings.bars.setAttribute("aria-label", `The diagonal of M at ${timeText(state.time)} τ: ${values.map(entryText).join(", ")}; at its best ${best.map(entryText).join(", ")}.`);
  }

  function drawTable() {
    const row = (kind, { time, loss, head }, i) => html("tr", {}, html("th", { scope: "row" }, `${kind} ${i + 1}`),
      ...[timeText(time), lossText(loss), lossText(nearestPlateau(solution, loss)), String(head)].map((text) => html("td", {}, text)));
    table.replaceChildren(
      html("thead", {}, html("tr", {}, ...["drop", "at, in τ", "loss after", "theory", "by head"].map((name) => html("th", { scope: "col" }, name)))),
      html("tbody", {}, ...KINDS.flatMap((kind) => solution.drops[kind].map((drop, i) => row(kind, drop, i)))));
    notes.table.textContent = `“Loss after” is read where the loss is slowest before the next drop, “by head” is the head that changed most. A separate head of rank 1 that starts on its direction with v = ${shortNumber(state.size, 4)} `
      + `is half way at ${solution.expectedTimes.map((time) => timeText(time)).join(", ")} τ.`;
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

export default { render: renderPlateaus };
