// A view that asks the server again and again, and says how fresh is what it shows.

import { h } from "./dom.js";
import { errorPlace, Freshness } from "./notices.js";
import { Poller } from "./poll.js";

/**
 * A section under `title` that runs `task` every `intervalMs` while it is shown: `element` for the
 * page, `errors` for what else goes wrong, `refresh` to ask now. `above` stands before the title.
 */
export function liveView(title, task, intervalMs, content, above = null) {
  const errors = errorPlace();
  const poller = new Poller(task, intervalMs, (state) => {
    errors.show(state.error);
    element.classList.toggle("is-stale", state.failures > 0);
    freshness.update();
  });
  const freshness = new Freshness(poller);
  const head = h("div", { className: "title" }, h("h1", { tabIndex: -1 }, title), freshness.element);
  const element = h("section", {}, above, head, errors, ...content);
  return {
    element,
    errors,
    refresh: () => poller.refresh(),
    start: () => (poller.start(), freshness.start()),
    stop: () => (poller.stop(), freshness.stop()),
  };
}

/** A table's head; the columns in `numbers` are set as numbers. */
export function tableHead(titles, numbers) {
  const columns = titles.map((text) => h("th", { scope: "col", className: numbers.has(text) ? "number" : "" }, text));
  return h("thead", {}, h("tr", {}, ...columns));
}
