// Elements from data. Text is always text; `html` takes what the server has made safe.

export function element(name, facts = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(facts)) {
    if (value === false || value === null || value === undefined) continue;
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (key === "html") made.innerHTML = value;
    else if (value === true) made.setAttribute(key, "");
    else made.setAttribute(key, value);
  }
  made.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return made;
}

export function drawing(name, facts = {}, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(facts)) made.setAttribute(key, value);
  made.append(...children.flat(2).filter((child) => child !== null));
  return made;
}

export function show(place, ...children) {
  redraw(document.getElementById(place), ...children);
}

export function redraw(place, ...children) {
  // Who is at something with an id stays there.
  const at = place.contains(document.activeElement) ? document.activeElement.id : "";
  place.replaceChildren(...children.flat().filter(Boolean));
  if (at) document.getElementById(at)?.focus({ preventScroll: true });
}

export function button(label, key, act, facts = {}) {
  const shown = key ? [element("kbd", {}, key), " "] : [];
  return element("button", { type: "button", onclick: act, ...facts }, shown, label);
}

const unfolded = new Set();

export function fold(id, title, ...children) {
  // Stays open when it is drawn again.
  const keep = (event) => (event.target.open ? unfolded.add(id) : unfolded.delete(id));
  return element("details", { open: unfolded.has(id), ontoggle: keep }, element("summary", { id }, title), ...children);
}

export function cutOff(truncated) {
  return truncated ? element("p", { class: "hint" }, "This answer was cut off at its limit.") : null;
}

export function sentence(text) {
  // Of a message that begins small and has no stop.
  return `${text.charAt(0).toUpperCase()}${text.slice(1).replace(/[.!?]$/, "")}.`;
}

let toastEnds = 0;

export function toast(text, action = null) {
  clearTimeout(toastEnds);
  show("toast", element("div", {}, text, " ", action));
  toastEnds = setTimeout(() => show("toast"), 6000);
}

export function ago(seconds) {
  const passed = Math.max(0, Date.now() / 1000 - seconds);
  for (const [length, name] of [[86400, "day"], [3600, "hour"], [60, "minute"]]) {
    const count = Math.floor(passed / length);
    if (count >= 1) return `${count} ${name}${count === 1 ? "" : "s"} ago`;
  }
  return "just now";
}

export function moment(seconds) {
  const at = new Date(1000 * seconds);
  return element("time", { datetime: at.toISOString(), title: at.toLocaleString(), "data-at": seconds }, ago(seconds));
}

export function keepMoments(place) {
  for (const one of place.querySelectorAll("time[data-at]")) one.textContent = ago(Number(one.dataset.at));
}
