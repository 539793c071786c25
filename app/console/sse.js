// Server-sent events of a response's body, however its bytes are cut. Pure but for the reading.

/** The data of each event, in order; the reader of `body` is released at the end. */
export async function* eventsOf(body) {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  let rest = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      rest += done ? decoder.decode() : decoder.decode(value, { stream: true });
      const blocks = rest.split("\n\n");
      // What stands behind the last blank line has not ended yet.
      rest = blocks.pop();
      for (const block of blocks) yield* dataOf(block);
      if (done) return;
    }
  } finally {
    await reader.cancel().catch(() => {});
  }
}

function* dataOf(block) {
  const lines = block.split("\n").filter((line) => line.startsWith("data:"));
  if (lines.length) yield lines.map((line) => line.slice(5).replace(/^ /, "")).join("\n");
}
