// A server with OpenAI's interface that answers as a test tells it: as other programs do, and as servers fail.

import { createServer } from 'node:http';

/**
 * `answer(body, response, request)` serves a chat completion; `models` are the names of the list. Resolves to `{ address, close,
 * requests }`.
 */
export async function scripted(answer, models = ['one']) {
  const requests = [];
  const server = createServer((request, response) => {
    let text = '';
    request.setEncoding('utf8').on('data', (data) => (text += data));
    request.on('end', () => {
      requests.push({ url: request.url, headers: request.headers });
      if (!request.url.endsWith('/models')) return answer(text === '' ? undefined : JSON.parse(text), response, request);
      response.setHeader('content-type', 'application/json');
      response.end(JSON.stringify({ object: 'list', data: models.map((id) => ({ id, object: 'model' })) }));
    });
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  const close = () => {
    server.closeAllConnections();
    server.close();
  };
  return { address: `http://127.0.0.1:${server.address().port}`, close, requests };
}

/** A chunk of a stream with one choice. */
export function chunk(delta, finish_reason = null) {
  return { id: 'c1', object: 'chat.completion.chunk', created: 1, model: 'one', choices: [{ index: 0, delta, finish_reason }] };
}

/** Sends chunks as events, and the end of the stream. */
export function stream(response, chunks) {
  response.writeHead(200, { 'content-type': 'text/event-stream' });
  for (const one of chunks) response.write(`data: ${JSON.stringify(one)}\n\n`);
  response.end('data: [DONE]\n\n');
}
