// What was voted and not yet acknowledged. It outlives the page; the same key is never two votes.

import { ask, Offline, Refused } from "./api.js";

const PLACE = "fastslow-outbox";
let sending = null;
let listener = () => {};

const waiting = () => JSON.parse(localStorage.getItem(PLACE) || "[]");
const keep = (all) => localStorage.setItem(PLACE, JSON.stringify(all));

export const onChange = (tell) => (listener = tell);
export const count = () => waiting().length;
export const newKey = () => crypto.randomUUID?.() ?? randomKey();

function randomKey() {
  // Where a page came over plain HTTP from elsewhere, there is no randomUUID.
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

export function post(path, body) {
  const item = { path, body, key: newKey() };
  keep([...waiting(), item]);
  return { key: item.key, done: flush().then((receipts) => receipts[item.key] ?? null) };
}

export function drop(key) {
  keep(waiting().filter((item) => item.key !== key));
  listener(null);
}

export function flush() {
  if (!count()) return Promise.resolve({});
  sending ??= sendAll();
  return sending;
}

async function sendAll() {
  const receipts = {};
  try {
    while (waiting().length) {
      const [item] = waiting();
      receipts[item.key] = await sendOne(item);
      keep(waiting().filter((one) => one.key !== item.key));
    }
    listener(null);
  } catch (error) {
    if (!(error instanceof Offline || error instanceof Refused)) throw error;
    listener(error.message);
  } finally {
    sending = null; // At once: what comes from now on is sent by another call.
  }
  return receipts;
}

async function sendOne({ path, body, key }) {
  try {
    return await ask("POST", path, body, { "Idempotency-Key": key });
  } catch (error) {
    // With another token it may be taken; anything else that is refused will be refused again.
    if (!(error instanceof Refused) || error.status === 401) throw error;
    return { error: error.message };
  }
}

addEventListener("online", flush);
setInterval(() => count() && flush(), 5000);
