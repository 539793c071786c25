// The tenant's adapters by name, a page at a time.

import { call } from "./api.js";
import { h, keyed, newId, say } from "./dom.js";
import { ago, bytes, count, digest, moment } from "./format.js";
import { liveView, tableHead } from "./live.js";
import { openUpload } from "./upload.js";

const INTERVAL_MS = 10_000;
const PAGE = 25;
const NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,95}$/;

export function adaptersView() {
  const body = h("tbody");
  const empty = h("p", { className: "empty", hidden: true });
  const pager = h("div", { className: "pager", hidden: true });
  const filter = h("input", { type: "search", id: newId(), placeholder: "pir", maxLength: 96 });
  const where = h("span", { className: "hint" });
  const back = h("button", { type: "button", className: "secondary" }, "Previous");
  const next = h("button", { type: "button", className: "secondary" }, "Next");
  const add = h("button", { type: "button" }, "Upload adapter");
  // The names behind which the pages up to this one begin.
  let cursors = [""];
  let isLast = true;
  let entries = [];

  const heads = ["Name", "Version", "Base model", "Rank", "Modules", "Size", "Digest", "Published"];
  const head = tableHead(heads, new Set(["Version", "Rank", "Modules", "Size"]));
  const view = liveView("Adapters", read, INTERVAL_MS, [
    h(
      "div",
      { className: "toolbar" },
      h("label", { htmlFor: filter.id }, "Name begins with"),
      filter,
      h("span", { className: "space" }),
      add,
    ),
    h("div", { className: "scroll" }, h("table", {}, head, body)),
    empty,
    pager,
  ]);

  async function read(signal) {
    const found = await pageOf(filter.value.trim(), cursors.at(-1), signal);
    isLast = !found.hasMore;
    entries = found.data;
    draw();
  }

  function draw() {
    keyed(body, entries, (each) => each.name, row);
    empty.hidden = entries.length > 0;
    say(empty, filter.value ? "No adapter's name begins so." : "No adapter yet. Upload the first one.");
    pager.hidden = isLast && cursors.length === 1;
    back.disabled = cursors.length === 1;
    next.disabled = isLast;
    say(where, `Page ${cursors.length}${isLast ? ", the last" : ""}`);
  }

  pager.append(back, next, where);
  filter.addEventListener("input", () => {
    cursors = [""];
    view.refresh();
  });
  next.addEventListener("click", () => {
    cursors.push(entries.at(-1).name);
    view.refresh();
  });
  back.addEventListener("click", () => {
    cursors.pop();
    view.refresh();
  });
  add.addEventListener("click", () => openUpload({ onPublished: () => view.refresh() }));
  return view;
}

/**
 * Adapters behind the name `after` that begin with `prefix`, in order. The API pages by name, so
 * that a prefix is a place to begin at, and the name that is the prefix itself is asked for alone.
 */
async function pageOf(prefix, after, signal) {
  if (prefix && !NAME.test(prefix)) return { data: [], hasMore: false };
  const exact = prefix && !after ? await call(`adapters/${encodeURIComponent(prefix)}`, { signal }).catch(absent) : null;
  const query = { limit: PAGE, after: after || prefix };
  const page = await call("adapters", { query, signal });
  const found = page.data.filter((each) => each.name.startsWith(prefix));
  const data = [...(exact ? [exact] : []), ...found];
  return { data, hasMore: page.has_more && found.length === page.data.length };
}

function absent(error) {
  if (error.code === "model_not_found") return null;
  throw error;
}

function row(adapter) {
  const link = { href: `#/adapters/${encodeURIComponent(adapter.name)}` };
  return h(
    "tr",
    {},
    h("th", { scope: "row" }, h("a", link, adapter.name)),
    h("td", { className: "number" }, String(adapter.version)),
    h("td", {}, adapter.id.split(":")[0]),
    h("td", { className: "number" }, count(adapter.rank)),
    h("td", { className: "number" }, count(adapter.num_modules)),
    h("td", { className: "number" }, bytes(adapter.size_bytes)),
    h("td", { className: "mono", title: adapter.digest }, digest(adapter.digest)),
    h("td", { title: moment(adapter.created) }, ago(adapter.created)),
  );
}
