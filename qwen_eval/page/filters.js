// The form above the list: what may be chosen, and what is chosen.
"use strict";

/** Fill the form; `changed` gets each new filter. Returns the filter as it is. */
function startFilters(form, items, runs, changed) {
  const search = make("input", { type: "search", id: "search", autocomplete: "off", spellcheck: "false", placeholder: "Search prompts, replies, answers" });
  const count = (test) => items.reduce((sum, item) => sum + (test(item) ? 1 : 0), 0);
  const benchmarks = [...new Set(runs.map((run) => run.benchmark))];
  const benchmark = select("benchmark", "all benchmarks", benchmarks);
  const run = select("run", "all runs", []);
  const subject = select("subject", "all subjects", []);
  const wrong = count((item) => !item.correct);
  const mark = select("mark", "right and wrong", []);
  mark.append(option("wrong", `wrong only (${wrong.toLocaleString("en")})`), option("right", `right only (${(items.length - wrong).toLocaleString("en")})`));
  const boxes = [
    box("differ", "protocol and robust extraction differ", count((item) => item.differ)),
    ...(runs.some((one) => one.baseline)
      ? [box("lost", "lost since the baseline", count((item) => item.flip < 0)), box("gained", "gained", count((item) => item.flip > 0))]
      : []),
    box("cut", "prompt cut", count((item) => item.cut)),
  ].filter(([, , number], place) => place === 0 || number > 0);

  /** Runs of the chosen benchmark, subjects of what is chosen; a choice that is gone falls back to all. */
  function fillDependent() {
    const there = [...runs.entries()].filter(([, one]) => !benchmark.value || one.benchmark === benchmark.value);
    fill(run, "all runs", there.map(([place, one]) => [String(place), benchmark.value ? one.label : `${one.benchmark}: ${one.label}`]));
    const wanted = new Set(there.map(([place]) => place).filter((place) => !run.value || place === Number(run.value)));
    const subjects = new Set();
    for (const item of items) if (wanted.has(item.run)) subjects.add(item.subject);
    fill(subject, "all subjects", [...subjects].sort().map((name) => [name, name || "(none)"]));
  }

  const value = () => ({
    words: search.value.trim(),
    benchmark: benchmark.value,
    run: run.value,
    subject: subject.value,
    mark: mark.value,
    differ: false,
    lost: false,
    gained: false,
    cut: false,
    ...Object.fromEntries(boxes.map(([name, input]) => [name, input.checked])),
  });

  const labelled = (text, input) => make("label", {}, make("span", { class: "label", text }), input);
  const reset = make("button", { type: "reset", text: "Reset" });
  form.replaceChildren(
    labelled("Search", search),
    ...(benchmarks.length > 1 ? [labelled("Benchmark", benchmark)] : []),
    ...(runs.length > 1 ? [labelled("Run", run)] : []),
    labelled("Subject", subject),
    labelled("Mark", mark),
    make("div", { class: "boxes" }, ...boxes.map(([, input, number, text]) => make("label", { class: "box" }, input, make("span", { text: ` ${text} (${number.toLocaleString("en")})` }))), reset),
  );
  fillDependent();

  let waiting;
  search.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(() => changed(value()), 120);
  });
  form.addEventListener("change", (event) => {
    if (event.target === search) return;
    fillDependent();
    changed(value());
  });
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(() => {
    fillDependent();
    changed(value());
  }));
  return value();
}

const option = (value, text) => make("option", { value, text });

function select(name, all, values) {
  const made = make("select", { name });
  fill(made, all, values.map((value) => [value, value]));
  return made;
}

/** New options, with the choice kept where it is still there. */
function fill(made, all, values) {
  const before = made.value;
  made.replaceChildren(option("", all), ...values.map(([value, text]) => option(value, text)));
  made.value = values.some(([value]) => value === before) ? before : "";
}

function box(name, text, number) {
  return [name, make("input", { type: "checkbox", name, disabled: number === 0 }), number, text];
}
