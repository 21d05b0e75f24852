// Charts, as SVG in the page's own colours: bars with intervals, perplexity against length.
"use strict";

const SERIES = [
  { colour: "var(--series-1)", symbol: "circle", sign: "●", dash: null },
  { colour: "var(--series-2)", symbol: "square", sign: "■", dash: "7 3" },
  { colour: "var(--series-3)", symbol: "triangle", sign: "▲", dash: "2 3" },
  { colour: "var(--series-4)", symbol: "diamond", sign: "◆", dash: "9 3 2 3" },
  { colour: "var(--series-5)", symbol: "star", sign: "★", dash: "4 4" },
  { colour: "var(--series-6)", symbol: "cross", sign: "✚", dash: "1 2" },
];
const styleOf = (place) => SERIES[place % SERIES.length];
const number = (value) => typeof value === "number";

/** A figure whose picture is drawn again whenever its width changes. draw: width -> SVG. */
function figure(title, draw, legend = []) {
  const place = make("div", { class: "chart" });
  const entries = legend.map(({ label, sign, colour }) => {
    const mark = make("span", { "aria-hidden": "true", text: sign });
    mark.style.color = colour;
    return make("li", {}, mark, ` ${label}`);
  });
  const redraw = () => {
    const width = Math.floor(place.clientWidth);
    if (!width || width === place.drawn) return;
    place.drawn = width;
    const svg = draw(width);
    svg.querySelectorAll("style").forEach((style) => style.remove()); // the page has its own, which its policy allows
    svg.setAttribute("role", "img");
    svg.setAttribute("aria-label", `${title}; the figures are in the table below`);
    place.replaceChildren(svg);
  };
  new ResizeObserver(redraw).observe(place);
  return make("figure", {}, make("figcaption", { text: title }), entries.length > 1 ? make("ul", { class: "legend" }, ...entries) : null, place);
}

const shortened = (name, limit) => (name.length > limit ? `${name.slice(0, limit - 1)}…` : name);

/** Bars with 95 % intervals. rows: {name, label, value, ci95_low, ci95_high, reported?}; labels: the runs, in order. */
function bars(title, rows, labels) {
  const known = rows.filter((row) => number(row.value));
  const several = labels.length > 1;
  const highest = Math.max(...known.flatMap((row) => [row.value, row.ci95_high ?? 0, row.reported ?? 0]));
  const longest = Math.max(...known.map((row) => row.name.length));
  const colour = (row) => styleOf(labels.indexOf(row.label)).colour;
  const draw = (width) => {
    const limit = width < 560 ? 20 : 44;
    const y = several ? { fy: "name", y: "label" } : { y: "name" };
    const between = known.filter((row) => number(row.ci95_low));
    const names = [...new Set(known.map((row) => row.name))];
    const band = { domain: names, label: null, tickFormat: (name) => shortened(name, limit), tickSize: 0 };
    return libraries.plot({
      width,
      height: 46 + names.length * (several ? 10 + 13 * labels.length : 24),
      marginLeft: 14 + 7.4 * Math.min(limit, longest),
      marginRight: 46,
      marginBottom: 30,
      className: "plot",
      x: { domain: [0, highest <= 100 && highest > 1 ? 100 : highest * 1.05], label: null, grid: true, ticks: Math.max(3, Math.floor(width / 120)) },
      ...(several ? { fy: { ...band, padding: 0.15 }, y: { domain: labels, axis: null, padding: 0.1 } } : { y: { ...band, padding: 0.3 } }),
      marks: [
        libraries.barX(known, { ...y, x: "value", fill: colour, fillOpacity: 0.8 }),
        libraries.ruleY(between, { ...y, x1: "ci95_low", x2: "ci95_high", stroke: "currentColor", strokeWidth: 1.4 }),
        libraries.dot(known.filter((row) => number(row.reported)), { ...y, x: "reported", symbol: "diamond", r: 5, fill: "var(--panel)", stroke: "currentColor", strokeWidth: 1.6 }),
        libraries.text(known, { ...y, x: (row) => Math.max(row.value, row.ci95_high ?? 0, row.reported ?? 0), text: (row) => fixed(row.value, 1), dx: 8, textAnchor: "start" }),
      ],
    });
  };
  const legend = several ? labels.map((label, place) => ({ label, sign: "■", colour: styleOf(place).colour })) : [];
  return figure(title, draw, legend);
}

/** Headline figures in percent, with the reported ones as diamonds. */
function overviewChart(runs) {
  const counts = new Map();
  for (const run of runs) counts.set(run.benchmark, (counts.get(run.benchmark) ?? 0) + 1);
  const rows = runs.flatMap((run) => {
    const score = run.scores[0];
    if (!score || !number(score.value) || score.metric === "ppl" || score.value > 100) return [];
    return [{ ...score, label: "", name: counts.get(run.benchmark) > 1 ? `${run.benchmark}: ${run.label}` : run.benchmark }];
  });
  if (rows.length < 2) return null;
  return bars("Headline figures in percent, with 95 % intervals; ◇ is the reported figure", rows, [""]);
}

function partChart(title, runs) {
  const rows = runs.flatMap((run) =>
    (run.tables.find((one) => one.title === title)?.rows ?? []).map((row) => ({ ...row, label: run.label })),
  );
  return rows.some((row) => number(row.value)) ? bars(title, rows, runs.map((run) => run.label)) : null;
}

/** Perplexity against length: a line per configuration of each run, reported figures as hollow marks. */
function perplexityChart(runs) {
  const series = new Map();
  for (const run of runs) {
    for (const score of run.scores) {
      const [, name, length] = score.metric === "ppl" ? (/^(.*)\/seq_(\d+)$/.exec(score.name) ?? []) : [];
      if (!length || !number(score.value)) continue;
      const label = runs.length > 1 ? `${run.label}: ${name}` : name;
      if (!series.has(label)) series.set(label, []);
      series.get(label).push({ ...score, length: Number(length) });
    }
  }
  if (!series.size) return null;
  const lines = [...series].map(([label, rows], place) => ({ label, rows, ...styleOf(place) }));
  const lengths = [...new Set(lines.flatMap(({ rows }) => rows.map((row) => row.length)))].sort((a, b) => a - b);
  const draw = (width) =>
    libraries.plot({
      width,
      height: Math.min(420, Math.max(260, width * 0.5)),
      marginLeft: 56,
      marginRight: 24,
      marginBottom: 40,
      className: "plot",
      x: { type: "log", base: 2, label: "length in tokens", ticks: lengths, tickFormat: (length) => length.toLocaleString("en") },
      y: { type: "log", label: "perplexity", grid: true, ticks: 5, tickFormat: (value) => value.toLocaleString("en") },
      marks: lines.flatMap(({ rows, colour, symbol, dash }) => [
        libraries.lineY(rows, { x: "length", y: "value", stroke: colour, strokeWidth: 1.8, strokeDasharray: dash }),
        libraries.ruleX(rows.filter((row) => number(row.ci95_low)), { x: "length", y1: "ci95_low", y2: "ci95_high", stroke: colour }),
        libraries.dot(rows, { x: "length", y: "value", fill: colour, symbol, r: 4 }),
        libraries.dot(rows.filter((row) => number(row.reported)), { x: "length", y: "reported", stroke: colour, symbol, r: 8, strokeWidth: 1.4 }),
      ]),
    });
  return figure("Perplexity against length; hollow marks are reported figures", draw, lines);
}
