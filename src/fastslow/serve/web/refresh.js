// Looks at something when the server says that it has changed, while somebody can see it.

import { events, Offline, Refused } from "./api.js";

const PAUSES = [1, 30]; // Seconds before the page connects again: the first, which doubles, and the longest.
const SILENCE = 40_000; // The server says every 15 seconds that it is there.
const APART = 1000; // Between two looks, however much changes.
const EVERY = 60_000; // A look in any case, as times pass.
const isExpected = (error) => error instanceof Offline || error instanceof Refused || error.name === "AbortError";

export function again(look, fault, kinds) {
  // `look` may give seconds after which to look once more. `fault` says whether what is shown is old.
  // Calling what this returns ends it.
  let stream = null; // What ends the one that is open.
  let pause = PAUSES[0];
  let [wanted, running, ended] = [false, false, false];
  const timers = { connect: 0, look: 0 };
  const after = (name, act, seconds) => {
    clearTimeout(timers[name]);
    timers[name] = setTimeout(act, 1000 * seconds);
  };

  async function run() {
    wanted = true;
    if (running) return;
    running = true;
    while (wanted && !ended && !document.hidden) {
      wanted = false;
      try {
        const seconds = await look();
        if (seconds) after("look", run, seconds);
        if (stream) [fault.textContent, pause] = ["", PAUSES[0]];
      } catch (error) {
        fail(error);
      }
      await new Promise((done) => setTimeout(done, APART));
    }
    running = false;
  }

  async function connect() {
    clearTimeout(timers.connect);
    if (stream || ended || document.hidden) return;
    const mine = (stream = new AbortController());
    let silence = 0;
    const alive = () => {
      clearTimeout(silence);
      silence = setTimeout(() => mine.abort(), SILENCE);
    };
    let why = new Offline("the connection was lost");
    try {
      alive();
      for await (const event of events("GET", "/v1/events", null, mine.signal)) {
        alive();
        if (event?.changed.some((kind) => kinds.includes(kind))) run();
      }
    } catch (error) {
      if (error.name !== "AbortError") why = error;
    }
    clearTimeout(silence);
    if (stream === mine) fail(why);
  }

  function disconnect() {
    const open = stream;
    stream = null;
    open?.abort();
  }

  function fail(error) {
    disconnect();
    if (!isExpected(error)) throw error;
    if (ended) return;
    fault.textContent = `Not up to date: ${error.message}. The page tries again in ${pause} ${pause === 1 ? "second" : "seconds"}.`;
    after("connect", connect, pause * (0.75 + Math.random() / 2)); // Not all pages at once.
    pause = Math.min(2 * pause, PAUSES[1]);
  }

  function see() {
    if (document.hidden) return disconnect();
    run();
    connect();
  }

  const clock = setInterval(() => stream && run(), EVERY);
  const lose = () => fail(new Offline("this device is offline"));
  const hears = [[document, "visibilitychange", see], [window, "online", see], [window, "offline", lose]];
  for (const [where, name, act] of hears) where.addEventListener(name, act);
  connect();
  return () => {
    ended = true;
    for (const [where, name, act] of hears) where.removeEventListener(name, act);
    for (const one of [clock, timers.connect, timers.look]) clearTimeout(one);
    disconnect();
  };
}
