// The tables: each figure beside the reported one, the parts of a benchmark, notes and what a run was made with.
"use strict";

const FEW = 8; // figures of a run that the overview shows; of a run with more, the first

const interval = (row) => (typeof row.ci95_low === "number" ? `${fixed(row.ci95_low)} to ${fixed(row.ci95_high)}` : "");

function reported(score) {
  if (typeof score.reported !== "number") return "";
  const version = score.reported_version ? ` (${score.reported_version})` : "";
  return `${fixed(score.reported, score.reported_decimals ?? 2)}${version}`;
}

const COLUMNS = [
  { name: "figure" },
  { name: "value", number: true, of: (score) => fixed(score.value) },
  { name: "95 % interval", number: true, of: interval },
  { name: "n", number: true, of: (score) => (score.n ?? 0).toLocaleString("en") },
  { name: "reported", number: true, of: reported },
  { name: "difference", number: true, of: (score) => signed(score.difference) },
  { name: "in items", number: true, of: (score) => signed(score.difference_items, 1) },
  { name: "smallest difference", number: true, of: (score) => (score.smallest_difference ? fixed(score.smallest_difference, 1) : "") },
  { name: "verdict", of: (score) => (score.verdict ? verdict(score.verdict) : "") },
];

/** The columns in which a score has something. */
const columnsOf = (scores) => COLUMNS.filter((column) => !column.of || scores.some((score) => column.of(score) !== ""));

function overview(runs) {
  const wanted = COLUMNS.filter(({ name }) => !["in items", "smallest difference"].includes(name));
  const rows = runs.flatMap((run, number) => {
    const link = make("a", { href: `#benchmark-${number}`, text: run.benchmark });
    if (!run.scores.length) return [[link, run.label, run.unfinished ? "unfinished" : "", ...wanted.slice(1).map(() => "")]];
    const shown = run.scores.length > FEW ? run.scores.slice(0, 1) : run.scores.filter((score) => score.reported !== null);
    return (shown.length ? shown : run.scores.slice(0, 1)).map((score, place) => [
      place ? make("span", { class: "repeated", text: run.benchmark }) : link,
      run.label,
      score.name + (run.scores.length > FEW ? ` (and ${run.scores.length - 1} more below)` : ""),
      ...wanted.slice(1).map((column) => column.of(score)),
    ]);
  });
  const columns = [{ name: "benchmark" }, { name: "run" }, ...wanted];
  return table("Each figure beside the reported one", columns, rows, "cards");
}

/** The figures of the runs of one benchmark, those of a name side by side. */
function figureTable(runs) {
  const several = runs.length > 1;
  const names = [...new Set(runs.flatMap((run) => run.scores.map((score) => score.name)))];
  const found = names.flatMap((name) => runs.flatMap((run) => run.scores.filter((score) => score.name === name).map((score) => ({ run, score }))));
  if (!found.length) return null;
  const columns = columnsOf(found.map(({ score }) => score));
  const rows = found.map(({ run, score }) => [
    score.name,
    ...(several ? [run.label] : []),
    ...columns.slice(1).map((column) => column.of(score)),
  ]);
  return table("Figures", [columns[0], ...(several ? [{ name: "run" }] : []), ...columns.slice(1)], rows, "cards");
}

/** The parts of a benchmark, such as subjects, a row each and the runs side by side. */
function partTable(title, runs) {
  const parts = runs.map((run) => run.tables.find((one) => one.title === title)?.rows ?? []);
  const names = [...new Set(parts.flatMap((rows) => rows.map((row) => row.name)))];
  const columns = [{ name: title.replace(/^by /, "") }];
  for (const run of runs) {
    const before = runs.length > 1 ? `${run.label}: ` : "";
    columns.push(...["value", "95 % interval", "n"].map((name) => ({ name: before + name, number: true })));
  }
  const rows = names.map((name) => [
    name,
    ...parts.flatMap((found) => {
      const row = found.find((one) => one.name === name);
      return row ? [fixed(row.value), interval(row), String(row.n ?? "")] : ["", "", ""];
    }),
  ]);
  return table(title, columns, rows);
}

/** grid.csv: the card's own layout. Of a needle in a haystack, shares of 0 to 100 as a heat map. */
function gridTable(run) {
  const [head, ...rows] = run.grid;
  const needle = run.benchmark === "needle";
  const title = needle ? "Needles found, in percent: depth by length in tokens" : "In the layout of the card";
  const cells = rows.map(([name, ...row]) => [
    name,
    ...row.map((cell) => {
      const share = Number(cell);
      if (!needle || cell === "" || Number.isNaN(share)) return cell;
      const made = make("span", { class: share > 82 ? "heat full" : "heat", text: cell });
      made.style.setProperty("--share", `${share}%`);
      return made;
    }),
  ]);
  return table(`${title} - ${run.label}`, head.map((name, place) => ({ name, number: place > 0 })), cells, needle ? "needle" : "");
}

const folded = (summary, ...inner) => make("details", {}, make("summary", { text: summary }), ...inner);

/** What else a reader should know of a run. */
function aboutRun(run, several) {
  const notes = [...run.notes];
  if (run.baseline) {
    const { folder, n, gained, lost, p, other } = run.baseline;
    notes.push(`beside ${folder}: ${counted(n, "shared item")}, ${gained} gained, ${lost} lost, McNemar p = ${p.toPrecision(3)}`);
    if (other) notes.push(`${counted(other, "item")} had another prompt, choices or answer in the baseline, or were not there`);
  }
  const facts = run.manifest.flatMap(([name, value]) => [make("dt", { text: name }), make("dd", { text: value })]);
  return make(
    "div",
    { class: "run" },
    several || run.unfinished ? make("h4", { text: run.label + (run.unfinished ? " (unfinished)" : "") }) : null,
    notes.length ? make("ul", { class: "notes" }, ...notes.map((note) => make("li", { text: note }))) : null,
    facts.length ? folded("Versions, settings, checksums", make("dl", { class: "facts" }, ...facts)) : null,
  );
}
