// For who reads: what was learned of the votes, what the gate said of it, which update answers.

import { ask } from "./api.js";
import { bounds, course, legend, percent, shares } from "./charts.js";
import { button, element, fold, keepMoments, moment, redraw, show, toast } from "./dom.js";
import { lineage, scrollToNewest } from "./lineage.js";
import { again } from "./refresh.js";
import { newestStudent, student } from "./students.js";

const PAGE = 100;
const MOST = 1000; // Of what one request brings.
const FIRST = 10; // Updates of a domain that are shown until more are asked for.
const STATES = {
  planned: "planned", learning: "being learned", candidate: "learned, not tested yet", gating: "being tested", waiting: "waits for approval",
  promoted: "answers now", superseded: "answered before", quarantined: "set aside by the gate",
  rolled_back: "rolled back", released: "released", discarded: "discarded",
};
const NOTES = {
  waiting: "It answers once an admin approves it; until then this domain learns nothing more.",
  quarantined: "Its rows are not learned unless an admin says so.",
  rolled_back: "Its rows are not learned again unless an admin says so.",
  released: "Its rows are learned again, in another update.",
  discarded: "Its rows are never learned.",
};
const SERVED = ["promoted", "superseded"];
const SET_ASIDE = ["quarantined", "rolled_back", "waiting"];
const ON_THE_WAY = ["planned", "learning", "candidate", "gating", "waiting"];
const isUsed = (one) => SERVED.includes(one.state) || ON_THE_WAY.includes(one.state);
let visit = 0; // What a request brings after its view was left is not shown.
let stop = () => {};
let admin = false;
let place = null;
let found = null;
let limit = PAGE;
let unsure = null; // { id, decision } that is to be confirmed.
const shown = new Map();

export async function enter(me) {
  const mine = ++visit;
  [admin, found, limit, unsure] = [me.role === "admin", null, PAGE, null];
  place = element("div", { class: "domains" });
  const fault = element("p", { class: "fault", role: "status" });
  const got = await look();
  if (mine !== visit) return;
  show("main", element("h1", {}, "Learning"), fault, place);
  take(got);
  stop = again(refresh, fault, ["updates"]);
}

export function leave() {
  visit += 1;
  stop();
}

async function refresh() {
  const mine = visit;
  const got = await look();
  if (mine === visit) take(got);
}

async function look() {
  const [all, newest] = await Promise.all([ask("GET", `/v1/updates?limit=${limit}`), newestStudent()]);
  return { ...all, newest };
}

function take(got) {
  const same = found && JSON.stringify(got) === JSON.stringify(found);
  found = got;
  if (same) keepMoments(place);
  else draw();
}

function draw() {
  const names = [...new Set([...found.routes, ...found.updates].map((one) => one.domain))].sort();
  redraw(place, names.length ? [student(found.newest, found.routes, admin, wish, STATES), ...names.map(domain)] : nothing());
  scrollToNewest(place);
}

const nothing = () => element("div", { class: "empty" },
  element("h2", {}, "Nothing was learned yet"),
  element("p", {}, "Votes are learned while the server runs with ", element("code", { class: "whole" }, "--learn"), ":"),
  element("p", {}, element("code", {}, "fastslow serve DIR model=path/to/model ", element("span", { class: "whole" }, "--learn"))));

function domain(name) {
  const own = found.updates.filter((one) => one.domain === name);
  const route = found.routes.find((one) => one.domain === name) ?? { domain: name, update_id: null, anchor_id: null };
  const count = shown.get(name) ?? FIRST;
  const older = own.length > count || (found.updates.length === limit && limit < MOST);
  const more = () => attempt(async () => {
    shown.set(name, count + PAGE);
    if (own.length < count + PAGE) limit = Math.min(MOST, limit + PAGE);
  });
  return element("section", { class: "domain", "aria-label": `Domain ${name}` },
    element("h2", {}, name),
    answers(route, own), approval(route), charts(own), lineage(name, own, route.update_id, STATES),
    element("ol", { class: "updates" }, own.slice(0, count).map((one) => card(one, own))),
    older ? button("Show older updates", "", more, { id: `older-${name}`, "aria-label": `Show older updates of ${name}` }) : null,
  );
}

function answers(route, own) {
  const adapter = own.find((one) => one.id === route.update_id)?.adapter;
  const model = route.model ? element("code", {}, route.model) : null;
  if (route.update_id === null) {
    return element("p", {}, "No update answers", ...(model ? [": ", model, " does."] : [" yet."]));
  }
  // The server may be a moment behind, have no model, or not be able to load the adapter.
  if (adapter && adapter !== route.model) {
    return element("p", { class: "behind" }, `Update ${route.update_id} has passed the gate, but this server answers with `, model, ".");
  }
  return element("p", {}, element("b", {}, `Update ${route.update_id} answers now`), ", by the adapter ", model, ".");
}

function approval(route) {
  const { domain: name, update_id: now, anchor_id: approved } = route;
  if (now === null && approved === null) return null;
  const said = approved === null ? "No update was approved yet." : `Update ${approved} is approved.`;
  return element("div", { class: "line" },
    element("span", {}, said, " ", element("span", { class: "hint" }, "Slow drift is measured against what was approved.")),
    admin && now !== null && now !== approved ? button("Approve", "", () => approve(now), {
      class: "small", id: `approve-${name}`, "aria-label": `Approve update ${now} of ${name}` }) : null,
  );
}

function charts(own) {
  const learned = own.filter((one) => Number.isFinite(one.gate?.learned?.accuracy)).reverse();
  if (learned.length < 2) return null;
  const point = (one, value, format) => ({ id: one.id, value, said: format(value), used: isUsed(one), leader: one.gate.learned.leader });
  const right = learned.map((one) => point(one, one.gate.learned.accuracy, percent));
  const losses = learned.map((one) => point(one, one.gate.learned.loss, nats)).filter((one) => Number.isFinite(one.value));
  const kept = learned.flatMap((one) => {
    const numbers = one.gate.checks?.find((check) => check.name === "held-out votes")?.numbers ?? {};
    if (!Number.isFinite(numbers.accuracy)) return [];
    const made = point(one, numbers.accuracy, percent);
    return [{ ...made, line: made.used ? made.value : numbers.before, said: `${made.said}, ${percent(numbers.before)} before` }];
  });
  const values = (points) => points.flatMap((one) => [one.value, one.line ?? one.value]);
  return element("div", {},
    element("div", { class: "charts" },
      course({ caption: "Accuracy on new votes, before they were learned.", name: "Accuracy before learning", points: right, format: percent, ...shares(values(right)) }),
      course({ caption: "Loss on new votes, before they were learned, nats.", name: "Loss before learning", points: losses, format: nats, ...bounds(values(losses)) }),
      course({ caption: "Held-out votes judged right by what answers.", name: "Held-out votes judged right", points: kept, format: percent, ...shares(values(kept)) })),
    legend(right));
}

function card(one, own) {
  const { learned, taught, why } = one.gate ?? {};
  const facts = { rows: learned?.rows.toLocaleString(), "accuracy before": learned && percent(learned.accuracy),
    "loss before": learned && learned.loss.toFixed(3), "led by": learned?.leader,
    "taught by": taught?.teachers.map((id) => `update ${id}`).join(", "),
    "begins at": one.parent === null ? "the base" : `update ${one.parent}` };
  return element("li", { id: `update-${one.id}`, tabindex: "-1", class: isUsed(one) ? null : "branch" },
    element("div", { class: "line" },
      element("h3", {}, `Update ${one.id}`),
      element("span", { class: `state ${one.state}` }, STATES[one.state] ?? one.state),
      moment(one.at),
      unsure?.id === one.id ? null : decisions(one, own),
    ),
    unsure?.id === one.id ? confirmation(one, own) : null,
    element("dl", { class: "facts" }, Object.entries(facts).filter(([, value]) => value !== undefined).map(([name, value]) =>
      element("div", {}, element("dt", {}, name), element("dd", {}, value)))),
    one.gate?.tested === false ? element("p", { class: "why" }, "Not tested on held-out votes: there are too few of them yet.") : null,
    (one.gate?.checks ?? []).filter(asks).map((check) => element("p", { class: "why" }, `${capital(check.said)}.`)),
    one.gate?.fallen ? element("p", { class: "why" }, `Undone by votes: ${one.gate.fallen}.`) : null,
    why ? element("p", { class: "why" }, `Its rows could not be learned: ${why}`) : null,
    NOTES[one.state] ? element("p", { class: "hint" }, NOTES[one.state]) : null,
    folded(`checks-${one.id}`, summary(one.gate?.checks ?? []), one.gate?.checks ?? [], (check) =>
      [element("span", { class: `state mark ${mark(check)}` }, MARKS[mark(check)]), " ", element("b", {}, check.name), `: ${check.said}`]),
    folded(`notes-${one.id}`, "Notes", learned?.notes ?? [], (text) => [text.replace(/^skipped: /, "")]),
  );
}

const MARKS = { passed: "passed", failed: "failed", asks: "asks", untold: "too little to tell" };
const asks = (check) => !check.passed && check.asks === true;
const mark = (check) => (asks(check) ? "asks" : !check.passed ? "failed" : check.applied === false ? "untold" : "passed");

function summary(checks) {
  const of = (kind) => checks.filter((check) => mark(check) === kind);
  const failed = of("failed");
  if (failed.length) return `Gate: ${failed.length} of ${checks.length} checks failed: ${failed.map((check) => check.name).join(", ")}`;
  const untold = of("untold").length;
  const asked = of("asks").length ? `, ${of("asks").map((check) => check.name).join(", ")} asks a person` : "";
  return `Gate: ${of("passed").length} of ${checks.length} checks passed${asked}${untold ? `, ${untold} had too little to tell` : ""}`;
}

function folded(id, title, items, parts) {
  if (!items.length) return null;
  return fold(id, title, element("ul", { class: "checks" }, items.map((item) => element("li", {}, parts(item)))));
}

function decisions(one, own) {
  if (!admin) return null;
  const confirmed = (decision) => () => {
    unsure = { id: one.id, decision };
    draw();
    document.getElementById(`sure-${one.id}`).focus();
  };
  const made = (label, key, act) => button(label, "", act, { class: "small", id: `${key}-${one.id}`, "aria-label": `${label} update ${one.id}` });
  if (SET_ASIDE.includes(one.state)) {
    return element("span", { class: "acts" },
      one.state === "waiting" ? made("Approve", "approve", () => approve(one.id)) : null,
      made("Learn again", "release", () => decide(one, "release")), made("Discard", "discard", confirmed("discard")));
  }
  if (!SERVED.includes(one.state)) return null;
  const before = own.find((other) => other.id === one.parent);
  if (before && before.checkpoint === null) return element("span", { class: "acts hint" }, `update ${before.id} is no longer kept`);
  return element("span", { class: "acts" }, made("Roll back", "rollback", confirmed("rollback")));
}

function confirmation(one, own) {
  const cancel = () => {
    unsure = null;
    draw();
    document.getElementById(`update-${one.id}`)?.focus();
  };
  const { label, said } = question(one, own);
  const { decision } = unsure;
  return element("div", { class: "confirm", role: "group", "aria-label": label, onkeydown: (event) => event.key === "Escape" && cancel() },
    element("p", { id: `question-${one.id}` }, said),
    button(label, "", () => decide(one, decision), { class: "primary", id: `sure-${one.id}`, "aria-describedby": `question-${one.id}` }),
    button("Cancel", "Esc", cancel, { id: `cancel-${one.id}` }));
}

function question(one, own) {
  if (unsure.decision === "discard") {
    return { label: `Discard update ${one.id}`, said: "Its rows will never be learned. This cannot be undone." };
  }
  const later = own.filter((other) => other.id > one.id && SERVED.includes(other.state)).length;
  const also = later ? ` ${later} later ${later === 1 ? "update is undone with it; its" : "updates are undone with it; their"} rows are learned again.` : "";
  const next = one.parent === null ? "No update" : `Update ${one.parent}`;
  return { label: `Roll back update ${one.id}`, said: `${next} will answer at once.${also} The rows of update ${one.id} are not learned again unless you say so.` };
}

function decide(one, decision) {
  return attempt(async () => {
    const said = await ask("POST", `/v1/updates/${one.id}/${decision}`);
    const now = said.update_id === null ? "No update answers now." : `Update ${said.update_id} answers now.`;
    toast({ rollback: `Update ${one.id} was rolled back. ${now}`, release: `The rows of update ${one.id} are learned again.`,
      discard: `Update ${one.id} was discarded.` }[decision]);
  }, `update-${one.id}`);
}

const wish = () => attempt(async () => {
  await ask("POST", "/v1/consolidations");
  toast("A student was asked for. The learner teaches it when it comes to it.");
});

function approve(number) {
  return attempt(async () => {
    const said = await ask("POST", `/v1/updates/${number}/approve`);
    toast(`Update ${said.anchor_id} is approved.`);
  });
}

async function attempt(work, focus = null) {
  const mine = visit;
  try {
    await work();
  } catch (error) {
    toast(error.message);
  }
  unsure = null;
  await refresh().catch((error) => toast(error.message));
  if (mine !== visit) return;
  draw();
  if (focus && document.activeElement === document.body) document.getElementById(focus)?.focus();
}

const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);
const nats = (loss) => loss.toFixed(3);
