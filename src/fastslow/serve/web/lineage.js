// Which update begins where: a picture of updates in a row, with lines from each to its parent.

import { drawing, element } from "./dom.js";

const STEP = 44; // Between two updates.
const LANE = 46; // Between what answers, or did, and what branches off.
const DEEPEST = 3;
const TOP = 22;
const SHAPES = {
  now: { label: "answers now", draw: () => [circle(13, "halo"), circle(9, "full")] },
  before: { label: "answered before", draw: () => [circle(9, "full pale")] },
  way: { label: "on the way", draw: () => [circle(9, "open dashed")] },
  waiting: { label: "waits for approval", draw: () => [path("M0 -11L11 0L0 11L-11 0Z", "open warn")] },
  quarantined: { label: "set aside by the gate", draw: () => [path("M-9 -9H9V9H-9Z", "open warn")] },
  rolled_back: { label: "rolled back", draw: () => [path("M9 -10V10L-10 0Z", "open warn")] },
  released: { label: "released", draw: () => [circle(7, "open")] },
  discarded: { label: "discarded", draw: () => [path("M-7 -7L7 7M7 -7L-7 7", "open")] },
  base: { label: "the base", draw: () => [path("M-9 0H9M0 -9V9", "open")] },
};
const KINDS = { promoted: "now", superseded: "before", waiting: "waiting", quarantined: "quarantined", rolled_back: "rolled_back",
  released: "released", discarded: "discarded" };
const LAST = 200; // Updates that are drawn.
const MOST_SAID = 12; // Updates that are named one by one to who cannot see them.
const scrolled = new Map();

const circle = (r, kind) => drawing("circle", { r, class: kind });
const path = (d, kind) => drawing("path", { d, class: kind });
const kindOf = (one) => KINDS[one.state] ?? "way";

export function lineage(name, updates, now, states) {
  // Of updates of a domain, the newest first; `now` answers, null where the base does.
  if (!updates.length) return null;
  const nodes = placed(updates.slice(0, LAST), now);
  const lanes = 1 + Math.max(...nodes.map((one) => one.lane));
  const [width, height] = [(nodes.length - 1) * STEP + 52, TOP + (lanes - 1) * LANE + 38];
  const kinds = Object.keys(SHAPES).filter((kind) => nodes.some((one) => one.kind === kind));
  const picture = drawing("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": inWords(nodes, states) },
    nodes.map((one) => edge(one, nodes)),
    nodes.map((one) => drawing("g", { class: "node", transform: `translate(${one.x} ${one.y})` },
      SHAPES[one.kind].draw(), drawing("text", { y: 28, "text-anchor": "middle" }, one.id ?? "base"),
      drawing("title", {}, sentence(one, states)))));
  const frame = element("div", { class: "lineage", tabindex: "0", role: "group", "aria-label": `Lineage of ${name}`,
    "data-name": name, onscroll: keep }, picture);
  return element("figure", { class: "chart wide" },
    element("figcaption", {}, updates.length > LAST ? `Which update begins where, of the last ${LAST}.` : "Which update begins where."),
    frame,
    element("ul", { class: "legend" }, kinds.map((kind) => element("li", {},
      drawing("svg", { viewBox: "-14 -14 28 28", "aria-hidden": "true", class: "node" }, SHAPES[kind].draw()), SHAPES[kind].label))),
  );
}

export function scrollToNewest(place) {
  // Once they are in the page; who has scrolled back stays there.
  for (const one of place.querySelectorAll(".lineage")) one.scrollLeft = one.scrollWidth - (scrolled.get(one.dataset.name) ?? 0);
}

function keep({ target }) {
  const isAtEnd = target.scrollWidth - target.clientWidth - target.scrollLeft < STEP / 2;
  if (isAtEnd) scrolled.delete(target.dataset.name);
  else scrolled.set(target.dataset.name, target.scrollWidth - target.scrollLeft);
}

function placed(updates, now) {
  // In order, each with its place. What leads to what answers lies in the first lane, and what began
  // there and went another way lies below.
  const all = [...updates].sort((one, other) => one.id - other.id);
  const byId = new Map(all.map((one) => [one.id, { id: one.id, parent: one.parent, state: one.state, kind: kindOf(one) }]));
  const nodes = [...byId.values()];
  const isFirst = all[0].parent === null;
  if (isFirst) nodes.unshift({ id: null, parent: undefined, state: "base", kind: "base" });
  const main = new Set();
  for (let id = now; byId.has(id); id = byId.get(id).parent) main.add(id);
  const newest = new Map(nodes.map((one) => [one.parent, one.id])); // The last one that begins at each.
  const lanes = new Map([[null, 0]]);
  nodes.forEach((one, step) => {
    const above = lanes.get(one.parent) ?? 0;
    const goesOn = above === 0 ? main.has(one.id) || ["way", "waiting"].includes(one.kind) : newest.get(one.parent) === one.id;
    one.lane = one.kind === "base" || main.has(one.id) ? 0 : Math.min(DEEPEST, goesOn ? above : above + 1);
    lanes.set(one.id, one.lane);
    [one.x, one.y] = [26 + step * STEP, TOP + one.lane * LANE];
  });
  return nodes;
}

function edge(one, nodes) {
  if (one.kind === "base") return null;
  const parent = nodes.find((other) => other.id === one.parent);
  const used = ["now", "before"].includes(one.kind) ? "edge used" : "edge";
  if (!parent) return path(`M0 ${one.y}H${one.x}`, `${used} far`); // Older than what is shown.
  const turn = one.x - STEP;
  const down = one.y === parent.y ? `H${one.x}` : `H${turn}C${turn + STEP / 2} ${parent.y} ${turn + STEP / 4} ${one.y} ${one.x} ${one.y}`;
  return path(`M${parent.x} ${parent.y}${down}`, used);
}

const origin = (one) => (one.parent === null ? "the base" : `update ${one.parent}`);
const sentence = (one, states) => (one.kind === "base" ? "The base" : `Update ${one.id} begins at ${origin(one)}: ${states[one.state]}`);

function inWords(nodes, states) {
  const own = nodes.filter((one) => one.kind !== "base").reverse();
  const said = own.slice(0, MOST_SAID).map((one) => sentence(one, states));
  if (own.length > MOST_SAID) said.push(`Before them: ${own.length - MOST_SAID} more`);
  return `${said.join(". ")}.`;
}
