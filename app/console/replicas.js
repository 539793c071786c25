// Live replicas: what runs, what waits, which adapters are at hand, how often each tier had them.

import { call } from "./api.js";
import { h, keyed, meter, newId, say } from "./dom.js";
import { bytes, count, plural, share, short } from "./format.js";
import { liveView, tableHead } from "./live.js";

const INTERVAL_MS = 2000;
const NAMES_INTERVAL_MS = 30_000;
const PAGE = 24;
const SHOWN_RESIDENTS = 12;
const DIGEST_DIGITS = 16;
const TIER_NAMES = { node: "Node cache", redis: "Redis", store: "Object store" };

export function replicasView() {
  const figures = { replicas: figure("Replicas answering"), running: figure("Sequences running") };
  figures.waiting = figure("Requests waiting");
  figures.rate = figure("Tokens a second");
  const list = h("div", { className: "cards" });
  const filter = h("input", { type: "search", placeholder: "Part of an id or model", id: newId() });
  const tools = h("div", { className: "toolbar", hidden: true }, h("label", { htmlFor: filter.id }, "Find"), filter);
  const more = h("button", { type: "button", className: "secondary", hidden: true }, "Show more");
  const rates = new Rates();
  const names = new Names();
  let entries = [];
  let shown = PAGE;

  const view = liveView("Replicas", read, INTERVAL_MS, [
    h("dl", { className: "figures" }, ...Object.values(figures).map((each) => each.element)),
    tools,
    list,
    more,
  ]);
  filter.addEventListener("input", () => draw());
  more.addEventListener("click", () => {
    shown += PAGE;
    draw();
  });

  async function read(signal) {
    const [page] = await Promise.all([call("replicas", { signal }), names.refresh(signal)]);
    entries = page.data;
    rates.take(entries, performance.now());
    draw();
  }

  function draw() {
    const words = filter.value.trim().toLowerCase();
    const found = entries.filter((each) => `${each.id} ${each.model}`.toLowerCase().includes(words));
    const answering = entries.filter((each) => each.answers);
    say(figures.replicas.value, `${answering.length} of ${entries.length}`);
    say(figures.running.value, count(total(answering, "running")));
    say(figures.waiting.value, count(total(answering, "waiting")));
    say(figures.rate.value, rates.all() === null ? "–" : count(rates.all()));
    tools.hidden = entries.length <= 4;
    more.hidden = found.length <= shown;
    const items = found.slice(0, shown).map((each) => ({
      ...each,
      rate: rates.of(each.id),
      residents: each.residents.slice(0, SHOWN_RESIDENTS).map((word) => names.of(word)),
    }));
    keyed(list, items, (each) => each.id, card);
    if (!entries.length) list.replaceChildren(h("p", { className: "empty" }, "No replica is known yet."));
  }

  return view;
}

function card(replica) {
  const [kind, word] = stateOf(replica);
  const state = h("span", { className: `badge ${kind}` }, word);
  const head = h("header", {}, h("h2", { className: "mono" }, replica.id), state);
  if (!replica.answers) {
    const text = "It is there, and did not answer in time: starting, busy or lost.";
    return h("article", { className: "card" }, head, h("p", { className: "hint" }, replica.model), h("p", {}, text));
  }
  return h(
    "article",
    { className: "card" },
    head,
    h("p", { className: "hint" }, replica.model),
    h(
      "dl",
      { className: "facts" },
      ...fact("Running", count(replica.running)),
      ...fact("Waiting", count(replica.waiting)),
      ...fact("Tokens/s", replica.rate === null ? "–" : count(replica.rate)),
      ...fact("Tokens made", short(replica.generated_tokens)),
    ),
    replica.slots && slotsOf("Device slots", replica.slots),
    replica.lora_slots && slotsOf("LoRA slots", replica.lora_slots),
    tierTable(replica.tiers),
    residents(replica),
  );
}

/** Slots are the engine's: a replica without any outlives its engine until Serve ends it. */
function stateOf(replica) {
  if (!replica.answers) return ["bad", "Silent"];
  return replica.slots ? ["good", "Answers"] : ["bad", "No engine"];
}

function slotsOf(label, slots) {
  const words = `${count(slots.used)} of ${count(slots.total)} in use`;
  return h(
    "div",
    { className: "slots" },
    h("div", { className: "line" }, h("span", {}, label), h("span", { className: "number" }, words)),
    meter(label, slots.used, slots.total, words),
    h(
      "p",
      { className: "hint" },
      `Hit rate ${share(slots.hits, slots.misses)}: ${plural(slots.hits, "hit")}, `,
      `${count(slots.misses)} missed, ${count(slots.evictions)} evicted`,
    ),
  );
}

function tierTable(tiers) {
  const rows = tiers.map((tier) => {
    const isBounded = tier.budget_bytes !== null;
    const used = isBounded ? `${bytes(tier.used_bytes)} of ${bytes(tier.budget_bytes)}` : "";
    const failed = (tier.errors ?? 0) + (tier.corrupt ?? 0);
    return h(
      "tr",
      {},
      h("th", { scope: "row" }, TIER_NAMES[tier.name], used && h("span", { className: "hint" }, used)),
      h("td", { className: "number strong" }, share(tier.hits, tier.misses)),
      h("td", { className: "number" }, count(tier.hits)),
      h("td", { className: "number" }, count(tier.misses)),
      h("td", { className: failed ? "number warn" : "number" }, count(failed)),
    );
  });
  const numbers = ["Hit rate", "Hits", "Misses", "Errors"];
  return h(
    "table",
    { className: "tiers" },
    h("caption", { className: "quiet" }, "Adapters asked of each tier, since the start"),
    tableHead(["Tier", ...numbers], new Set(numbers)),
    h("tbody", {}, ...rows),
  );
}

function residents(replica) {
  if (replica.num_residents === null) return null;
  const rest = replica.num_residents - replica.residents.length;
  const chips = replica.residents.map((name) => h("li", { className: "chip" }, name));
  if (rest > 0) chips.push(h("li", { className: "hint" }, `and ${count(rest)} more`));
  return h(
    "div",
    { className: "residents" },
    h("h3", {}, `At hand: ${plural(replica.num_residents, "adapter")}`),
    chips.length ? h("ul", { className: "chips" }, ...chips) : null,
  );
}

function figure(label) {
  const value = h("dd", {}, "–");
  return { value, element: h("div", {}, h("dt", {}, label), value) };
}

function fact(label, value) {
  return [h("div", {}, h("dt", {}, label), h("dd", {}, value))];
}

function total(entries, name) {
  return entries.reduce((sum, each) => sum + (each[name] ?? 0), 0);
}

/** Tokens a second between two looks, a replica each; nothing before the second look. */
class Rates {
  #before = new Map();
  #rates = new Map();

  take(entries, nowMs) {
    const now = new Map();
    this.#rates = new Map();
    for (const { id, generated_tokens: tokens } of entries) {
      if (tokens === null) continue;
      now.set(id, { tokens, nowMs });
      const before = this.#before.get(id);
      // A replica that has started anew counts from nothing.
      if (before && tokens >= before.tokens) {
        this.#rates.set(id, (1000 * (tokens - before.tokens)) / (nowMs - before.nowMs));
      }
    }
    this.#before = now;
  }

  of(id) {
    return this.#rates.has(id) ? Math.round(this.#rates.get(id)) : null;
  }

  all() {
    if (!this.#rates.size) return null;
    return [...this.#rates.values()].reduce((sum, rate) => sum + rate, 0);
  }
}

/** Names of the caller's own adapters by the first digits of their digests. */
class Names {
  #names = new Map();
  #readMs = -Infinity;

  async refresh(signal) {
    if (performance.now() - this.#readMs < NAMES_INTERVAL_MS) return;
    this.#readMs = performance.now();
    try {
      const page = await call("adapters", { query: { limit: 1000 }, signal });
      this.#names = new Map(page.data.map((each) => [each.digest.slice(0, DIGEST_DIGITS), `${each.name}@${each.version}`]));
    } catch (error) {
      if (signal.aborted) throw error;
      // Without names there are digests.
    }
  }

  of(word) {
    return this.#names.get(word) ?? word;
  }
}
