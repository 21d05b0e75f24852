// Elements and texts. Whatever comes from a model or from data goes through here, and becomes a text node.
"use strict";

/** An element: attributes (`text`: its text, `on`: listeners), then children. */
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "text") addText(element, value);
    else if (name === "on") for (const [event, call] of Object.entries(value)) element.addEventListener(event, call);
    else if (value !== null && value !== undefined && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

// Characters that are not seen, or that turn the direction of what follows: shown by their number.
const UNSEEN =
  /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]|\p{Surrogate}/gu;

function addText(element, text) {
  let at = 0;
  for (const match of String(text).matchAll(UNSEEN)) {
    element.append(text.slice(at, match.index));
    const number = match[0].codePointAt(0).toString(16).toUpperCase().padStart(4, "0");
    const mark = document.createElement("span");
    mark.className = "unseen";
    mark.textContent = `U+${number}`;
    element.append(mark);
    at = match.index + match[0].length;
  }
  element.append(String(text).slice(at));
}

const LONG = 20000; // characters that are shown at first

/** A text as it is; of a very long one the beginning, with a button for the rest. */
function block(text, label) {
  const body = make("pre", { tabindex: "0", role: "region", "aria-label": label, text: text.slice(0, LONG) });
  if (text.length <= LONG) return body;
  const button = make("button", { type: "button", text: `Show all ${text.length.toLocaleString("en")} characters` });
  button.addEventListener("click", () => {
    body.replaceChildren();
    addText(body, text);
    button.remove();
  });
  return make("div", {}, body, button);
}

function fixed(value, decimals = 2) {
  if (typeof value !== "number") return "-";
  return Math.abs(value) < 1e6 ? value.toFixed(decimals) : value.toExponential(2);
}

function signed(value, decimals = 2) {
  if (typeof value !== "number") return "";
  const text = fixed(Number(value.toFixed(decimals)) + 0, decimals);
  return Number(text) < 0 ? text.replace("-", "−") : `+${text.replace("-", "")}`;
}

const counted = (count, word) => `${count.toLocaleString("en")} ${word}${count === 1 ? "" : "s"}`;

const MARKS = { reproduced: "✓", consistent: "≈", "too few items": "?", higher: "▲", lower: "▼" };

/** The verdict as a sign and its word: never by colour alone. */
function verdict(word) {
  if (!word) return make("span", { class: "muted", text: "" });
  const sign = make("span", { "aria-hidden": "true", text: MARKS[word] ?? "•" });
  return make("span", { class: "verdict", "data-word": word }, sign, ` ${word}`);
}

/** A table. columns: {name, number}; rows: lists of texts or elements. */
function table(caption, columns, rows, kind = "") {
  const head = columns.map(({ name, number }) => make("th", { scope: "col", class: number && "number", text: name }));
  const body = rows.map((cells) =>
    make("tr", {}, ...cells.map((cell, place) => {
      const tag = place === 0 ? "th" : "td";
      const empty = cell === "" || cell === null;
      const attributes = { class: columns[place].number && "number", "data-label": columns[place].name, "data-empty": empty };
      if (tag === "th") attributes.scope = "row";
      const made = make(tag, attributes);
      if (cell instanceof Node) made.append(cell);
      else addText(made, cell ?? "");
      return made;
    })),
  );
  const built = make("table", { class: kind }, make("caption", { text: caption }), make("thead", {}, make("tr", {}, ...head)), make("tbody", {}, ...body));
  return make("div", { class: "scroll" }, built);
}
