// What one sent, and what became of it.

import { ask } from "./api.js";
import { ago, button, element, fold, show, toast } from "./dom.js";

const STATES = {
  waiting: "can be taken back",
  kept: "in the training data",
  held_out: "kept for measuring, never learned",
  refused: "not learned",
  retracted: "taken back",
};
const SAID = { a: "A was better", b: "B was better", tie: "equally good", both_bad: "both bad", skip: "skipped",
  up: "good", down: "bad", edited: "edited" };
const LONG = 300; // Characters of a prompt that are shown; more are folded.
let shown = [];
let visit = 0; // What a request brings after its view was left is not shown.

export async function enter() {
  shown = [];
  await load();
}

export function leave() {
  visit += 1;
}

const more = () => load().catch((error) => toast(error.message));

async function load() {
  const mine = visit;
  const before = shown.length ? `?before=${shown.at(-1).id}` : "";
  const found = await ask("GET", `/v1/votes${before}`);
  if (mine !== visit) return;
  shown.push(...found.votes);
  draw(found.more);
}

function draw(isMore) {
  show("main",
    element("h1", {}, "Your votes"),
    shown.length ? element("ol", { class: "votes" }, shown.map(item)) : element("p", { class: "hint" }, "You have not voted yet."),
    isMore ? button("Show more", "", more, { id: "more" }) : null,
  );
}

function item(vote) {
  return element("li", {},
    element("div", { class: "line" },
      element("b", {}, SAID[vote.verdict]),
      element("span", { class: `state ${vote.state}` }, STATES[vote.state] + (vote.detail ? `: ${vote.detail}` : "")),
      element("time", {}, ago(vote.at)),
      vote.state === "retracted" ? null : element("span", { class: "acts" }, button("Take back", "", () => retract(vote), { class: "small" })),
    ),
    compared(`vote-${vote.id}`, vote.prompt, vote.answers),
  );
}

export function compared(id, prompt, answers) {
  // What was voted on.
  const isLong = prompt.length > LONG;
  return [
    element("p", { class: "ask" }, isLong ? `${prompt.slice(0, LONG)} …` : prompt),
    isLong ? fold(`${id}-prompt`, "The whole prompt", element("pre", {}, prompt)) : null,
    element("div", { class: "pair" }, answers.map((text, place) =>
      fold(`${id}-${place}`, answers.length > 1 ? "AB"[place] : "Answer", element("pre", {}, text)))),
  ];
}

async function retract(vote) {
  try {
    await ask("DELETE", `/v1/votes/${vote.id}`);
    toast("Taken back.");
    await enter();
  } catch (error) {
    toast(error.message);
  }
}
