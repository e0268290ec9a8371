/** Server-sent events: the data of each, as they come. */

/** Characters of an event that is still data of a reply, and not an endless line. */
const MOST = 16 << 20;

/** The `data` of the events of a body. Comments and other fields are passed over. */
export async function* events(body: ReadableStream<Uint8Array>): AsyncGenerator<string, void, undefined> {
  const reader = body.pipeThrough(new TextDecoderStream() as ReadableWritablePair<string, Uint8Array>).getReader();
  let rest = '';
  let data: string[] = [];
  let held = 0;
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      // A line ends by LF, CR or both; a CR at the end of what came may be one half of both.
      const lines = (rest + value).split(/\r\n|\n|\r(?!$)/);
      rest = lines.pop() ?? '';
      for (const line of lines) {
        if (line.startsWith('data:')) {
          data.push(line.slice(line[5] === ' ' ? 6 : 5));
          held += line.length;
        } else if (line === '' && data.length > 0) {
          yield data.join('\n');
          data = [];
          held = 0;
        }
      }
      if (rest.length + held > MOST) throw new Error(`an event has more than ${MOST} characters`);
    }
  } finally {
    // A body that is not read to its end closes its connection.
    await reader.cancel().catch(() => {});
  }
}
