// Puts the page together.
"use strict";

const THEMES = ["auto", "light", "dark"];

/** Light, dark, or as the system has it; remembered where the browser allows that for a file. */
function startTheme(button) {
  const remembered = () => {
    try {
      return localStorage.getItem("qwen-eval-theme");
    } catch {
      return null;
    }
  };
  const take = (theme) => {
    document.documentElement.dataset.theme = theme;
    button.textContent = `Theme: ${theme}`;
  };
  take(THEMES.includes(remembered()) ? remembered() : "auto");
  button.addEventListener("click", () => {
    const next = THEMES[(THEMES.indexOf(document.documentElement.dataset.theme) + 1) % THEMES.length];
    take(next);
    try {
      localStorage.setItem("qwen-eval-theme", next);
    } catch {
      // a browser that keeps nothing for files
    }
  });
}

function showFigures(runs) {
  const chart = overviewChart(runs);
  $("overview").replaceChildren(overview(runs), ...(chart ? [chart] : []));
  const links = [make("a", { href: "#figures", text: "Figures" }), make("a", { href: "#items", text: "Items" })];
  const benchmarks = [...new Set(runs.map((run) => run.benchmark))];
  for (const name of benchmarks) {
    const mine = runs.filter((run) => run.benchmark === name);
    const id = `benchmark-${runs.indexOf(mine[0])}`;
    $("benchmarks").append(benchmarkSection(name, id, mine, runs));
    links.push(make("a", { href: `#${id}`, text: name }));
  }
  $("contents").replaceChildren(...links);
}

function benchmarkSection(name, id, mine, runs) {
  const titles = [...new Set(mine.flatMap((run) => run.tables.map((one) => one.title)))];
  const parts = titles.flatMap((title) => [partChart(title, mine), folded(`Table: ${title}`, partTable(title, mine))]);
  const grids = mine.filter((run) => run.grid.length).map(gridTable);
  const asked = mine.length === 1 ? [mine[0].label, mine[0].asked].filter(Boolean).join(" · ") : counted(mine.length, "run");
  // a link of the overview leads to its run's benchmark, whichever of its runs comes first
  const anchors = mine.slice(1).map((run) => make("span", { id: `benchmark-${runs.indexOf(run)}` }));
  const inner = [...anchors, figureTable(mine), perplexityChart(mine), ...grids, ...parts, ...mine.map((run) => aboutRun(run, mine.length > 1))];
  return make("section", { id, "aria-labelledby": `${id}-title` }, make("h2", { id: `${id}-title` }, make("span", { text: name }), make("span", { class: "muted", text: ` ${asked}` })), ...inner.filter(Boolean));
}

/** Open the item that the address names: `#run=0&item=astronomy%2F6&sample=0`. */
function openAddressed(address, items, list) {
  const wanted = new URLSearchParams(address);
  const item = wanted.has("item") && items.find((one) => one.id === wanted.get("item") && one.run === Number(wanted.get("run")) && one.sample === Number(wanted.get("sample")));
  if (item) list.open(item);
}

async function start() {
  const about = JSON.parse($("about").textContent);
  const address = location.hash.slice(1);
  startTheme($("theme"));
  addText($("title"), document.title);
  const total = about.runs.reduce((sum, run) => sum + run.items, 0);
  $("made").textContent = `${counted(about.runs.length, "run")}, ${counted(total, "item")}. Made ${about.made} by qwen-eval.`;
  showFigures(about.runs);
  let items;
  try {
    items = await unpackItems();
  } catch (error) {
    $("count").className = "problem";
    $("count").textContent = `This browser cannot unpack the items (it needs DecompressionStream, of 2023 or later): ${error.message}`;
    return;
  }
  const list = startList(items, about.runs);
  list.apply(startFilters($("filters"), items, about.runs, (filter) => list.apply(filter)));
  openAddressed(address, items, list);
  document.documentElement.dataset.ready = "true";
}

start();
