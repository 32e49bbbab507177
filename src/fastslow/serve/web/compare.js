// Two answers side by side, blind. Votes are sent while the next pair is already shown.

import { ask, Offline } from "./api.js";
import { button, cutOff, element, sentence, show, toast } from "./dom.js";
import * as outbox from "./outbox.js";

const AHEAD = 4;
const LOOK_AGAIN = 8000;
const VERDICTS = new Map([
  ["1", ["a", "A is better"]],
  ["0", ["tie", "Equally good"]],
  ["x", ["both_bad", "Both bad"]],
  ["2", ["b", "B is better"]],
  ["s", ["skip", "Skip"]],
]);
const SAID = { a: "A is better", b: "B is better", tie: "Equally good", both_bad: "Both bad", skip: "Skipped" };

let ready = []; // The one that is shown first.
const voted = new Set();
let last = null; // { pair, item, done } of the last vote, for undo.
let seen = { since: 0, before: 0 };
let cast = 0;
let editing = null;
let active = false;
let fetching = null;
let waitsForMore = false;
let fault = null; // Why there may be pairs that did not come.

export async function enter() {
  active = true;
  await fill();
  draw();
}

export function leave() {
  active = false;
}

export function showFirst(pair) {
  ready = [pair, ...ready.filter((one) => one.id !== pair.id)];
}

function fill() {
  fetching ??= fetchMore().finally(() => (fetching = null));
  return fetching;
}

async function fillUp() {
  await fill();
  // What was asked for before the last votes had arrived may have brought nothing new.
  if (!ready.length) await outbox.flush().then(fill);
}

async function fetchMore() {
  try {
    // The server counts those whose votes are still on their way.
    const count = Math.min(20, AHEAD + outbox.count());
    const found = await ask("POST", "/v1/pairs/next", { count });
    const known = new Set(ready.map((pair) => pair.id));
    ready.push(...found.pairs.filter((pair) => !known.has(pair.id) && !voted.has(pair.id)));
    fault = null;
  } catch (error) {
    if (!(error instanceof Offline)) throw error;
    fault = error;
  }
}

function draw() {
  if (!active) return;
  const [pair] = ready;
  editing = null;
  waitsForMore = false;
  if (!pair) return drawEmpty();
  const turns = pair.messages.map((turn) =>
    element("div", { class: `turn ${turn.role}` }, element("b", {}, turn.role), element("p", {}, turn.content)),
  );
  show(
    "main",
    element("h1", { class: "quiet" }, "Which answer is better?"),
    element("section", { class: "prompt", "aria-label": "Prompt", tabindex: "0" }, turns),
    element("div", { class: "sides" }, side("a", "A", pair), side("b", "B", pair)),
    element("div", { class: "verdicts", role: "group", "aria-label": "Verdict" },
      [...VERDICTS].map(([key, [verdict, label]]) =>
        button(label, key.toUpperCase(), () => vote(verdict), { class: `verdict ${verdict}` }),
      ),
    ),
    element("div", { class: "extras" },
      element("label", { class: "reason" }, "Why?", element("input", { id: "reason", maxlength: "2000", placeholder: "optional" })),
      button("Undo", "U", undo, { disabled: !last }),
      element("span", { class: "count" }, cast ? `${cast} ${cast === 1 ? "vote" : "votes"} this time` : "Keys: 1 2 0 X S, U to undo"),
    ),
  );
  const asked = document.querySelector(".prompt");
  asked.scrollTop = asked.scrollHeight; // The question is its last turn.
  seen = { since: document.hidden ? 0 : performance.now(), before: 0 };
}

function side(name, label, pair) {
  return element("article", { class: "answer", id: `answer-${name}`, "aria-label": `Answer ${label}`, tabindex: "0" },
    element("header", {}, element("h2", {}, label), button("Edit", "", () => edit(name, pair), { class: "small" })),
    element("div", { class: "text", html: pair[name].html }),
    cutOff(pair[name].truncated),
  );
}

function drawEmpty() {
  waitsForMore = true;
  if (fetching) return show("main", element("p", { class: "hint" }, "Loading the next pair."));
  const [title, text] = fault ? ["Could not load pairs", `${sentence(fault.message)} The page keeps trying.`]
    : cast ? ["All done for now", "You have seen every pair that needs a verdict. New ones appear here by themselves."]
      : ["Nothing to compare yet", "Pairs appear here as soon as there are any."];
  show("main",
    element("div", { class: "empty" },
      element("h1", {}, title),
      element("p", {}, text),
      last ? button("Undo the last vote", "U", undo) : null,
    ),
  );
  setTimeout(async () => {
    if (!active || ready.length) return;
    await fill();
    draw();
  }, LOOK_AGAIN);
}

function vote(verdict) {
  const [pair] = ready;
  if (!pair || editing) return;
  const reason = document.getElementById("reason").value.trim() || null;
  const body = { pair_id: pair.id, verdict, reason, seen_ms: seenFor() };
  last = { pair, ...outbox.post("/v1/votes", body) };
  last.done.then((receipt) => receipt?.error && toast(receipt.error));
  ready.shift();
  voted.add(pair.id);
  cast += 1;
  draw();
  toast(`${SAID[verdict]}.`, button("Undo", "U", undo, { class: "small" }));
  if (ready.length < AHEAD) fillUp().then(() => waitsForMore && draw());
}

async function undo() {
  if (!last) return;
  const { pair, item } = last;
  last = null;
  const receipt = await outbox.takeBack(item);
  if (receipt?.error) return toast(`Could not be undone: ${receipt.error}`);
  voted.delete(pair.id);
  cast -= 1;
  ready = [pair, ...ready.filter((one) => one.id !== pair.id)];
  draw();
  toast(receipt ? "Taken back." : "It will be taken back as soon as the server can be reached.");
}

function edit(name, pair) {
  const place = document.getElementById(`answer-${name}`);
  editing = element("textarea", { "aria-label": "Edited answer", rows: "12" });
  editing.value = pair[name].text;
  const save = () => {
    outbox.post("/v1/edits", { pair_id: pair.id, side: name, text: editing.value }).done.then(
      (receipt) => toast(receipt?.error ?? "Saved: your version counts as better than this answer."),
    );
    draw();
  };
  place.replaceChildren(
    element("header", {}, element("h2", {}, `${name.toUpperCase()}, as it should be`)),
    editing,
    element("div", { class: "extras" }, button("Keep my version", "", save, { class: "primary" }), button("Cancel", "Esc", draw)),
  );
  for (const one of document.querySelectorAll(".verdict")) one.disabled = true; // Until that is done.
  editing.focus();
}

function seenFor() {
  return Math.round(seen.before + (seen.since ? performance.now() - seen.since : 0));
}

document.addEventListener("visibilitychange", () => {
  if (document.hidden) seen = { since: 0, before: seenFor() };
  else seen.since = performance.now();
});

document.addEventListener("keydown", (event) => {
  if (!active || event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
  if (event.key === "Escape" && editing) return draw();
  if (["INPUT", "TEXTAREA"].includes(event.target.tagName)) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  const key = event.key.toLowerCase();
  if (key === "u") undo();
  else if (VERDICTS.has(key)) vote(VERDICTS.get(key)[0]);
  else return;
  event.preventDefault();
});
