// What one sent, and what became of it.

import { ask } from "./api.js";
import { ago, button, element, show, toast } from "./dom.js";

const STATES = {
  waiting: "can be taken back",
  kept: "in the training data",
  held_out: "kept for measuring, never learned",
  refused: "not learned",
  retracted: "taken back",
};
const SAID = { a: "A was better", b: "B was better", tie: "equally good", both_bad: "both bad", skip: "skipped",
  up: "good", down: "bad", edited: "edited" };
let shown = [];

export async function enter() {
  shown = [];
  await more();
}

export function leave() {}

async function more() {
  const before = shown.length ? `?before=${shown.at(-1).id}` : "";
  const found = await ask("GET", `/v1/votes${before}`);
  shown.push(...found.votes);
  draw(found.more);
}

function draw(isMore) {
  show("main",
    element("h1", {}, "Your votes"),
    shown.length ? element("ol", { class: "votes" }, shown.map(item)) : element("p", { class: "hint" }, "You have not voted yet."),
    isMore ? button("Show more", "", more) : null,
  );
}

function item(vote) {
  return element("li", {},
    element("div", { class: "line" },
      element("b", {}, SAID[vote.verdict]),
      element("span", { class: `state ${vote.state}` }, STATES[vote.state] + (vote.detail ? `: ${vote.detail}` : "")),
      element("time", {}, ago(vote.at)),
      vote.state === "retracted" ? null : button("Take back", "", () => retract(vote), { class: "small" }),
    ),
    element("p", { class: "ask" }, vote.prompt),
    element("div", { class: "pair" }, vote.answers.map((text, place) =>
      element("details", {}, element("summary", {}, vote.answers.length > 1 ? "AB"[place] : "Answer"), element("pre", {}, text)),
    )),
  );
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
