// The items of all runs: unpacked from the page, searched and filtered.
"use strict";

/** The items of every run, one after the other. Throws where the browser cannot unpack them. */
async function unpackItems() {
  const items = [];
  const parts = document.querySelectorAll("script.items");
  for (const [run, part] of parts.entries()) {
    const columns = JSON.parse(await unpacked(part.textContent));
    part.remove(); // its memory
    for (let number = 0; number < columns.id.length; number++) items.push(itemOf(columns, number, run));
  }
  return items;
}

async function unpacked(base64) {
  const bytes = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).text();
}

function itemOf(columns, number, run) {
  const [beginning, own] = columns.prompt[number];
  return {
    run,
    id: columns.id[number],
    sample: columns.sample[number],
    subject: columns.subjects[columns.subject[number]],
    columns,
    beginning,
    own,
    response: columns.response[number],
    prediction: columns.prediction[number],
    robust: columns.prediction_robust[number],
    gold: columns.gold[number],
    correct: columns.correct[number] === 1,
    correctRobust: columns.correct_robust[number] === 1,
    differ: columns.differ[number] === 1,
    flip: columns.flip[number],
    cut: columns.cut[number] === 1,
    finish: columns.finish[number],
    newTokens: columns.new_tokens[number],
    logits: columns.logits[number],
    details: columns.details[number],
  };
}

/** The beginning that an item's prompt shares with others; "" for none. */
function sharedBeginning(item) {
  const parts = [];
  for (let at = item.beginning; at >= 0; at = item.columns.beginnings[at][0]) parts.unshift(item.columns.beginnings[at][1]);
  return parts.join("");
}

const itemName = (item) => (item.sample ? `${item.id} (sample ${item.sample})` : item.id);

/** What tells an item's prompt from others, on one line. */
function preview(item) {
  const text = item.own.slice(0, 600).replace(/<\|im_(start|end)\|>(system|user|assistant)?/g, " ");
  return text.replace(/\s+/g, " ").trim().slice(0, 240);
}

/** A test for items: whether the words stand in its name, prompt, reply, answers or details. */
function matcher(words) {
  if (!words) return () => true;
  const wanted = new RegExp(words.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"), "iu");
  const inBeginning = new Map(); // each shared text is searched once
  const beginningHas = (item) => {
    const known = inBeginning.get(item.columns) ?? inBeginning.set(item.columns, new Map()).get(item.columns);
    if (!known.has(item.beginning)) {
      const text = sharedBeginning(item);
      known.set(item.beginning, { found: wanted.test(text), end: text.slice(1 - words.length || text.length) });
    }
    return known.get(item.beginning);
  };
  return (item) => {
    const beginning = beginningHas(item);
    if (beginning.found || wanted.test(item.id) || wanted.test(item.response) || wanted.test(item.details)) return true;
    if (wanted.test(item.prediction) || wanted.test(item.robust) || wanted.test(item.gold)) return true;
    return wanted.test(beginning.end + item.own);
  };
}

/** The items that a filter leaves. */
function filtered(items, filter, runs) {
  const found = matcher(filter.words);
  return items.filter(
    (item) =>
      (filter.benchmark === "" || runs[item.run].benchmark === filter.benchmark) &&
      (filter.run === "" || item.run === Number(filter.run)) &&
      (filter.subject === "" || item.subject === filter.subject) &&
      (filter.mark === "" || item.correct === (filter.mark === "right")) &&
      (!filter.differ || item.differ) &&
      (!filter.cut || item.cut) &&
      ((!filter.lost && !filter.gained) || (filter.lost && item.flip < 0) || (filter.gained && item.flip > 0)) &&
      found(item),
  );
}
