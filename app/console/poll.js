// Asking again and again: at an interval, less often while it fails, not at all while nobody looks.

const MAX_WAIT_MS = 60_000;

/** How long to wait after `failures` failures in a row; the server may ask for more. */
export function waitMs(intervalMs, failures, retryAfterS = 0) {
  const backedOff = Math.min(MAX_WAIT_MS, intervalMs * 2 ** failures);
  return Math.max(backedOff, 1000 * retryAfterS);
}

/** Whether what was last seen `ageMs` ago is too old to be called live. */
export function isStale(ageMs, intervalMs) {
  return ageMs > 2 * intervalMs + 3000;
}

/**
 * Runs `task` at once and then every `intervalMs` after it has ended. `show` hears of every result:
 * `{ seenMs, failures, error, nextMs }`, times as Date.now() gives them, `seenMs` 0 before the first.
 */
export class Poller {
  #task;
  #show;
  #timer = 0;
  #isOn = false;
  #running = null;

  constructor(task, intervalMs, show) {
    this.#task = task;
    this.#show = show;
    this.intervalMs = intervalMs;
    this.state = { seenMs: 0, failures: 0, error: null, nextMs: 0 };
    this.onVisible = () => (document.hidden ? clearTimeout(this.#timer) : this.refresh());
  }

  start() {
    this.#isOn = true;
    document.addEventListener("visibilitychange", this.onVisible);
    return this.refresh();
  }

  stop() {
    this.#isOn = false;
    this.#running?.abort();
    clearTimeout(this.#timer);
    document.removeEventListener("visibilitychange", this.onVisible);
  }

  /** Ask now; what is under way is dropped. */
  async refresh() {
    if (!this.#isOn) return;
    clearTimeout(this.#timer);
    this.#running?.abort();
    const running = (this.#running = new AbortController());
    try {
      await this.#task(running.signal);
      this.state = { seenMs: Date.now(), failures: 0, error: null };
    } catch (error) {
      if (running.signal.aborted) return;
      this.state = { ...this.state, failures: this.state.failures + 1, error };
    }
    if (running !== this.#running || !this.#isOn) return;
    const wait = waitMs(this.intervalMs, this.state.failures, this.state.error?.retryAfterS);
    this.state.nextMs = Date.now() + wait;
    if (!document.hidden) this.#timer = setTimeout(() => this.refresh(), wait);
    this.#show(this.state);
  }
}
