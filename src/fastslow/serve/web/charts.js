// Pictures of numbers; each says in words what it shows.

import { drawing, element } from "./dom.js";

export const percent = (share) => `${Math.round(100 * share)} %`;
const EDGE = 6; // Of a hundred, free above and below a line.

export function course({ caption, name, points, format, low, high }) {
  // A line through `line` of each point, where there is one, else `value`; marks at the values.
  if (points.length < 2) return null;
  const height = (value) => EDGE + (100 - 2 * EDGE) * (1 - (value - low) / (high - low));
  const across = (step) => EDGE + ((400 - 2 * EDGE) * step) / (points.length - 1);
  const line = points.map((one, step) => `${across(step)} ${height(one.line ?? one.value)}`);
  const [first, last] = [points[0], points.at(-1)];
  const values = points.map((one) => one.value);
  const said = `${name}: ${format(first.value)} at update ${first.id}, ${format(last.value)} at update ${last.id}, ` +
    `from ${format(Math.min(...values))} to ${format(Math.max(...values))} over ${points.length} updates`;
  return element("figure", { class: "chart" },
    element("figcaption", {}, caption),
    scale([high, (low + high) / 2, low].map(format)),
    drawing("svg", { viewBox: "0 0 400 100", preserveAspectRatio: "none", role: "img", "aria-label": said },
      grid(400),
      drawing("path", { class: "course", d: `M${line.join("L")}` }),
      points.map((one, step) => mark(one, `${across(step)} ${height(one.value)}`, `Update ${one.id}: ${one.said}`))),
    ends(`update ${first.id}`, `update ${last.id}`),
  );
}

export function bounds(values) {
  // Between which values that have no end of their own are drawn.
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const room = (high - low || Math.abs(high) || 1) / 20;
  return { low: low - room, high: high + room };
}

export function shares(values) {
  // The same for shares: half is always to be seen, as it is what chance gives.
  return { low: Math.min(0.5, Math.floor(10 * Math.min(...values)) / 10), high: 1 };
}

function mark({ leader, used }, at, title = null) {
  // Lines of no length: their ends keep their shape however the picture is stretched.
  const shape = leader === "slow" ? "square" : "";
  return [
    drawing("path", { class: `dot ${shape} ${used ? "" : "ring"}`, d: `M${at}h0` }, title && drawing("title", {}, title)),
    used ? null : drawing("path", { class: `hole ${shape}`, d: `M${at}h0` }),
  ];
}

export function legend(points) {
  const leaders = [...new Set(points.map((one) => one.leader))].sort();
  const kinds = leaders.map((leader) => [{ leader, used: true }, `led by ${leader}`]);
  if (points.some((one) => !one.used)) kinds.push([{ leader: leaders[0], used: false }, "hollow: not in use"]);
  return element("ul", { class: "legend" }, kinds.map(([one, said]) => element("li", {},
    drawing("svg", { viewBox: "0 0 20 20", "aria-hidden": "true" }, mark(one, "10 10")), said)));
}

export function hours(counts, until) {
  // How much came in each of the hours before a time, Unix seconds.
  const most = Math.max(...counts, 1);
  const total = counts.reduce((sum, one) => sum + one, 0);
  const said = `Votes in each of the last ${counts.length} hours: ${total.toLocaleString()} in all, at most ` +
    `${Math.max(...counts).toLocaleString()} an hour, ${counts.at(-1).toLocaleString()} in the last one`;
  const clock = (hour) => new Date(1000 * (until - 3600 * (counts.length - hour))).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
  const width = 400 / counts.length;
  return element("figure", { class: "chart" },
    element("figcaption", {}, `${total.toLocaleString()} in all, ${counts.at(-1).toLocaleString()} in the last hour.`),
    scale([most.toLocaleString(), "", "0"]),
    drawing("svg", { viewBox: "0 0 400 100", preserveAspectRatio: "none", role: "img", "aria-label": said },
      grid(400, [EDGE, 100 - EDGE]),
      counts.map((count, hour) => {
        const height = ((100 - 2 * EDGE) * count) / most;
        return drawing("rect", { class: "bar", x: hour * width + 1, y: 100 - EDGE - height, width: width - 2, height },
          drawing("title", {}, `${clock(hour)} to ${clock(hour + 1)}: ${count.toLocaleString()}`));
      })),
    ends(`${counts.length} hours ago`, "now"),
  );
}

const scale = (texts) => element("div", { class: "scale", "aria-hidden": "true" }, texts.map((one) => element("span", {}, one)));
const grid = (width, heights = [EDGE, 50, 100 - EDGE]) => heights.map((height) => drawing("path", { class: "grid", d: `M0 ${height}H${width}` }));
const ends = (first, last) => element("div", { class: "ends", "aria-hidden": "true" }, element("span", {}, first), element("span", {}, last));
