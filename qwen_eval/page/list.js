// The list of items: rows that exist only while they can be seen, filters, keyboard.
"use strict";

const NARROW = matchMedia("(max-width: 760px)");
const $ = (id) => document.getElementById(id);

function startList(items, runs) {
  const list = $("list"), rows = $("rows"), detail = $("detail");
  const byName = groupBy(items, (item) => JSON.stringify([runs[item.run].benchmark, item.id, item.sample]));
  const sharing = groupBy(items.filter((item) => item.beginning >= 0), (item) => `${item.run} ${item.beginning}`);
  const severalRuns = runs.length > 1;
  const severalOf = (run) => runs.filter((one) => one.benchmark === run.benchmark).length > 1;
  const rowRun = (item) => {
    const run = runs[item.run];
    return severalOf(run) ? `${run.benchmark} · ${run.label}` : run.benchmark;
  };
  let shown = items, at = 0, opened = null;

  const options = () => ({
    count: shown.length,
    getScrollElement: () => list,
    estimateSize: () => (NARROW.matches ? 64 : 38),
    scrollToFn: libraries.elementScroll,
    observeElementRect: libraries.observeElementRect,
    observeElementOffset: libraries.observeElementOffset,
    overscan: 8,
    onChange: draw,
  });
  const virtual = new libraries.Virtualizer(options());
  virtual._didMount();
  virtual._willUpdate();

  function draw() {
    rows.style.height = `${virtual.getTotalSize()}px`;
    rows.replaceChildren(...virtual.getVirtualItems().map(({ index, start, size }) => rowOf(index, start, size)));
    const active = shown.length ? `row-${at}` : "";
    if (active && $(active)) list.setAttribute("aria-activedescendant", active);
    else list.removeAttribute("aria-activedescendant");
  }

  function rowOf(index, start, size) {
    const item = shown[index];
    const cell = (kind, ...inner) => make("span", { role: "gridcell", class: kind }, ...inner);
    const answer = make("span", { text: item.prediction.slice(0, 80) || (item.response ? "nothing" : "-") });
    const gold = item.gold ? make("span", { class: "muted", text: ` / ${item.gold.slice(0, 80)}` }) : null;
    const row = make(
      "div",
      { role: "row", id: `row-${index}`, class: "row", "aria-rowindex": index + 1, "aria-selected": String(index === at) },
      cell("marks", ...badges(item)),
      cell("name", make("span", { text: itemName(item) }), severalRuns ? make("span", { class: "muted", text: ` ${rowRun(item)}` }) : null),
      cell("answer", answer, gold),
      cell("preview", make("span", { text: preview(item) })),
    );
    row.style.height = `${size}px`;
    row.style.transform = `translateY(${start}px)`;
    row.addEventListener("click", () => {
      at = index;
      open(item);
    });
    return row;
  }

  /** Take a new filter. The item that is open stays so while the filter leaves it. */
  function apply(filter) {
    const before = opened ?? shown[at];
    shown = filtered(items, filter, runs);
    at = Math.max(0, shown.indexOf(before));
    const right = shown.reduce((sum, item) => sum + item.correct, 0);
    const share = shown.length ? ` (${((100 * right) / shown.length).toFixed(1)} % right)` : "";
    $("count").textContent = `${shown.length.toLocaleString("en")} of ${counted(items.length, "item")}${share}`;
    list.setAttribute("aria-rowcount", shown.length);
    refresh();
    if (shown.length) virtual.scrollToIndex(at, { align: at ? "center" : "start" });
  }

  function refresh() {
    virtual.setOptions(options());
    virtual._willUpdate();
    virtual.measure();
    draw();
  }

  function open(item, focus = true) {
    opened = item;
    const others = byName.get(JSON.stringify([runs[item.run].benchmark, item.id, item.sample])).filter((one) => one !== item);
    const shares = item.beginning >= 0 ? sharing.get(`${item.run} ${item.beginning}`).length : 0;
    showItem(detail, item, { runs, others, sharing: shares, open: openElsewhere, close, step });
    detail.hidden = false;
    $("split").classList.add("open");
    document.body.classList.toggle("covered", NARROW.matches);
    for (const part of NARROW.matches ? covered() : []) part.inert = true;
    if (focus) $("detail-title").focus({ preventScroll: true });
    history.replaceState(null, "", `#${new URLSearchParams({ run: item.run, item: item.id, sample: item.sample })}`);
    draw();
  }

  function openElsewhere(item) {
    const index = shown.indexOf(item);
    if (index >= 0) select(index);
    open(item);
  }

  /** On a phone an open item covers the page. */
  const covered = () => [document.querySelector("header.top"), $("contents"), $("filters"), list];

  function close() {
    if (!opened) return;
    opened = null;
    detail.hidden = true;
    $("split").classList.remove("open");
    document.body.classList.remove("covered");
    for (const part of covered()) part.inert = false;
    history.replaceState(null, "", "#items");
    refresh();
    list.focus({ preventScroll: true });
  }

  function select(index) {
    at = Math.min(Math.max(index, 0), shown.length - 1);
    virtual.scrollToIndex(at, { align: "auto" });
    draw();
  }

  function step(by) {
    if (!shown.length) return;
    select(at + by);
    if (opened) open(shown[at], document.activeElement?.closest("#detail") !== null);
  }

  const page = () => Math.max(1, Math.floor(list.clientHeight / 38) - 1);
  const LIST_KEYS = { ArrowDown: () => step(1), ArrowUp: () => step(-1), PageDown: () => step(page()), PageUp: () => step(-page()), Home: () => step(-shown.length), End: () => step(shown.length) };

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const typing = event.target.matches("input[type=search], select, textarea");
    const does = (action) => {
      event.preventDefault();
      action();
    };
    if (event.key === "Escape" && opened) does(close);
    else if (event.key === "Escape" && typing) does(() => list.focus());
    else if (typing) return;
    else if (event.key === "/") does(() => !opened || !NARROW.matches ? $("search").select() : close());
    else if (event.key === "j") does(() => step(1));
    else if (event.key === "k") does(() => step(-1));
    else if (event.target === list && LIST_KEYS[event.key]) does(LIST_KEYS[event.key]);
    else if (event.target === list && event.key === "Enter" && shown.length) does(() => open(shown[at]));
  });
  NARROW.addEventListener("change", () => {
    if (opened) open(opened, false);
    refresh();
  });

  return { apply, open: (item) => { at = Math.max(0, shown.indexOf(item)); open(item); select(at); } };
}

function groupBy(items, nameOf) {
  const found = new Map();
  for (const item of items) {
    const name = nameOf(item);
    if (found.has(name)) found.get(name).push(item);
    else found.set(name, [item]);
  }
  return found;
}
