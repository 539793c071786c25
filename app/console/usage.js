// What tenants have used: an administrator's key sees all of them, any other its own tenant.

import { call } from "./api.js";
import { h, keyed, meter, newId, say } from "./dom.js";
import { count, moment, share, short } from "./format.js";
import { liveView, tableHead } from "./live.js";

const INTERVAL_MS = 5000;
const LIMIT = 200;
const PERIODS = [[1, "Last hour"], [24, "Last 24 hours"], [168, "Last 7 days"], [720, "Last 30 days"]];

export function usageView() {
  const period = h("select", { id: newId() }, ...PERIODS.map(([hours, text]) => h("option", { value: hours, selected: hours === 24 }, text)));
  const by = h("select", { id: newId() }, h("option", { value: "tenant" }, "tenant"), h("option", { value: "model" }, "model"));
  const tenant = h("input", { type: "search", id: newId(), placeholder: "all", maxLength: 64 });
  const figures = Object.fromEntries(["Requests", "Prompt tokens", "From the prefix cache", "Generated tokens"].map((label) => [label, h("dd", {}, "–")]));
  const body = h("tbody");
  const model = h("th", { scope: "col", hidden: true }, "Model");
  const note = h("p", { className: "hint", role: "status" });
  const empty = h("p", { className: "empty", hidden: true }, "No request has ended in this time.");

  const numbers = ["Requests", "Prompt tokens", "Cached", "Generated tokens"];
  const head = tableHead(["Tenant", ...numbers, "Share of tokens"], new Set(numbers));
  head.querySelector("th").after(model);
  const view = liveView("Usage", read, INTERVAL_MS, [
    h(
      "div",
      { className: "toolbar" },
      h("label", { htmlFor: period.id }, "Period"),
      period,
      h("label", { htmlFor: by.id }, "By"),
      by,
      h("label", { htmlFor: tenant.id }, "Tenant"),
      tenant,
    ),
    h("dl", { className: "figures" }, ...Object.entries(figures).map(([label, value]) => h("div", {}, h("dt", {}, label), value))),
    note,
    h("div", { className: "scroll" }, h("table", {}, head, body)),
    empty,
  ]);

  async function read(signal) {
    const query = { hours: period.value, by: by.value, tenant: tenant.value.trim(), limit: LIMIT };
    draw(await call("usage", { query, signal }));
  }

  function draw(answer) {
    const rows = answer.data;
    const sum = (name) => rows.reduce((total, row) => total + row[name], 0);
    const prompt = sum("prompt_tokens");
    say(figures.Requests, count(sum("requests")));
    say(figures["Prompt tokens"], short(prompt));
    say(figures["From the prefix cache"], share(sum("cached_tokens"), prompt - sum("cached_tokens")));
    say(figures["Generated tokens"], short(sum("generated_tokens")));
    const all = prompt + sum("generated_tokens");
    const byModel = by.value === "model";
    model.hidden = !byModel;
    keyed(body, rows.map((row) => ({ ...row, all, byModel })), (row) => `${row.tenant} ${row.model ?? ""}`, rowOf);
    empty.hidden = rows.length > 0;
    const parts = [`Ended since ${moment(answer.since)}.`];
    if (!answer.complete) parts.push("Older requests are still being counted, or too many: bills are made of usage records.");
    if (answer.has_more) parts.push(`The first ${LIMIT} rows; give a tenant to see others.`);
    say(note, parts.join(" "));
  }

  for (const control of [period, by, tenant]) control.addEventListener("input", () => view.refresh());
  return view;
}

function rowOf(row) {
  const tokens = row.prompt_tokens + row.generated_tokens;
  const words = share(tokens, row.all - tokens);
  return h(
    "tr",
    {},
    h("th", { scope: "row" }, row.tenant),
    row.byModel && h("td", { className: "mono" }, row.model ?? ""),
    h("td", { className: "number" }, count(row.requests)),
    h("td", { className: "number" }, count(row.prompt_tokens)),
    h("td", { className: "number" }, count(row.cached_tokens)),
    h("td", { className: "number" }, count(row.generated_tokens)),
    h("td", { className: "with-meter" }, meter(`Share of ${row.tenant}`, tokens, row.all, words), h("span", { className: "number" }, words)),
  );
}
