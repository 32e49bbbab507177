// For who reads: what comes in, where people differ; for admins: who may ask.

import { ask } from "./api.js";
import { hours } from "./charts.js";
import { button, element, fold, keepMoments, moment, redraw, sentence, show, toast } from "./dom.js";
import { again } from "./refresh.js";
import { compared } from "./votes.js";

const ROLES = ["annotator", "viewer", "service", "admin"];
const VERDICTS = { a: "the first is better", tie: "both are equally good", both_bad: "both are bad" };
const SAID = { a: "A is better", tie: "equally good", both_bad: "both bad", b: "B is better" };
const OLD = 5; // Seconds that figures wait for others before it is said how old they are.
let visit = 0; // What a request brings after its view was left is not shown.
let stop = () => {};
let link = null;
let isLinkNew = false;
let admin = false;
let figures = null;
let drawn = "";
let unsure = null; // Whose votes are to be forgotten, if that is confirmed.

export async function enter(me) {
  const mine = ++visit;
  admin = me.role === "admin";
  figures = element("div", { class: "figures" });
  drawn = "";
  const fault = element("p", { class: "fault", role: "status" });
  const found = await ask("GET", "/v1/statistics");
  if (mine !== visit) return;
  // Forms are drawn once: what somebody has begun to write stays.
  show("main", element("h1", {}, "Votes and people"), fault, figures, ...(admin ? [addForm(), goldForm()] : []), exported());
  draw(found);
  stop = again(refresh, fault, ["votes", "people"]);
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
  return found.again_in_s;
}

function draw(all) {
  // A link that is being marked to be copied stays marked.
  const { at, again_in_s: wait, ...same } = all;
  const isOld = wait > OLD;
  const now = JSON.stringify([same, isOld, link, unsure]);
  if (now === drawn) return keepMoments(figures);
  drawn = now;
  const { counts: found, hourly, people, disagreement, remarks, held_back: held } = all;
  const total = Object.values(found.sent).reduce((sum, one) => sum + one, 0);
  const tiles = { votes: total, "rows to learn": found.rows, "held out": found.held_out, waiting: found.waiting,
    "open pairs": found.open_pairs, refused: found.refused, "taken back": found.retracted };
  redraw(figures,
    isOld ? element("p", { class: "hint" }, "Counted ", moment(at), "; there are newer votes, but counting takes a while.") : null,
    element("dl", { class: "tiles" }, Object.entries(tiles).map(([name, value]) =>
      element("div", {}, element("dt", {}, name), element("dd", {}, value.toLocaleString())),
    )),
    element("section", {}, element("h2", {}, "Votes per hour"), hours(hourly, at)),
    differing(disagreement),
    waiting(held),
    unusual(remarks),
    element("section", {}, element("h2", {}, "People"), table(people)),
    link ? element("p", { class: "link" }, `Give ${link.name} this link; it is shown once: `, element("code", {}, link.url)) : null,
  );
  if (link && isLinkNew) figures.lastChild.scrollIntoView({ block: "nearest" });
  isLinkNew = false;
}

function differing({ shared, differ, pairs }) {
  const said = shared ? `People differ on ${differ} of ${shared} pairs that several voted on.`
    : "No pair was voted on by several people yet.";
  return element("section", {}, element("h2", {}, "Where people differ"), element("p", {}, said),
    pairs.length ? fold("differ", pairs.length === 1 ? "This pair" : `The ${pairs.length} on which they differ most`,
      element("ol", { class: "votes" }, pairs.map((one) => element("li", {},
        element("div", { class: "line" },
          Object.keys(SAID).filter((verdict) => one.verdicts[verdict]).map((verdict) =>
            element("span", { class: "state" }, `${one.verdicts[verdict]} × ${SAID[verdict]}`)),
          element("span", { class: "hint" }, `pair ${one.pair_id}, ${one.domain}`)),
        compared(`differ-${one.pair_id}`, one.prompt, [one.a, one.b]))))) : null);
}

function unusual(remarks) {
  if (!remarks.length) return null;
  return element("section", {}, element("h2", {}, "Votes worth a look"),
    element("p", {}, "These differ from chance. The numbers do not show why: an unusual taste, harder pairs or a misunderstanding look the same."),
    element("ul", { class: "votes" }, remarks.map((one) => element("li", {}, element("b", {}, one.name),
      element("ul", { class: "checks" }, one.said.map((said) => element("li", {}, sentence(said))))))));
}

function waiting(held) {
  if (!held.length) return null;
  return element("section", {}, element("h2", {}, "Rows that are held back"),
    element("p", {}, "They are from people who stand out from the others, or are new; the reason is given. They are learned once an admin lets them through; newcomers' rows also once there are enough to tell."),
    element("ul", { class: "votes" }, held.map((one, place) => element("li", {},
      element("div", { class: "line" },
        element("b", {}, one.name),
        element("span", { class: "state" }, `${one.rows} ${one.rows === 1 ? "row" : "rows"}`),
        element("span", { class: "hint" }, one.domain),
        admin ? button("Let through", "", () => letThrough(one), { class: "small", id: `let-${place}`, "aria-label": `Let the rows of ${one.name} through` }) : null),
      element("p", {}, sentence(one.said))))));
}

const exported = () => element("section", {}, element("h2", {}, "Export"),
  element("p", {}, "All training rows so far, one JSON object per line, in TRL's columns. "),
  button("Download votes.jsonl", "", download, { class: "primary" }));

function table(people) {
  const heads = ["name", "role", "votes", "agrees with others", "gold right", "left", "seconds", ...(admin ? [""] : [])];
  const share = (part, whole) => (whole ? `${Math.round((100 * part) / whole)} % of ${whole}` : "–");
  return element("div", { class: "scroll", tabindex: "0" }, element("table", {},
    element("thead", {}, element("tr", {}, heads.map((head) => element("th", { scope: "col" }, head)))),
    element("tbody", {}, people.map((one) => element("tr", { class: one.disabled ? "off" : "" },
      element("th", { scope: "row" }, one.name),
      cell("role", one.role), cell("votes", one.sent), cell("agrees with others", share(one.agreed, one.shared)),
      cell("gold right", share(one.gold_right, one.gold)), cell("left", share(one.left, one.decided)),
      cell("seconds", one.median_seen_s === null ? "–" : one.median_seen_s.toFixed(1)),
      admin ? acts(one) : null,
    ))),
  ));
}

const acts = (one) => element("td", {},
  button("New link", "", () => renew(one), { class: "small", id: `renew-${one.id}`, "aria-label": `New link for ${one.name}` }),
  button(one.disabled ? "Enable" : "Disable", "", () => enable(one), { class: "small", id: `enable-${one.id}`, "aria-label": `${one.disabled ? "Enable" : "Disable"} ${one.name}` }),
  one.disabled && one.sent ? forgetting(one) : null);

const cell = (head, value) => element("td", { "data-head": head, class: value === "–" ? "none" : null }, String(value));

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
    element("button", { class: "primary" }, "Add person"));
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
    element("p", {}, "Pairs whose answer you know. They are mixed with the others, show how reliable somebody is, and are never learned from."),
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
  toast(`All votes of ${one.name} are taken back, and updates that learned from them are learned again without them. This cannot be undone.`);
});

const forget = (one) => attempt(async () => {
  unsure = null;
  const done = await ask("POST", `/v1/people/${one.id}/forget`);
  toast(`Taken back: ${done.votes} of the votes of ${one.name}. Learned again without them: ${done.updates.length} updates.`);
});

const letThrough = (one) => attempt(async () => {
  const done = await ask("POST", `/v1/people/${one.voter}/let-through`);
  toast(`${done.rows} ${done.rows === 1 ? "row" : "rows"} of ${one.name} will be learned. What comes later may be held back again.`);
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
