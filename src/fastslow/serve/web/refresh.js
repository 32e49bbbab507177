// Looks at something again and again, while somebody can see it.

import { Offline, Refused } from "./api.js";

const EVERY = 5000;

export function again(look, fault) {
  // `fault` says whether what is shown is old. Calling what this returns ends it.
  let looking = false;
  const once = async () => {
    if (looking || document.hidden) return;
    looking = true;
    try {
      await look();
      fault.textContent = "";
    } catch (error) {
      if (!(error instanceof Offline || error instanceof Refused)) throw error;
      fault.textContent = `Not up to date: ${error.message}.`;
    } finally {
      looking = false;
    }
  };
  const timer = setInterval(once, EVERY);
  document.addEventListener("visibilitychange", once);
  return () => {
    clearInterval(timer);
    document.removeEventListener("visibilitychange", once);
  };
}
