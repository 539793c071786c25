// The console: which view is shown, and with whose key.

import { adapterView } from "./adapter.js";
import { adaptersView } from "./adapters.js";
import { call } from "./api.js";
import { compareView } from "./compare.js";
import { h } from "./dom.js";
import { askForKey } from "./key-dialog.js";
import { replicasView } from "./replicas.js";
import { currentKey, onKeyChange, useKey } from "./session.js";
import { usageView } from "./usage.js";

const VIEWS = {
  replicas: { title: "Replicas", make: replicasView },
  adapters: { title: "Adapters", make: ([name]) => (name ? adapterView(name) : adaptersView()) },
  compare: { title: "Compare", make: compareView },
  usage: { title: "Usage", make: usageView },
};

const content = document.getElementById("content");
const who = document.getElementById("who");
let view = null;

/** `#/adapters/pirate?x=1` as the view's name, the parts behind it, and the parameters. */
function place() {
  const [path, query] = location.hash.replace(/^#\/?/, "").split("?");
  const [name, ...parts] = path.split("/").filter(Boolean).map(decoded);
  return { name: name in VIEWS ? name : "replicas", parts, query: new URLSearchParams(query) };
}

function decoded(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

function show() {
  const { name, parts, query } = place();
  view?.stop();
  view = VIEWS[name].make(parts, query);
  const subject = parts.length ? `${parts.join("/")}, ` : "";
  document.title = `${subject}${VIEWS[name].title} – flora-serve console`;
  for (const link of document.querySelectorAll("[data-view]")) {
    if (link.dataset.view === name) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  content.replaceChildren(view.element);
  view.start();
}

/** Who the server takes us for: without a key, an open server's local caller, or nobody. */
async function introduce() {
  const key = currentKey();
  const change = h("button", { type: "button", className: "plain", on: { click: () => signIn() } }, "Use a key");
  const leave = h("button", { type: "button", className: "plain", on: { click: () => useKey("") } }, "Forget key");
  try {
    await call("models", { query: { limit: 1 } });
  } catch (error) {
    if (error.code === "invalid_api_key") {
      who.replaceChildren(h("span", { className: "badge warn" }, "No valid key"), change);
      signIn(key ? error : null);
      return;
    }
  }
  // A key may lack the scope for this; then it is known by its beginning alone.
  const told = await call("usage", { query: { limit: 1, hours: 1 } }).catch(() => null);
  if (key !== currentKey()) return;
  const tenant = told ? `Tenant ${told.tenant}` : "";
  const name = key ? tenant || `Key ${key.slice(0, 10)}…` : "Open server";
  who.replaceChildren(h("span", { className: "badge" }, name), key ? leave : change);
}

function signIn(error = null) {
  askForKey(error, (key) => call("models", { query: { limit: 1 } }).then(() => key));
}

onKeyChange(() => {
  introduce();
  show();
});
addEventListener("hashchange", () => {
  show();
  content.querySelector("h1")?.focus();
});
show();
introduce();
