// One item, opened: what was asked, what came back, how it was read and what is right.
"use strict";

const badge = (kind, text) => make("span", { class: `badge ${kind}`, text });

/** The badges of an item: its mark, a disagreement of the extractions, what changed since the baseline. */
function badges(item, protocol = false) {
  const found = [item.correct ? badge("right", "✓ right") : badge("wrong", "✗ wrong")];
  if (item.differ) found.push(badge("differ", "≠ extractions differ"));
  if (item.flip) found.push(item.flip > 0 ? badge("right", "▲ gained") : badge("wrong", "▼ lost"));
  if (protocol && item.cut) found.push(badge("differ", "prompt cut"));
  return found;
}

/** The logits of the choices with their shares; choices are named by letters where the answer is one. */
function logitsTable(item) {
  const letters = /^[A-Z]$/.test(item.prediction);
  const finite = item.logits.filter((value) => typeof value === "number");
  const highest = Math.max(...finite);
  const total = finite.reduce((sum, value) => sum + Math.exp(value - highest), 0);
  const rows = item.logits.map((value, place) => {
    const name = letters ? String.fromCharCode(65 + place) : String(place + 1);
    const share = typeof value === "number" ? (100 * Math.exp(value - highest)) / total : 0;
    const bar = make("span", { class: "bar" });
    bar.style.setProperty("--share", `${share}%`);
    const said = [letters && name === item.prediction ? "chosen" : "", letters && name === item.gold ? "gold" : ""];
    return [name, fixed(value, 3), make("span", { class: "share" }, bar, ` ${share.toFixed(1)} %`), said.filter(Boolean).join(", ")];
  });
  const columns = [{ name: "choice" }, { name: "logit", number: true }, { name: "softmax over the choices" }, { name: "" }];
  return table("Logits of the choices", columns, rows);
}

/** The benchmark's own fields. */
function detailsOf(item) {
  let fields;
  try {
    fields = JSON.parse(item.details);
  } catch {
    return block(item.details, "Details"); // NaN, which JSON does not have
  }
  const rows = Object.entries(fields).flatMap(([name, value]) => {
    const text = typeof value === "string" ? value : JSON.stringify(value, null, 1);
    const short = text.length < 80 && !text.includes("\n");
    return [make("dt", { text: name }), make("dd", {}, short ? make("span", { text }) : block(text, name))];
  });
  return make("dl", { class: "facts" }, ...rows);
}

const part = (title, ...inner) => make("section", {}, make("h4", { text: title }), ...inner);

function promptPart(item, beginnings) {
  const shared = sharedBeginning(item);
  if (!shared) return part("Prompt", block(item.own, "Prompt"));
  const summary = `The beginning, which ${counted(beginnings, "item")} of this run share (${counted(shared.length, "character")})`;
  const fold = folded(summary);
  fold.addEventListener("toggle", () => fold.childElementCount < 2 && fold.append(block(shared, "Beginning of the prompt")));
  return part("Prompt", fold, block(item.own, "Prompt"));
}

/** The same item in the other runs, each a button that opens it there. */
function elsewhere(item, others, runs, open) {
  if (!others.length) return null;
  const rows = [item, ...others].map((one) => [
    one === item ? runs[one.run].label : make("button", { type: "button", class: "link", text: runs[one.run].label, on: { click: () => open(one) } }),
    one.correct ? badge("right", "✓ right") : badge("wrong", "✗ wrong"),
    make("span", { class: "clip", text: one.prediction.slice(0, 200) || "-" }),
    make("span", { class: "clip", text: one.response.replace(/\s+/g, " ").slice(0, 200) || "-" }),
  ]);
  return part("In the runs beside", table("This item in each run", [{ name: "run" }, { name: "mark" }, { name: "prediction" }, { name: "reply" }], rows));
}

/** Show the item in the place for it. context: {runs, others, sharing, open, close, step}. */
function showItem(place, item, context) {
  const run = context.runs[item.run];
  const robust = item.response && (item.robust || item.differ);
  const facts = [
    ["benchmark", run.benchmark],
    ["run", run.label],
    ["subject", item.subject],
    ["gold answer", item.gold],
    [robust ? "protocol extraction" : "prediction", item.prediction || (item.response ? "nothing found" : "")],
    robust ? ["robust extraction", `${item.robust || "nothing found"} (${item.correctRobust ? "right" : "wrong"})`] : ["", ""],
    ["reply ended by", item.finish],
    ["new tokens", item.newTokens || ""],
  ].filter(([, value]) => value !== "");
  const answers = facts.flatMap(([name, value]) => {
    const text = String(value);
    const long = text.length > 160 || text.includes("\n");
    return [make("dt", { text: name }), make("dd", {}, long ? block(text, name) : make("span", { text }))];
  });
  const button = (text, label, click) => make("button", { type: "button", "aria-label": label, title: label, text, on: { click } });
  place.replaceChildren(
    make(
      "header",
      {},
      make("h3", { id: "detail-title", tabindex: "-1", text: itemName(item) }),
      make("div", { class: "buttons" }, button("↑", "Previous item", () => context.step(-1)), button("↓", "Next item", () => context.step(1)), button("✕", "Close", context.close)),
    ),
    make("p", { class: "badges" }, ...badges(item, true)),
    make("dl", { class: "facts answers" }, ...answers),
    item.logits.length ? part("Answer", logitsTable(item)) : part("Reply", block(item.response, "Reply")),
    promptPart(item, context.sharing),
    ...[elsewhere(item, context.others, context.runs, context.open), item.details ? part("Details", detailsOf(item)) : null].filter(Boolean),
  );
  place.scrollTop = 0;
}
