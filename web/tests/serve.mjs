// `selvedge serve` as its clients know it: OpenAI's own client, plain HTTP, bad requests, many at once, and the end of the
// server. The model is the one that the binary carries, on the CPU.
//
//     cargo build && node --test web/tests/serve.mjs

import { after, before, test } from 'node:test';
import { connect } from 'node:net';
import assert from 'node:assert/strict';
import OpenAI from 'openai';
import { killAll, start } from './binary.mjs';
import { root } from './root.mjs';

const SYSTEM = { role: 'system', content: 'You are a helpful assistant.' };
const HELLO = [SYSTEM, { role: 'user', content: 'Hello.' }];
const HELLO_ANSWER = 'Hello! Tell me a story, and I will answer questions about it.';
const STORY = [SYSTEM, { role: 'user', content: 'Tell me a story.' }];
const model = 'selvedge-demo';

/** Until something holds. */
async function until(holds) {
  for (const end = Date.now() + 20_000; !(await holds()); ) assert.ok(Date.now() < end, String(holds));
}

let server, client;
before(async () => {
  server = await start('--slots', '4', '--queue', '64');
  ({ client } = server);
});
after(killAll);

test('a reply, whole and as a stream', async () => {
  const whole = await client.chat.completions.create({ model, messages: HELLO });
  assert.equal(whole.choices[0].message.content, HELLO_ANSWER);
  assert.equal(whole.choices[0].finish_reason, 'stop');
  const { prompt_tokens, completion_tokens, total_tokens } = whole.usage;
  assert.deepEqual([prompt_tokens, completion_tokens, total_tokens], [22, 22, 44]);
  const stream = await client.chat.completions.create({
    model,
    messages: HELLO,
    stream: true,
    stream_options: { include_usage: true },
  });
  let [text, reason, usage, chunks] = ['', null, null, 0];
  for await (const chunk of stream) {
    chunks += 1;
    text += chunk.choices[0]?.delta.content ?? '';
    reason = chunk.choices[0]?.finish_reason ?? reason;
    usage = chunk.usage ?? usage;
  }
  assert.deepEqual([text, reason], [HELLO_ANSWER, 'stop']);
  assert.ok(chunks > 10, `${chunks} chunks`);
  assert.ok(usage.prompt_tokens_details.cached_tokens > 15, 'the second time it was remembered');
  const { id, owned_by } = await client.models.retrieve(model);
  assert.deepEqual([id, owned_by], [model, 'selvedge']);
});

test('lengths, stops, seeds and several choices', async () => {
  const ask = (more) => client.chat.completions.create({ model, messages: HELLO, ...more });
  const cut = await ask({ max_completion_tokens: 3 });
  assert.deepEqual([cut.choices[0].finish_reason, cut.usage.completion_tokens], ['length', 3]);
  const stopped = await ask({ stop: ['story', 'never'] });
  assert.equal(stopped.choices[0].message.content, 'Hello! Tell me a ');
  assert.equal(stopped.choices[0].finish_reason, 'stop');
  // A stop string that the last token allowed completes.
  for (let most = 1; most < 12; most += 1) {
    const { choices } = await ask({ stop: 'story', max_tokens: most });
    const whole = choices[0].message.content === 'Hello! Tell me a ' && choices[0].finish_reason === 'stop';
    assert.equal(whole, choices[0].finish_reason === 'stop', JSON.stringify(choices));
  }
  const drawn = () => ask({ messages: STORY, temperature: 1.5, seed: 42, n: 3, max_tokens: 30 });
  const [one, other] = [await drawn(), await drawn()];
  const texts = ({ choices }) => choices.map(({ message }) => message.content);
  assert.deepEqual(texts(one), texts(other), 'the same seed, the same texts');
  assert.equal(new Set(texts(one)).size, 3, JSON.stringify(texts(one)));
  const stream = await ask({ messages: STORY, temperature: 1.5, seed: 42, n: 3, max_tokens: 30, stream: true });
  const parts = ['', '', ''];
  for await (const { choices } of stream) for (const { index, delta } of choices) parts[index] += delta.content ?? '';
  assert.deepEqual(parts.map((text) => text.trimEnd()), texts(one).map((text) => text.trimEnd()));
});

test('probabilities', async () => {
  const request = { model, messages: HELLO, logprobs: true, top_logprobs: 4 };
  const { choices } = await client.chat.completions.create(request);
  const { content } = choices[0].logprobs;
  assert.equal(content.map(({ token }) => token).join('').trim(), HELLO_ANSWER);
  for (const { token, logprob, bytes, top_logprobs } of content) {
    assert.equal(new TextDecoder().decode(Uint8Array.from(bytes)), token);
    assert.equal(top_logprobs.length, 4);
    assert.deepEqual([top_logprobs[0].token, top_logprobs[0].logprob], [token, logprob], 'greedy');
    assert.ok(logprob <= 0 && top_logprobs.every((top, index) => index === 0 || top.logprob <= top_logprobs[index - 1].logprob));
  }
  const stream = await client.chat.completions.create({ ...request, stream: true });
  const streamed = [];
  for await (const chunk of stream) streamed.push(...(chunk.choices[0].logprobs?.content ?? []));
  assert.deepEqual(streamed, content);
  // Others at the same time have none, and the same texts.
  const [scored, plain] = await Promise.all([
    client.completions.create({ model, prompt: 'One cold day', max_tokens: 9, logprobs: 2 }),
    client.completions.create({ model, prompt: 'One cold day', max_tokens: 9 }),
  ]);
  assert.equal(scored.choices[0].text, plain.choices[0].text);
  assert.equal(plain.choices[0].logprobs, null);
  const { tokens, token_logprobs, top_logprobs, text_offset } = scored.choices[0].logprobs;
  assert.deepEqual([tokens.length, token_logprobs.length, top_logprobs.length, text_offset.length], [9, 9, 9, 9]);
  assert.equal(text_offset[1], [...tokens[0]].length);
});

test('what binds a reply: schemas, expressions, choices, grammars', async () => {
  const create = async (more) => {
    const reply = await client.chat.completions.create({ model, messages: STORY, max_tokens: 200, ...more });
    return reply.choices[0];
  };
  const person = {
    type: 'object',
    properties: {
      name: { type: 'string', maxLength: 12 },
      age: { type: 'integer', minimum: 0, maximum: 120 },
      mood: { enum: ['glad', 'sad'] },
      friends: { type: 'array', items: { type: 'string', maxLength: 8 }, maxItems: 3 },
    },
    required: ['name', 'age', 'mood', 'friends'],
    additionalProperties: false,
  };
  const response_format = { type: 'json_schema', json_schema: { name: 'person', strict: true, schema: person } };
  const check = ({ message, finish_reason }) => {
    assert.equal(finish_reason, 'stop', message.content);
    const { name, age, mood, friends, ...rest } = JSON.parse(message.content);
    assert.ok([...name].length <= 12 && Number.isInteger(age) && age >= 0 && age <= 120, message.content);
    assert.ok(['glad', 'sad'].includes(mood) && friends.length <= 3 && friends.every((f) => [...f].length <= 8));
    assert.deepEqual(rest, {});
    return message.content;
  };
  // Each as without the others, some of which are bound by nothing.
  const seeds = Array.from({ length: 12 }, (_, seed) => seed);
  const ask = (seed) => create({ response_format, seed, temperature: 1.5 });
  const free = (seed) => create({ seed, temperature: 1.5 });
  const alone = [];
  for (const seed of seeds) alone.push(check(await ask(seed)));
  assert.ok(new Set(alone).size > 6, 'not one text for all');
  const beside = await Promise.all(seeds.flatMap((seed) => [ask(seed), free(seed)]));
  assert.deepEqual(beside.filter((_, at) => at % 2 === 0).map(check), alone);
  const other = await free(3);
  assert.equal(beside[7].message.content, other.message.content);

  const stream = await client.chat.completions.create({ model, messages: STORY, response_format, seed: 5, temperature: 1.5, stream: true });
  let streamed = '';
  for await (const { choices } of stream) streamed += choices[0]?.delta.content ?? '';
  assert.equal(streamed, alone[5]);

  const outputs = async (structured_outputs, more) => (await create({ structured_outputs, temperature: 1.5, ...more })).message.content;
  assert.match(await outputs({ regex: '[A-Z][a-z]{3,9}, [0-9]{2}' }), /^[A-Z][a-z]{3,9}, [0-9]{2}$/);
  assert.ok(['yes', 'no, thanks'].includes(await outputs({ choice: ['yes', 'no, thanks'] })));
  assert.match(await outputs({ grammar: 'start: "<" start ">" | /[a-z]{1,3}/' }, { temperature: 0 }), /^(<*)[a-z]{1,3}(>*)$/);
  assert.equal(typeof JSON.parse(await outputs({ json: JSON.stringify(person) })).age, 'number');
  const completion = await client.completions.create({ model, prompt: 'Mia is', max_tokens: 30, structured_outputs: { regex: ' [0-9]{3}' } });
  assert.match(completion.choices[0].text, /^ ?[0-9]{3}$/);

  // One token is forbidden, another one all that comes.
  const { tokens } = await (await server.post('/tokenize', { prompt: HELLO_ANSWER })).json();
  const said = await create({ messages: HELLO, temperature: 0, logit_bias: { [tokens[1]]: -100, [tokens[2]]: -100 } });
  assert.ok(!said.message.content.startsWith('Hello!'), said.message.content);
  const forced = await create({ messages: HELLO, temperature: 0, max_tokens: 5, logit_bias: { [tokens[4]]: 100 } });
  assert.match(forced.message.content, /^(\S+?)\1{4}$/);
  // A reply of white space alone leaves the next prompt as it is.
  const space = await create({ messages: HELLO, temperature: 0, max_tokens: 5, logit_bias: { [tokens[1]]: 100 } });
  assert.equal(space.message.content, '');
  assert.equal((await create({ messages: HELLO, temperature: 0 })).message.content, HELLO_ANSWER);
});

test('completions of texts and of token ids, and both ways between them', async () => {
  const texts = await client.completions.create({ model, prompt: ['One cold day Mia', 'Anna ate some'], max_tokens: 6 });
  assert.deepEqual(texts.choices.map(({ index }) => index), [0, 1]);
  const { tokens } = await (await server.post('/tokenize', { prompt: 'Anna ate some' })).json();
  const ids = await client.completions.create({ model, prompt: tokens, max_tokens: 6 });
  assert.equal(ids.choices[0].text, texts.choices[1].text);
  assert.equal(texts.usage.prompt_tokens > ids.usage.prompt_tokens, true);
  const { prompt } = await (await server.post('/detokenize', { tokens: tokens.slice(1) })).json();
  assert.equal(prompt.trim(), 'Anna ate some');
  const stopped = await client.completions.create({ model, prompt: tokens, max_tokens: 40, stop: '.' });
  assert.ok(!stopped.choices[0].text.includes('.'));
  const rendered = await (await server.post('/v1/chat/completions/render', { messages: HELLO })).json();
  assert.equal(rendered.count, 22);
  const again = await client.completions.create({ model, prompt: rendered.token_ids, max_tokens: 40 });
  assert.equal(again.choices[0].text.trim(), HELLO_ANSWER);
});

test('what cannot be is refused with a reason, and the server goes on', async () => {
  const refused = async (more, wanted) => {
    const error = await client.chat.completions.create({ model, messages: HELLO, ...more }).then(
      () => assert.fail(JSON.stringify(more)),
      (error) => error,
    );
    assert.ok(error instanceof OpenAI.APIError, String(error));
    assert.match(error.message, wanted);
    assert.ok(error.status >= 400 && error.status < 500, `${error.status}`);
    return error;
  };
  const unknown = await refused({ model: 'gpt-5' }, /`gpt-5` is not served here; `selvedge-demo` is/);
  assert.deepEqual([unknown.status, unknown.code], [404, 'model_not_found']);
  assert.equal((await refused({ messages: [{ role: 'wizard', content: 'x' }] }, /role `wizard`/)).param, 'messages');
  await refused({ messages: [] }, /./);
  await refused({ messages: [{ role: 'user', content: [{ type: 'image_url', image_url: { url: 'x' } }] }] }, /type `text`/);
  await refused({ temperature: -1 }, /temperature/);
  await refused({ top_p: 7 }, /top-p of 7/);
  await refused({ n: 1000 }, /`n`/);
  await refused({ n: 0 }, /`n`/);
  await refused({ top_logprobs: 3 }, /needs `logprobs`/);
  await refused({ logprobs: true, top_logprobs: 21 }, /0 to 20/);
  await refused({ logit_bias: { 5: 101 } }, /from -100 to 100/);
  await refused({ logit_bias: { 99999: 1 } }, /"99999" is no token id/);
  await refused({ functions: [{ name: 'f' }] }, /`functions` is not supported/);
  await refused({ response_format: { type: 'json_schema', json_schema: { name: 'n' } } }, /must be a JSON schema/);
  const schema = (schema) => ({ response_format: { type: 'json_schema', json_schema: { name: 'n', schema } } });
  await refused(schema({ type: 'nothing' }), /the grammar cannot be used/);
  await refused(schema({ $ref: 'http://127.0.0.1/schema' }), /the grammar cannot be used/);
  await refused({ structured_outputs: { regex: '(' } }, /unclosed group/);
  await refused({ structured_outputs: { grammar: 'start: ' + '('.repeat(9000) } }, /the grammar cannot be used/);
  await refused({ structured_outputs: { regex: 'a', choice: ['a'] } }, /has one of/);
  await refused({ tools: [{ type: 'function' }] }, /`tools`/);
  await refused({ tool_choice: 'required', tools: [] }, /tool_choice/);
  await refused({ stop: Array(100).fill('x') }, /`stop`/);
  await refused({ seed: 'one' }, /`seed` cannot be used.*a whole number/);
  await refused({ messages: [{ role: 'user', content: 'word '.repeat(20_000) }] }, /context/);
  const raw = async (path, body, headers) => {
    const response = await server.post(path, body, headers);
    const { error } = await response.json();
    assert.ok(error.message.length > 5 && error.type, JSON.stringify(error));
    return response.status;
  };
  assert.equal(await raw('/v1/chat/completions', '{"messages":'), 400);
  assert.equal(await raw('/v1/chat/completions', '[1]'), 400);
  assert.equal(await raw('/v1/chat/completions', '{}', { 'content-type': 'text/plain' }), 415);
  assert.equal(await raw('/v1/chat/completions', `"${'x'.repeat(9 << 20)}"`), 413);
  assert.equal(await raw('/nothing', '{}'), 404);
  assert.equal(await raw('/v1/models', '{}'), 405);
  assert.equal(await raw('/detokenize', { tokens: [1 << 30] }), 400);
  assert.equal(await raw('/v1/completions', { prompt: [] }), 400);
  assert.equal(await raw('/v1/completions', { prompt: [1e9] }), 400);
  assert.equal((await client.chat.completions.create({ model, messages: HELLO })).choices[0].message.content, HELLO_ANSWER);
});

test('many at once: each text is that of its request alone', async () => {
  const requests = Array.from({ length: 24 }, (_, index) => ({
    model,
    messages: [SYSTEM, { role: 'user', content: `${['Tell me a story.', 'Hello.', 'Who are you?'][index % 3]}` }],
    max_tokens: 8 + ((index * 7) % 30),
    temperature: index % 2 ? 1.2 : 0,
    seed: index,
  }));
  const text = async (request) => {
    const { choices, usage } = await client.chat.completions.create(request);
    return [choices[0].message.content, choices[0].finish_reason, usage.completion_tokens];
  };
  const together = await Promise.all(requests.map(text));
  for (const [index, request] of requests.entries()) assert.deepEqual(await text(request), together[index], `request ${index}`);
  assert.equal(await server.metric('requests_running'), 0);
});

test('whoever leaves amid a reply gives the place to others', async () => {
  const before = await server.metric('generation_tokens_total');
  const controller = new AbortController();
  const stream = await client.completions.create(
    { model, prompt: 'One cold day', max_tokens: 1500, temperature: 2, stream: true, seed: 5 },
    { signal: controller.signal },
  );
  let parts = 0;
  for await (const _ of stream) {
    parts += 1;
    if (parts === 5) break;
  }
  controller.abort();
  await until(async () => (await server.metric('requests_running')) === 0);
  assert.ok((await server.metric('generation_tokens_total')) - before < 1400, 'it was not made to its end');
  // One that waits for the whole, and a client that sends half of a request.
  const whole = fetch(`${server.address}/v1/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ prompt: 'One cold day', max_tokens: 1500, temperature: 2, seed: 6 }),
    signal: AbortSignal.timeout(60),
  }).catch(() => 'left');
  await whole;
  const { hostname, port } = new URL(server.address);
  const slow = connect(Number(port), hostname);
  slow.write('POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{');
  await until(async () => (await server.metric('requests_running')) === 0);
  assert.equal((await client.chat.completions.create({ model, messages: HELLO })).choices[0].message.content, HELLO_ANSWER);
  slow.destroy();
});

test('more than may wait are told to come again', async () => {
  const none = await start('--slots', '2', '--queue', '0');
  const asked = await none.client.completions.create({ model, prompt: 'One cold day', max_tokens: 2 });
  assert.equal(asked.usage.completion_tokens, 2, 'a free slot needs no queue');
  const many = await none.post('/v1/completions', { prompt: ['a', 'b', 'c'], max_tokens: 1 });
  assert.equal(many.status, 400, 'that can never be');
  none.child.kill('SIGTERM');
  const small = await start('--slots', '1', '--queue', '1');
  const long = { prompt: 'One cold day', max_tokens: 1200, temperature: 2, seed: 1, stream: true };
  const first = await small.post('/v1/completions', long);
  const waits = small.post('/v1/completions', { ...long, max_tokens: 2, stream: false });
  await until(async () => (await small.metric('requests_waiting')) === 1);
  const third = await small.post('/v1/completions', long);
  assert.deepEqual([third.status, third.headers.get('retry-after')], [429, '1']);
  assert.equal((await third.json()).error.code, 'rate_limit_exceeded');
  await first.body.cancel();
  assert.equal((await waits).status, 200);
  small.child.kill('SIGTERM');
  await small.ended;
});

test('keys, and pages of other origins', async () => {
  const closed = await start('--api-key', 'sesame', '--cors', 'https://friend.example');
  const bare = await closed.post('/v1/chat/completions', { messages: HELLO });
  assert.equal(bare.status, 401);
  assert.equal((await bare.json()).error.code, 'invalid_api_key');
  assert.equal((await fetch(`${closed.address}/metrics`)).status, 401);
  assert.equal((await fetch(`${closed.address}/health`)).status, 200);
  const known = new OpenAI({ baseURL: `${closed.address}/v1`, apiKey: 'sesame', maxRetries: 0 });
  assert.equal((await known.chat.completions.create({ model, messages: HELLO })).choices[0].message.content, HELLO_ANSWER);
  const preflight = (address, origin) =>
    fetch(`${address}/v1/chat/completions`, {
      method: 'OPTIONS',
      headers: { origin, 'access-control-request-method': 'POST', 'access-control-request-headers': 'authorization' },
    });
  const allowed = async (...request) => (await preflight(...request)).headers.get('access-control-allow-origin');
  assert.equal(await allowed(closed.address, 'https://friend.example'), 'https://friend.example');
  const headers = (await preflight(closed.address, 'https://friend.example')).headers;
  assert.match(headers.get('access-control-allow-headers'), /authorization/, '`*` would not allow the key');
  assert.equal(await allowed(closed.address, 'https://foe.example'), null);
  assert.equal(await allowed(server.address, 'https://friend.example'), null, 'closed by default');
  assert.ok(!closed.log.join('\n').match(/Hello|sesame/), 'no text and no key in the log');
  assert.match(closed.log.join('\n'), /"path":"\/v1\/chat\/completions","status":200/);
  closed.child.kill('SIGKILL');
});

for (const signal of ['SIGTERM', 'SIGINT']) {
  test(`asked to end by ${signal}, it finishes what is under way and takes no more`, async () => {
    const ending = await start('--slots', '2');
    const request = { model, prompt: 'One cold day', max_tokens: 600, temperature: 2, seed: 3 };
    const unbroken = (await client.completions.create(request)).choices[0];
    const stream = await ending.client.completions.create({ ...request, stream: true });
    let [text, asked, refused] = ['', false, null];
    let reason = null;
    for await (const { choices } of stream) {
      text += choices[0].text;
      reason = choices[0].finish_reason ?? reason;
      if (!asked) {
        asked = true;
        ending.child.kill(signal);
        await until(async () => (await fetch(`${ending.address}/health`)).status === 503);
        refused = await ending.post('/v1/completions', { prompt: 'x' });
      }
    }
    assert.equal(refused.status, 503);
    assert.deepEqual([text, reason], [unbroken.text, unbroken.finish_reason]);
    assert.ok(text.length > 500, `${text.length}`);
    const [code] = await ending.ended;
    assert.equal(code, 0);
  });
}

test('a request that has just come is answered before the end', async () => {
  const ending = await start('--slots', '1');
  const reply = ending.post('/v1/completions', { prompt: 'One cold day', max_tokens: 400, temperature: 2, seed: 1 });
  // It is counted once the server has it, whatever the model does.
  await until(async () => (await ending.metric('requests_total')) === 1);
  ending.child.kill('SIGTERM');
  assert.equal((await reply).status, 200);
  assert.deepEqual(await ending.ended, [0, null]);
});

test('a long conversation and many texts hold up nobody', async () => {
  const messages = Array.from({ length: 4000 }, (_, index) => ({
    role: index % 2 ? 'assistant' : 'user',
    content: 'Hello.',
  }));
  const long = server.post('/v1/chat/completions', { messages });
  const began = performance.now();
  await client.completions.create({ model, prompt: 'Hello.', max_tokens: 1 });
  const response = await long;
  assert.equal(response.status, 400);
  const { error } = await response.json();
  assert.equal(error.code, 'context_length_exceeded', error.message);
  assert.ok(performance.now() - began < 20_000);
  const texts = Array.from({ length: 32 }, () => server.post('/tokenize', { prompt: 'word '.repeat(20_000) }));
  await client.completions.create({ model, prompt: 'Hello.', max_tokens: 20 });
  for (const text of texts) assert.equal((await text).status, 200);
});

test('pages that give their name this machine’s address are refused', async () => {
  const { hostname, port } = new URL(server.address);
  const status = (host) =>
    new Promise((resolve, reject) => {
      const socket = connect(Number(port), hostname, () => socket.write(`GET /v1/models HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n`));
      let text = '';
      socket.on('data', (data) => (text += data));
      socket.on('end', () => resolve(Number(text.split(' ')[1])));
      socket.on('error', reject);
    });
  assert.equal(await status('evil.example'), 403);
  assert.equal(await status(`evil.example:${port}`), 403);
  for (const host of [`localhost:${port}`, '127.0.0.1', '[::1]:80', `app.localhost:${port}`]) assert.equal(await status(host), 200, host);
});

test('what was read outlives the server', async () => {
  const { mkdtempSync, rmSync } = await import('node:fs');
  const folder = mkdtempSync(`${root}target/serve-`);
  try {
    const cached = async () => {
      const one = await start('--cache-dir', folder);
      const { usage } = await one.client.chat.completions.create({ model, messages: HELLO });
      one.child.kill('SIGTERM');
      assert.deepEqual(await one.ended, [0, null]);
      return usage.prompt_tokens_details.cached_tokens;
    };
    assert.deepEqual([await cached(), await cached()], [0, 19]);
  } finally {
    rmSync(folder, { recursive: true });
  }
});
