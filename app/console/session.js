// The API key: in this tab alone, gone when the tab is closed. It goes into one header and nowhere else.

const NAME = "flora.key";

const listeners = new Set();
let key = stored((storage) => storage.getItem(NAME)) ?? "";

/** The key, or "" where there is none. */
export function currentKey() {
  return key;
}

/** Use another key from now on; "" is none. */
export function useKey(text) {
  key = text.trim();
  stored((storage) => (key ? storage.setItem(NAME, key) : storage.removeItem(NAME)));
  for (const listener of listeners) listener();
}

/** Calls `listener` when the key has changed. */
export function onKeyChange(listener) {
  listeners.add(listener);
}

/** Whether a text can be a key at all: what a header may carry. */
export function looksLikeKey(text) {
  return /^[\x21-\x7e]{1,512}$/.test(text.trim());
}

/** Does something with the tab's storage; a browser that has none keeps the key in memory alone. */
function stored(action) {
  try {
    return action(sessionStorage);
  } catch {
    return null;
  }
}
