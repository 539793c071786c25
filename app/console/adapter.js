// One adapter: its versions, which is current, and what can be done with them.

import { call } from "./api.js";
import { h, keyed, say } from "./dom.js";
import { bytes, count, digest, moment } from "./format.js";
import { liveView, tableHead } from "./live.js";
import { confirmed, toast } from "./notices.js";
import { openUpload } from "./upload.js";

const INTERVAL_MS = 5000;

export function adapterView(name) {
  const path = `adapters/${encodeURIComponent(name)}`;
  const body = h("tbody");
  const facts = h("dl", { className: "facts" });
  const compare = h("a", { className: "button secondary" }, "Compare with base");
  const add = h("button", { type: "button" }, "Upload new version");
  let details = null;

  const heads = ["Version", "State", "Digest", "Rank", "Modules", "Size", "Published", "Actions"];
  const head = tableHead(heads, new Set(["Rank", "Modules", "Size"]));
  const content = [
    h("div", { className: "toolbar" }, facts, h("span", { className: "space" }), compare, add),
    h("h2", {}, "Versions"),
    h("div", { className: "scroll" }, h("table", {}, head, body)),
  ];
  const crumbs = h("p", { className: "crumbs" }, h("a", { href: "#/adapters" }, "Adapters"), " / ", name);
  const view = liveView(name, read, INTERVAL_MS, content, crumbs);

  async function read(signal) {
    details = await call(path, { signal });
    draw();
  }

  function draw() {
    const readers = details.public ? "everybody" : details.shared_with.join(", ") || "this tenant only";
    keyed(
      facts,
      [["Model name", details.id], ["Current version", String(details.version)], ["Used by", readers]],
      ([label]) => label,
      ([label, value]) => h("div", {}, h("dt", {}, label), h("dd", {}, value)),
    );
    compare.href = `#/compare?${new URLSearchParams({ adapter: name, base: details.id.split(":")[0] })}`;
    const current = details.versions.find((each) => each.current);
    const items = details.versions.toReversed().map((each) => ({ ...each, like: likeness(each, details.versions), isSame: each.digest === current.digest }));
    keyed(body, items, (each) => each.version, (each) => row(each));
  }

  function row(version) {
    const isBack = !version.current && !version.isSame;
    const why = version.current ? "" : "Its bytes are the current ones already";
    const back = h("button", { type: "button", className: "secondary", disabled: !isBack, title: isBack ? "" : why }, "Roll back");
    back.setAttribute("aria-label", `Roll back to version ${version.version}`);
    back.addEventListener("click", () => rollBack(version));
    const pin = h("button", { type: "button", className: "plain" }, version.pinned ? "Unpin" : "Pin");
    pin.setAttribute("aria-label", `${version.pinned ? "Unpin" : "Pin"} version ${version.version}`);
    pin.addEventListener("click", () => setPin(version));
    const query = new URLSearchParams({ adapter: name, base: version.id.split(":")[0], version: version.version });
    const look = h("a", { href: `#/compare?${query}`, "aria-label": `Compare version ${version.version}` }, "Compare");
    return h(
      "tr",
      { className: version.current ? "current" : "" },
      h("th", { scope: "row", className: "number-left" }, String(version.version)),
      h(
        "td",
        {},
        version.current && h("span", { className: "badge good" }, "Current"),
        version.pinned && h("span", { className: "badge" }, "Pinned"),
        version.like && h("span", { className: "hint" }, `bytes of version ${version.like}`),
      ),
      h("td", { className: "mono", title: version.digest }, digest(version.digest)),
      h("td", { className: "number" }, count(version.rank)),
      h("td", { className: "number" }, count(version.num_modules)),
      h("td", { className: "number" }, bytes(version.size_bytes)),
      h("td", {}, moment(version.created)),
      h("td", { className: "actions" }, look, pin, version.current ? null : back),
    );
  }

  async function rollBack(version) {
    const explanation = [
      `The bytes of version ${version.version} (digest ${digest(version.digest)}) become current again, as a new version. The next request sees it; requests that run now end as they began.`,
      "The history only grows: this can itself be rolled back.",
    ];
    let made;
    const isDone = await confirmed(`Roll ${name} back to version ${version.version}?`, explanation, "Roll back", async () => {
      made = await call(`${path}/rollback`, { method: "POST", json: { version: version.version } });
    });
    if (!isDone) return;
    toast(`${name} is now version ${made.version}, with the bytes of version ${version.version}.`);
    view.refresh();
  }

  async function setPin(version) {
    const method = version.pinned ? "DELETE" : "PUT";
    try {
      await call(`${path}/pin`, { method, query: { version: version.version } });
      toast(`Version ${version.version} is ${version.pinned ? "no longer pinned" : "pinned: it is kept"}.`);
      await view.refresh();
    } catch (error) {
      view.errors.show(error);
    }
  }

  add.addEventListener("click", () => openUpload({ name, base: details?.id.split(":")[0], onPublished: () => view.refresh() }));
  return view;
}

/** The oldest version with the same bytes, where that is another one. */
function likeness(version, versions) {
  const first = versions.find((each) => each.digest === version.digest);
  return first.version === version.version ? null : first.version;
}
