// Requests with this browser's token. An Offline error can be tried again, a Refused one cannot.

const PLACE = "fastslow-token";
const PERSON = "fastslow-person"; // Whose it is, once the server has said so.

export class Offline extends Error {
  constructor(message, isReached = false) {
    super(message);
    this.isReached = isReached; // The server replied, and could not do it now.
  }
}

export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

export function takeTokenFromLink() {
  const found = new URLSearchParams(location.hash.slice(1)).get("token");
  if (!found) return;
  keepToken(found);
  history.replaceState(null, "", "#compare"); // Out of the address, the history and screenshots.
}

export const hasToken = () => Boolean(localStorage.getItem(PLACE));
export const person = () => localStorage.getItem(PERSON);
export const keepPerson = (id) => localStorage.setItem(PERSON, id);

export function keepToken(text) {
  const token = text.trim();
  if (token !== localStorage.getItem(PLACE)) forgetToken();
  localStorage.setItem(PLACE, token);
}

export function forgetToken() {
  localStorage.removeItem(PERSON);
  localStorage.removeItem(PLACE);
}

// What one person sees and sends is nobody else's: where the token changes, the page starts anew.
addEventListener("storage", (event) => event.key === PLACE && location.reload());

async function fetched(method, path, body, headers, signal) {
  let reply;
  try {
    reply = await fetch(path, {
      method,
      signal,
      headers: {
        Authorization: `Bearer ${localStorage.getItem(PLACE)}`,
        ...(body === null ? {} : { "Content-Type": "application/json" }),
        ...headers,
      },
      body: body === null ? null : JSON.stringify(body),
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Offline("the server cannot be reached");
  }
  if (reply.ok) return reply;
  const text = await reply.json().then((said) => said.error.message, () => reply.statusText);
  if (reply.status >= 500 || reply.status === 429) throw new Offline(text, true);
  throw new Refused(reply.status, text);
}

export async function ask(method, path, body = null, headers = {}) {
  return (await fetched(method, path, body, headers)).json();
}

export async function* events(method, path, body, signal) {
  // What a server sends one by one, until it says that this was all; null for a sign of life.
  const reply = await fetched(method, path, body, {}, signal);
  const reader = reply.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { done, value } = await reader.read().catch(lost);
    if (done) return;
    const parts = (text + value).split("\n\n");
    text = parts.pop();
    for (const part of parts) {
      const data = part.replace(/^data: /, "");
      if (data === "[DONE]") return;
      const event = part.startsWith(":") ? null : JSON.parse(data);
      if (event?.error) throw new Refused(503, event.error.message);
      yield event;
    }
  }
}

function lost(error) {
  throw error.name === "AbortError" ? error : new Offline("the connection was lost");
}
