// What the tests ask of the page from within: an expression, an object of functions.
({
  /** Controls that a reader of the screen could not tell. */
  nameless() {
    return [...document.querySelectorAll("a, button, input, select, textarea, [role]:not([role=status])")]
      .filter((each) => !each.labels?.length && !each.textContent.trim() && !each.getAttribute("aria-label"))
      .filter((each) => !each.closest("[hidden], .toasts"))
      .map((each) => each.outerHTML);
  },

  /** The least contrast of any text with what is behind it, and that text (WCAG 2.2, 1.4.3). */
  contrast() {
    const rgb = (text) => text.match(/[\d.]+/g).map(Number);
    const linear = (part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
    const light = (color) =>
      rgb(color)
        .slice(0, 3)
        .map((part, at) => linear(part / 255) * [0.2126, 0.7152, 0.0722][at])
        .reduce((sum, part) => sum + part, 0);
    const behind = (node) => {
      for (let at = node; at; at = at.parentElement) {
        const color = getComputedStyle(at).backgroundColor;
        if (rgb(color)[3] !== 0) return color;
      }
      return "rgb(255, 255, 255)";
    };
    const hasText = (node) => [...node.childNodes].some((child) => child.nodeType === 3 && child.data.trim());
    return [...document.querySelectorAll("body *")]
      .filter((each) => each.checkVisibility() && hasText(each) && !each.closest(":disabled, .skip, option, noscript"))
      .map((each) => {
        const pair = [light(getComputedStyle(each).color), light(behind(each))];
        return [(Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05), each.textContent.slice(0, 40)];
      })
      .reduce((least, each) => (each[0] < least[0] ? each : least));
  },

  /** What a script that makes markup of text comes to: the error's name. */
  markup() {
    try {
      document.body.innerHTML = "<b>x</b>";
      return "";
    } catch (error) {
      return error.name;
    }
  },

  /** The events of one text in pieces of each size. */
  async cutEvents() {
    const { eventsOf } = await import("/console/sse.js");
    const text = 'data: {"a": "é✓"}\n\n: note\n\ndata: one\ndata: two\n\ndata: [DONE]\n\n';
    const whole = new TextEncoder().encode(text);
    const read = async (size) => {
      const body = new ReadableStream({
        start(controller) {
          for (let at = 0; at < whole.length; at += size) controller.enqueue(whole.slice(at, at + size));
          controller.close();
        },
      });
      const events = [];
      for await (const event of eventsOf(body)) events.push(event);
      return events;
    };
    return Promise.all(Array.from({ length: whole.length }, (_, size) => read(size + 1)));
  },

  async numbers() {
    const f = await import("/console/format.js");
    const { waitMs, isStale } = await import("/console/poll.js");
    const { sortFiles } = await import("/console/upload.js");
    const files = (...names) => sortFiles(names.map((name) => ({ name })));
    const pairs = [["a", "a"], ["ab", "ac"], ["", "x"], ["é✓a", "é✓"]];
    return {
      bytes: [0, 1, 999, 1000, 253440, 5e8, 9.9999e9].map(f.bytes),
      share: [[1, 0], [99999, 1], [1, 1]].map(([part, rest]) => f.share(part, rest)),
      short: [7, 9999, 12345, 2.5e6].map(f.short),
      unknown: new Set([f.bytes(null), f.share(0, 0), f.share(null, 1), f.short(null), f.count(null)]).size,
      differs: pairs.map(([left, right]) => f.firstDifference(left, right)),
      waits: [[2000, 0], [2000, 1], [2000, 3], [2000, 99], [2000, 0, 30]].map((each) => waitMs(...each)),
      stale: [1000, 6000, 8000].map((age) => isStale(age, 2000)),
      whole: files("a.safetensors", "x.json", "adapter_config.json"),
      pickle: files("a.pt"),
      several: files("a.safetensors", "b.safetensors"),
    };
  },
})
