// A conversation with the model. Answers can be rated, put right, or asked for twice and compared.

import { ask, events } from "./api.js";
import * as compare from "./compare.js";
import { button, cutOff, element, show, toast } from "./dom.js";
import * as outbox from "./outbox.js";

let turns = []; // { role, content, id?, rated?, truncated? }
let model = null; // What answers in the domain, unless somebody has chosen.
let models = [];
let going = null; // What stops the answer that is being given.
let draft = ""; // What is written and not sent yet.
let visit = 0; // What a request brings after its view was left is not shown.

export async function enter() {
  const mine = ++visit;
  models = (await ask("GET", "/v1/models")).data.map((one) => one.id);
  if (mine !== visit) return;
  if (!models.includes(model)) model = null;
  draw();
}

export function leave() {
  visit += 1;
  going?.abort();
}

function draw() {
  if (!models.length) {
    return show("main", element("div", { class: "empty" },
      element("h1", {}, "No model here"),
      element("p", {}, "This server was started without a model. Start it with ", element("code", { class: "whole" }, "model=path/to/model"), " to chat."),
    ));
  }
  const box = element("textarea", { id: "said", rows: "2", "aria-label": "Your message", placeholder: "Type a message",
    oninput: (event) => (draft = event.target.value) });
  box.value = draft;
  box.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey) {
      event.preventDefault();
      say();
    }
  });
  const choose = element("select", { "aria-label": "Model", onchange: (event) => (model = event.target.value || null) },
    element("option", { value: "" }, "Current model"),
    models.map((name) => element("option", { selected: name === model }, name)));
  show("main",
    element("h1", { class: "quiet" }, "Chat"),
    element("section", { class: "talk", id: "talk", "aria-live": "polite", tabindex: "0", "aria-label": "Conversation" }, turns.map(bubble)),
    element("div", { class: "say" }, box,
      element("div", { class: "extras" },
        going ? button("Stop", "", () => going.abort()) : button("Send", "Enter", say, { class: "primary" }),
        button("Answer twice and compare", "", twice, { disabled: Boolean(going) }),
        button("New conversation", "", () => { turns = []; draw(); }, { disabled: Boolean(going) || !turns.length }),
        models.length > 1 ? choose : null,
      )),
  );
  const talk = document.getElementById("talk");
  talk.scrollTop = talk.scrollHeight;
  box.focus();
}

function bubble(turn, place) {
  const whose = turn.role === "user" ? "You" : "Model";
  return element("article", { class: `bubble ${turn.role}` },
    element("b", {}, whose),
    element("p", { id: `turn-${place}` }, turn.content),
    cutOff(turn.truncated),
    turn.id ? element("div", { class: "extras" },
      thumb(turn, "up", "Good"),
      thumb(turn, "down", "Bad"),
      button("Edit", "", () => edit(turn, place), { class: "small" }),
    ) : null,
  );
}

function thumb(turn, verdict, label) {
  const pressed = turn.rated === verdict;
  return button(label, "", () => rate(turn, verdict), {
    class: "small", disabled: Boolean(turn.rated), "aria-pressed": String(pressed),
  });
}

function taken() {
  const text = draft.trim();
  draft = "";
  if (text) turns.push({ role: "user", content: text });
  return turns.at(-1)?.role === "user";
}

const conversation = () => turns.map(({ role, content }) => ({ role, content }));

async function say() {
  if (going || !taken()) return;
  const messages = conversation();
  const answer = { role: "assistant", content: "" };
  turns.push(answer);
  going = new AbortController();
  draw();
  const place = document.getElementById(`turn-${turns.length - 1}`);
  try {
    for await (const event of events("POST", "/v1/chat/completions", { model, messages, stream: true }, going.signal)) {
      answer.content += event.choices[0]?.delta?.content ?? "";
      if (place) follow(() => (place.textContent = answer.content));
      if (event.choices[0]?.finish_reason === "length") answer.truncated = true;
      if (event.answer_ids) [answer.id] = event.answer_ids;
    }
  } catch (error) {
    if (error.name !== "AbortError") toast(error.message);
    if (!answer.content) turns.pop();
  }
  going = null;
  if (document.getElementById("talk")) draw();
}

function follow(change) {
  // Who reads further up stays there.
  const talk = document.getElementById("talk");
  const isAtEnd = talk && talk.scrollHeight - talk.scrollTop - talk.clientHeight < 40;
  change();
  if (isAtEnd) talk.scrollTop = talk.scrollHeight;
}

async function twice() {
  if (going || !taken()) return;
  going = new AbortController();
  draw();
  try {
    const pair = await ask("POST", "/v1/pairs", { messages: conversation() });
    compare.showFirst(pair);
    location.hash = "#compare";
  } catch (error) {
    toast(error.message);
  }
  going = null;
  if (document.getElementById("talk")) draw();
}

function rate(turn, verdict) {
  turn.rated = verdict;
  outbox.post("/v1/ratings", { answer_id: turn.id, verdict }).done.then((receipt) =>
    toast(receipt?.error ?? "Thank you."));
  draw();
}

function edit(turn, place) {
  const box = element("textarea", { rows: "6", "aria-label": "Edited answer" });
  box.value = turn.content;
  const keep = () => {
    outbox.post("/v1/edits", { answer_id: turn.id, text: box.value }).done.then((receipt) =>
      toast(receipt?.error ?? "Saved: your version counts as better than this answer."));
    turn.content = box.value;
    turn.truncated = false;
    draw();
  };
  const said = document.getElementById(`turn-${place}`);
  while (said.nextElementSibling) said.nextElementSibling.remove();
  said.replaceWith(box,
    element("div", { class: "extras" }, button("Keep my version", "", keep, { class: "primary" }), button("Cancel", "", draw)));
  box.focus();
  box.parentElement.scrollIntoView({ block: "nearest" });
}
