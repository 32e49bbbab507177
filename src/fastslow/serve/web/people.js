// For admins: what comes in, who agrees, who may ask.

import { ask } from "./api.js";
import { button, drawing, element, redraw, show, toast } from "./dom.js";
import { again } from "./refresh.js";

const ROLES = ["annotator", "viewer", "service", "admin"];
const VERDICTS = { a: "the first is better", tie: "both are equally good", both_bad: "both are bad" };
let visit = 0; // What a request brings after its view was left is not shown.
let stop = () => {};
let link = null;
let isLinkNew = false;
let figures = null;
let drawn = "";
let unsure = null; // Whose votes are to be forgotten, if that is confirmed.

export async function enter() {
  const mine = ++visit;
  figures = element("div", { class: "figures" });
  drawn = "";
  const fault = element("p", { class: "fault", role: "status" });
  const found = await ask("GET", "/v1/statistics");
  if (mine !== visit) return;
  // Forms are drawn once: what somebody has begun to write stays.
  show("main", element("h1", {}, "Votes and people"), fault, figures, addForm(), goldForm(), exported());
  draw(found);
  stop = again(refresh, fault);
}

export function leave() {
  visit += 1;
  stop();
  link = null;
}

async function refresh() {
  const mine = visit;
  const found = await ask("GET", "/v1/statistics");
  if (mine === visit) draw(found);
}

function draw(all) {
  // A link that is being marked to be copied stays marked.
  const now = JSON.stringify([all, link, unsure]);
  if (now === drawn) return;
  drawn = now;
  const { counts: found, hourly, people } = all;
  const total = Object.values(found.sent).reduce((sum, one) => sum + one, 0);
  const tiles = { votes: total, "rows to learn": found.rows, "held out": found.held_out, waiting: found.waiting,
    "open pairs": found.open_pairs, refused: found.refused, "taken back": found.retracted };
  redraw(figures,
    element("dl", { class: "tiles" }, Object.entries(tiles).map(([name, value]) =>
      element("div", {}, element("dt", {}, name), element("dd", {}, value.toLocaleString())),
    )),
    element("section", {}, element("h2", {}, "Last 24 hours"), bars(hourly)),
    element("section", {}, element("h2", {}, "People"), table(people)),
    link ? element("p", { class: "link" }, `Give ${link.name} this link; it is shown once: `, element("code", {}, link.url)) : null,
  );
  if (link && isLinkNew) figures.lastChild.scrollIntoView({ block: "nearest" });
  isLinkNew = false;
}

const exported = () => element("section", {}, element("h2", {}, "Export"),
  element("p", {}, "All training rows so far, one JSON object a line, in TRL's columns. "),
  button("Download votes.jsonl", "", download, { class: "primary" }));

function bars(hourly) {
  const most = Math.max(...hourly, 1);
  const said = `Votes by hour, the last ${hourly.at(-1)}, at most ${most}`;
  const facts = { viewBox: "0 0 240 60", preserveAspectRatio: "none", role: "img", class: "bars", "aria-label": said };
  return drawing("svg", facts, hourly.map((count, hour) => {
    const height = Math.max(1, (56 * count) / most);
    return drawing("rect", { x: hour * 10 + 1, y: 60 - height, width: 8, height });
  }));
}

function table(people) {
  const heads = ["name", "role", "votes", "agrees with others", "gold right", "left", "seconds", ""];
  const share = (part, whole) => (whole ? `${Math.round((100 * part) / whole)} % of ${whole}` : "–");
  return element("div", { class: "scroll", tabindex: "0" }, element("table", {},
    element("thead", {}, element("tr", {}, heads.map((head) => element("th", { scope: "col" }, head)))),
    element("tbody", {}, people.map((one) => element("tr", { class: one.disabled ? "off" : "" },
      element("th", { scope: "row" }, one.name),
      cell("role", one.role), cell("votes", one.sent), cell("agrees with others", share(one.agreed, one.shared)),
      cell("gold right", share(one.gold_right, one.gold)), cell("left", share(one.left, one.decided)),
      cell("seconds", one.median_seen_s === null ? "–" : one.median_seen_s.toFixed(1)),
      element("td", {}, button("New link", "", () => renew(one), { class: "small", id: `renew-${one.id}`, "aria-label": `New link for ${one.name}` }),
        button(one.disabled ? "Enable" : "Disable", "", () => enable(one), { class: "small", id: `enable-${one.id}`, "aria-label": `${one.disabled ? "Enable" : "Disable"} ${one.name}` }),
        one.disabled && one.sent ? forgetting(one) : null),
    ))),
  ));
}

const cell = (head, value) => element("td", { "data-head": head }, String(value));

function addForm() {
  const name = element("input", { name: "name", required: true, maxlength: "200", autocomplete: "off" });
  const role = element("select", { name: "role" }, ROLES.map((one) => element("option", {}, one)));
  const add = async (event) => {
    event.preventDefault();
    await attempt(async () => {
      const made = await ask("POST", "/v1/people", { name: name.value.trim(), role: role.value });
      give(made.name, made.token);
      event.target.reset();
    });
  };
  return element("form", { class: "extras", onsubmit: add },
    element("label", {}, "Name ", name), element("label", {}, "Role ", role),
    element("button", { class: "primary" }, "Add somebody"));
}

function goldForm() {
  const text = (rows) => element("textarea", { required: true, rows });
  const prompt = text("2"), first = text("3"), second = text("3");
  const verdict = element("select", {}, Object.entries(VERDICTS).map(([value, said]) => element("option", { value }, said)));
  const add = async (event) => {
    event.preventDefault();
    await attempt(async () => {
      const answers = [{ text: first.value }, { text: second.value }];
      await ask("POST", "/v1/pairs", { prompt: prompt.value, answers, gold_verdict: verdict.value, needs: 100 });
      event.target.reset();
      toast("Added. One pair in twenty will be a gold question.");
    });
  };
  return element("section", {}, element("h2", {}, "Gold questions"),
    element("p", {}, "Pairs whose answer you know. They come among the others, show how reliable somebody is, and are never learned from."),
    element("form", { class: "gold", onsubmit: add },
      element("label", {}, "Prompt ", prompt), element("label", {}, "First answer ", first), element("label", {}, "Second answer ", second),
      element("label", {}, "Verdict ", verdict), element("button", { class: "primary" }, "Add a gold question")));
}

const renew = (one) => attempt(async () => {
  const made = await ask("POST", `/v1/people/${one.id}/token`);
  give(one.name, made.token);
});

function give(name, token) {
  link = { name, url: `${location.origin}/#token=${token}` };
  isLinkNew = true;
}

// Offered for who is disabled, so that it takes two decisions; the first click says what it does.
const forgetting = (one) => (unsure === one.id
  ? button("Forget for good", "", () => forget(one), { class: "small", id: `forget-${one.id}`, "aria-label": `Forget the votes of ${one.name} for good` })
  : button("Forget votes", "", () => askFirst(one), { class: "small", id: `forget-${one.id}`, "aria-label": `Forget the votes of ${one.name}` }));

const askFirst = (one) => attempt(async () => {
  unsure = one.id;
  toast(`All votes of ${one.name} are taken back, and what has learned from them is learned again without. This cannot be undone.`);
});

const forget = (one) => attempt(async () => {
  unsure = null;
  const done = await ask("POST", `/v1/people/${one.id}/forget`);
  toast(`Taken back: ${done.votes} of the votes of ${one.name}. Learned again without them: ${done.updates.length} updates.`);
});

const enable = (one) => attempt(() => ask("PUT", `/v1/people/${one.id}/enabled`, { enabled: one.disabled }));

async function attempt(work) {
  try {
    await work();
  } catch (error) {
    toast(error.message);
  }
  await refresh().catch((error) => toast(error.message));
}

const download = () => attempt(async () => {
  const lines = [];
  let page = { cursor: 0, more: true };
  while (page.more) {
    page = await ask("GET", `/v1/export?after=${page.cursor}`);
    lines.push(...page.rows.map((row) => `${JSON.stringify(row)}\n`));
  }
  const url = URL.createObjectURL(new Blob(lines, { type: "application/jsonl" }));
  element("a", { href: url, download: "votes.jsonl" }).click();
  URL.revokeObjectURL(url);
  toast(`${lines.length} ${lines.length === 1 ? "row" : "rows"}.`);
});
