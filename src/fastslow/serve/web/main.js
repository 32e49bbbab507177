// Who is here, which view is open, and what holds for all of them.

import { ask, forgetToken, hasToken, keepPerson, keepToken, Offline, Refused, takeTokenFromLink } from "./api.js";
import * as chat from "./chat.js";
import * as compare from "./compare.js";
import { button, element, sentence, show } from "./dom.js";
import * as learning from "./learning.js";
import * as outbox from "./outbox.js";
import * as people from "./people.js";
import * as votes from "./votes.js";

const VIEWS = {
  compare: { title: "Compare", view: compare, roles: ["admin", "annotator", "service"] },
  chat: { title: "Chat", view: chat, roles: ["admin", "annotator", "service"] },
  votes: { title: "Your votes", view: votes, roles: ["admin", "annotator", "service"] },
  learning: { title: "Learning", view: learning, roles: ["admin", "viewer"] },
  people: { title: "People", view: people, roles: ["admin", "viewer"] },
};
let me = null;
let open = null;

async function start() {
  takeTokenFromLink();
  if (!hasToken()) return signIn();
  try {
    me = await ask("GET", "/v1/me");
    keepPerson(me.id);
  } catch (error) {
    return fail(error);
  }
  outbox.flush();
  await go();
}

async function go() {
  if (!me) return;
  const allowed = Object.entries(VIEWS).filter(([, one]) => one.roles.includes(me.role));
  const wanted = location.hash.slice(1);
  const [name, chosen] = allowed.find(([key]) => key === wanted) ?? allowed[0];
  open?.view.leave();
  open = chosen;
  top(allowed, name);
  document.title = `${chosen.title} · fastslow`;
  show("main", element("p", { class: "hint" }, "Loading."));
  try {
    await chosen.view.enter(me);
  } catch (error) {
    if (open === chosen) fail(error);
  }
}

function top(allowed, current) {
  show("top",
    element("b", { class: "brand" }, "fastslow"),
    element("nav", { "aria-label": "Views" }, allowed.map(([key, one]) =>
      element("a", { href: `#${key}`, id: `to-${key}`, "aria-current": key === current ? "page" : null }, one.title),
    )),
    element("span", { class: "who" }, me.name),
    button("Sign out", "", signOut, { class: "small" }),
  );
}

function signOut() {
  forgetToken();
  location.reload(); // Nothing of theirs is left for who comes next.
}

function signIn(text = "") {
  const token = element("input", { type: "password", required: true, autocomplete: "current-password", id: "token" });
  const enter = (event) => {
    event.preventDefault();
    keepToken(token.value);
    location.reload();
  };
  show("main", element("form", { class: "empty", onsubmit: enter },
    element("h1", {}, "Sign in"),
    element("p", {}, text || "Open the link you were given, or paste its token."),
    // Password managers keep a token under a name.
    element("input", { hidden: true, autocomplete: "username", value: "fastslow" }),
    element("label", { for: "token" }, "Token"), token,
    element("button", { class: "primary" }, "Sign in"),
  ));
  token.focus();
}

function fail(error) {
  if (error instanceof Refused && error.status === 401) {
    forgetToken();
    return signIn("This token is not valid, or no longer.");
  }
  show("main", element("div", { class: "empty" },
    element("h1", {}, error instanceof Offline && !error.isReached ? "No connection" : "That did not work"),
    element("p", {}, sentence(error.message)),
    button("Try again", "", start, { class: "primary" }),
  ));
  if (!(error instanceof Offline || error instanceof Refused)) throw error;
}

outbox.onChange((problem) => {
  const count = outbox.count();
  const what = `${count} ${count === 1 ? "vote waits" : "votes wait"} in this browser and will be sent`;
  show("banner", problem && count ? element("p", {}, `${what}: ${problem}.`) : null);
});
addEventListener("hashchange", () => {
  if (location.hash.startsWith("#token=")) location.reload();
  else if (location.hash !== "#main") go();
});
start();
