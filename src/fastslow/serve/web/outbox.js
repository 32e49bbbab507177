// What was voted and not yet acknowledged. It outlives the page; the same key is never two votes.

import { ask, Offline, person, Refused } from "./api.js";

const PLACE = "fastslow-outbox";
let sending = null;
let listener = () => {};

const waiting = () => JSON.parse(localStorage.getItem(PLACE) || "[]");
const keep = (all) => localStorage.setItem(PLACE, JSON.stringify(all));
const without = (key) => waiting().filter((item) => item.key !== key);
const of = (key) => waiting().find((item) => item.key === key);
const own = () => waiting().filter((item) => item.who === person()); // Others' wait until they are here.

export const onChange = (tell) => (listener = tell);
export const count = () => own().filter((item) => !item.undone).length;
export const newKey = () => crypto.randomUUID?.() ?? randomKey();

function randomKey() {
  // Where a page came over plain HTTP from elsewhere, there is no randomUUID.
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

export function post(path, body) {
  const item = { path, body, key: newKey(), who: person() };
  return { item, done: put(item) };
}

export async function takeBack(item) {
  // What the server makes of it; null where it cannot be reached, and is told as soon as it can.
  const waits = of(item.key);
  if (!waits || waits.tried) return put({ ...item, undone: true }); // It may be there, also if no reply came.
  keep(without(item.key));
  listener(null);
  return { retracted: true };
}

function put(item) {
  keep([...without(item.key), item]);
  return flush().then((receipts) => receipts[item.key] ?? null);
}

export function flush() {
  if (!own().length) return Promise.resolve({});
  sending ??= sendAll();
  return sending;
}

async function sendAll() {
  const receipts = {};
  try {
    while (own().length) {
      const [item] = own();
      receipts[item.key] = await sendOne(item);
      keep(without(item.key));
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
  keep(waiting().map((item) => (item.key === key ? { ...item, tried: true } : item)));
  try {
    const receipt = await ask("POST", path, body, { "Idempotency-Key": key });
    // Only its receipt says what is to be taken back, and it may have been lost the first time.
    return of(key)?.undone ? await ask("DELETE", `/v1/votes/${receipt.id}`) : receipt;
  } catch (error) {
    // With another token it may be taken; anything else that is refused will be refused again.
    if (!(error instanceof Refused) || error.status === 401) throw error;
    return { error: error.message };
  }
}

addEventListener("online", flush);
setInterval(flush, 5000);
