// One student of what answers in all domains: asked for by an admin, and what has become of it.

import { ask } from "./api.js";
import { button, element, moment } from "./dom.js";

const FEWEST = 2; // Domains in which an update must answer.

export const newestStudent = async () => (await ask("GET", "/v1/consolidations?limit=1")).consolidations[0] ?? null;

export function student(one, routes, admin, wish, states) {
  // `wish` asks for one. Nothing is shown where there are too few domains and never was a student.
  const teachers = routes.filter((route) => route.update_id !== null);
  if (!one && teachers.length < FEWEST) return null;
  return element("section", { class: "student", "aria-label": "One adapter for all domains" },
    element("h2", {}, "One adapter for all domains"),
    element("p", {}, "A student learns from what answers in each domain. Like every update it must pass each domain's gate, and can be rolled back there."),
    one ? become(one, states) : null,
    admin && teachers.length >= FEWEST && !underway(one)
      ? button("Teach one student", "", wish, { id: "student", "aria-label": `Teach one student of ${teachers.map((route) => route.domain).join(", ")}` }) : null);
}

function become(one, states) {
  const waits = one.why ? `It waits: ${one.why}.` : "It waits for the learner.";
  return element("div", {},
    element("p", {}, element("b", {}, "The last one "), "was asked for ", moment(one.at), ". ", one.state === "wanted" ? waits : null),
    one.updates.length ? element("ul", { class: "votes" }, one.updates.map((update) => element("li", {}, element("div", { class: "line" },
      element("b", {}, update.domain), element("span", {}, `update ${update.id}`),
      element("span", { class: `state ${update.state}` }, states[update.state] ?? update.state))))) : null);
}

const UNDECIDED = ["planned", "learning", "candidate", "gating"];
const underway = (one) => one !== null && (one.state === "wanted" || one.updates.some((update) => UNDECIDED.includes(update.state)));
