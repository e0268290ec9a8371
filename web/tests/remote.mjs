// Engines whose replies come from a server: `selvedge serve` itself beside the same model in this process, and servers that
// fail as real ones do.
//
//     cargo build && node --test web/tests/remote.mjs

import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import assert from 'node:assert/strict';
import { killAll, start } from './binary.mjs';
import { difference } from './compare.mjs';
import { root } from './root.mjs';
import { chunk, scripted, stream } from './scripted.mjs';
import { Engine, SelvedgeError } from '../dist/node.js';
import { connect } from '../dist/remote/index.js';

const SYSTEM = 'You are a helpful assistant.';
const HELLO = [{ role: 'system', content: SYSTEM }, { role: 'user', content: 'Hello.' }];
/** A reply that takes long. */
const ENDLESS = { regex: '[a-z ]{3000,}' };
const LONG = { messages: HELLO, structured_outputs: ENDLESS, max_tokens: 1500 };

let server, remote, local;
const closing = [];
before(async () => {
  server = await start('--slots', '2');
  remote = await connect(server.address);
  local = await Engine.load(`${root}assets/demo`, { device: 'cpu' });
});
after(async () => {
  await local?.dispose();
  for (const close of closing) close();
  killAll();
});

/** A server that answers as told, and an engine over it. */
async function over(answer, options = {}, models = undefined) {
  const other = await scripted(answer, models);
  closing.push(other.close);
  return { ...other, engine: await connect(other.address, { retries: 0, ...options }) };
}

/** The error of a promise, which must be one of this package. */
async function failure(promise) {
  const error = await Promise.resolve(promise).then(
    (value) => assert.fail(`no error, but ${JSON.stringify(value)}`),
    (error) => error,
  );
  assert.ok(error instanceof SelvedgeError, String(error?.stack));
  return error;
}

async function read(stream, upTo = Infinity) {
  let [text, chunks] = ['', 0];
  for await (const { choices } of stream) {
    text += choices[0]?.delta.content ?? '';
    chunks += 1;
    if (chunks >= upTo) break;
  }
  return text;
}

async function until(holds) {
  for (const end = Date.now() + 20_000; !(await holds()); await sleep(5)) assert.ok(Date.now() < end, String(holds));
}

test('a completion is that of the model in this process, whole and as a stream', async () => {
  for (const more of [{}, { max_tokens: 3 }, { stop: 'story' }, { temperature: 1.5, seed: 7, max_tokens: 30 }]) {
    const [here, there] = await Promise.all([local, remote].map((engine) => engine.chat.completions.create({ messages: HELLO, ...more })));
    assert.equal(there.choices[0].message.content, here.choices[0].message.content);
    assert.equal(there.choices[0].finish_reason, here.choices[0].finish_reason);
    assert.equal(there.usage.total_tokens, here.usage.total_tokens);
    const streams = [local, remote].map((engine) => engine.chat.completions.create({ messages: HELLO, stream: true, ...more }));
    const [streamedHere, streamedThere] = await Promise.all(streams.map(async (stream) => read(await stream)));
    assert.equal(streamedThere, streamedHere);
  }
  // The name of a model is the engine's own, as in this process.
  await remote.chat.completions.create({ model: 'gpt-5', messages: HELLO, max_tokens: 1 });
});

test('a conversation goes on, and its replies have the same parts, counts and ends', async () => {
  const talk = async (engine) => {
    const session = engine.session({ system: SYSTEM });
    const parts = [];
    const reply = session.send('Tell me a story.');
    for await (const part of reply) parts.push(part);
    const { text, finishReason, usage } = await reply;
    assert.equal(parts.map(({ text }) => text).join(''), text);
    assert.ok(parts.length > 10 && parts.every(({ type }) => type === 'answer'));
    const second = await session.send('Who was in the story?', { maxTokens: 5 });
    const again = await session.regenerate({ grammar: { regex: '[A-Z][a-z]{2}' } });
    const fork = session.fork();
    fork.rewind(1);
    const apart = (await fork.send('Hello.')).text;
    const counts = [usage.promptTokens, usage.completionTokens, session.messages.length];
    return { text, finishReason, counts, second: [second.text, second.finishReason], again: again.text, apart };
  };
  const there = await talk(remote);
  assert.deepEqual(there, await talk(local));
  assert.match(there.again, /^[A-Z][a-z]{2}$/);
  const { last, cache, device, model, contextLength } = await remote.stats();
  assert.ok(last.readTokens < last.promptTokens, 'what the server remembers is not read again');
  assert.ok(cache.cachedTokens > 0 && cache.promptTokens > cache.cachedTokens);
  assert.deepEqual([device.backend, device.adapter], ['remote', `${server.address}/v1`]);
  assert.deepEqual([model.name, contextLength], ['selvedge-demo', 2048]);
  assert.deepEqual([remote.remote, remote.modelName, local.remote], [`${server.address}/v1`, 'selvedge-demo', null]);
});

test('bounds on a reply reach the server', async () => {
  const send = async (options) => (await remote.session().send('Tell me a story.', options)).text;
  assert.ok(['yes', 'no, thanks'].includes(await send({ grammar: { choice: ['yes', 'no, thanks'] } })));
  const schema = { type: 'object', properties: { mood: { enum: ['glad', 'sad'] } }, required: ['mood'], additionalProperties: false };
  assert.ok(['glad', 'sad'].includes(JSON.parse(await send({ grammar: { jsonSchema: schema } })).mood));
  assert.match(await send({ grammar: { lark: 'start: "<" start ">" | /[a-z]{1,3}/' } }), /^(<*)[a-z]{1,3}(>*)$/);
  JSON.parse(await send({ grammar: { jsonSchema: true }, maxTokens: 200 }));
});

test('calls of tools and probabilities come in parts, and answers go back', async () => {
  const parameters = {
    type: 'object',
    properties: { city: { enum: ['Paris', 'Rome'] }, days: { type: 'integer', minimum: 1, maximum: 9 } },
    required: ['city', 'days'],
    additionalProperties: false,
  };
  const tools = [{ type: 'function', function: { name: 'weather', parameters } }];
  const talk = async (engine) => {
    const session = engine.session({ system: SYSTEM });
    const options = { tools, toolChoice: 'required', temperature: 1.2, seed: 3, maxTokens: 400 };
    const reply = session.send('What is the weather in Rome?', options);
    const [types, pieces] = [new Set(), []];
    for await (const part of reply) {
      types.add(part.type);
      if (part.type === 'tool-arguments') pieces.push(part.arguments);
    }
    const { toolCalls, text, finishReason } = await reply;
    const [call] = toolCalls;
    assert.equal(pieces.join(''), call.function.arguments);
    assert.ok(pieces.length > 3, `${pieces.length} pieces`);
    assert.equal(session.messages[2].tool_calls[0].id, call.id);
    const answers = toolCalls.map(({ id }) => ({ role: 'tool', tool_call_id: id, content: 'Sunny.' }));
    const then = await session.send(answers, { maxTokens: 5, logprobs: 2 });
    assert.equal(then.logprobs.map(({ token }) => token).join('').trim(), then.text.trim());
    return { types: [...types], called: toolCalls.map((call) => call.function), text, finishReason, then: then.text };
  };
  const there = await talk(remote);
  assert.deepEqual(there, await talk(local));
  assert.deepEqual([there.types, there.finishReason], [['tool-call', 'tool-arguments', 'tool-call-end'], 'tool-calls']);
  assert.ok(JSON.parse(there.called[0].arguments).days >= 1);
});

test('whoever stops, leaves or aborts ends the request', async () => {
  const idle = () => until(async () => (await server.metric('requests_running')) === 0);
  const before = await server.metric('generation_tokens_total');
  // Leaving the loop.
  assert.ok((await read(await remote.chat.completions.create({ ...LONG, stream: true }), 5)).length > 0);
  await idle();
  // Aborting a stream, and a whole reply.
  const abort = new AbortController();
  const stream = await remote.chat.completions.create({ ...LONG, stream: true }, { signal: abort.signal });
  const reading = (async () => {
    for await (const { choices } of stream) if (choices[0].delta.content) abort.abort();
  })();
  assert.equal((await failure(reading)).code, 'aborted');
  await idle();
  const whole = new AbortController();
  const asked = remote.chat.completions.create({ ...LONG, signal: whole.signal });
  await until(async () => (await server.metric('requests_running')) === 1);
  whole.abort();
  assert.equal((await failure(asked)).code, 'aborted');
  await idle();
  assert.equal((await failure(remote.chat.completions.create({ ...LONG, signal: whole.signal }))).code, 'aborted');
  // Stopping a reply of a conversation keeps its text.
  const session = remote.session({ system: SYSTEM });
  const options = { grammar: ENDLESS, maxTokens: 1500 };
  const reply = session.send('Tell me a story.', options);
  for await (const _ of reply) reply.stop();
  const { text, finishReason, usage } = await reply;
  assert.deepEqual([finishReason, usage.promptTokens], ['cancelled', 0]);
  assert.ok(text.length > 0);
  assert.equal(session.messages[2].content, text.trimEnd());
  await idle();
  assert.ok((await server.metric('generation_tokens_total')) - before < 4 * 1400, 'none was made to its end');
});

test('embeddings are those of the model in this process', async () => {
  for (const input of ['One cold day', ['A dog ran.', 'The moon.'], [5, 6, 7]]) {
    const [here, there] = await Promise.all([local, remote].map((engine) => engine.embeddings.create({ input })));
    assert.deepEqual(here.usage, there.usage);
    assert.equal(here.data.length, there.data.length);
    for (const [index, { embedding }] of here.data.entries()) assert.ok(difference(embedding, there.data[index].embedding) < 1e-6);
  }
  const short = await remote.embeddings.create({ input: 'a', dimensions: 4 });
  assert.equal(short.data[0].embedding.length, 4);
  assert.equal((await failure(remote.embeddings.create({ input: 'a', pooling: 'last' }))).code, 'bad-request');
  assert.equal((await failure(remote.embeddings.create({ input: 'a' }, { signal: AbortSignal.abort() }))).code, 'aborted');
});

test('what needs the model in this process is refused by name', async () => {
  const session = remote.session();
  await session.send('Hello.');
  const works = [
    session.snapshot(),
    session.remembered(),
    remote.restore(new Uint8Array(8)),
    remote.tokens.logits([1, 2]),
    remote.tokens.greedy([1, 2], 3),
  ];
  for (const { code, message } of await Promise.all(works.map(failure))) {
    assert.equal(code, 'not-remote', message);
    assert.match(message, /server/);
  }
  const notices = [];
  const stop = remote.on('notice', ({ code }) => notices.push(code));
  remote.session({ keep: true });
  remote.session({ keep: true });
  stop();
  assert.deepEqual(notices, ['not-kept'], 'told once');
});

test('a disposed engine ends what is under way and takes no more', async () => {
  const engine = await connect(server.address);
  const reply = engine.session().send('Tell me a story.', { grammar: ENDLESS, maxTokens: 1500 });
  const stream = await engine.chat.completions.create({ ...LONG, stream: true });
  const reading = read(stream);
  reading.catch(() => {});
  await engine.dispose();
  assert.equal((await failure(reply)).code, 'disposed');
  assert.equal((await failure(reading)).code, 'disposed');
  assert.equal((await failure(engine.chat.completions.create({ messages: HELLO }))).code, 'disposed');
  assert.equal((await failure(engine.stats())).code, 'disposed');
  await engine.dispose();
  await until(async () => (await server.metric('requests_running')) === 0);
});

test('refusals of the server have its words and a code', async () => {
  const create = (more) => failure(remote.chat.completions.create({ messages: HELLO, ...more }));
  const bad = await create({ temperature: -1 });
  assert.deepEqual([bad.code, bad.status], ['bad-request', 400]);
  assert.match(bad.message, /temperature/);
  assert.equal((await create({ temperature: -1, stream: true })).code, 'bad-request');
  const long = await create({ messages: [{ role: 'user', content: 'word '.repeat(20_000) }] });
  assert.equal(long.code, 'context-full', long.message);
  const send = await failure(remote.session().send('Hello.', { topP: 7 }));
  assert.deepEqual([send.code, /top-p of 7/.test(send.message)], ['bad-request', true]);
});

test('keys', async () => {
  const closed = await start('--api-key', 'sesame');
  for (const apiKey of [undefined, 'wrong']) {
    const error = await failure(connect(closed.address, apiKey === undefined ? {} : { apiKey }));
    assert.deepEqual([error.code, error.status], ['unauthorized', 401]);
    assert.match(error.message, /API key/);
  }
  const engine = await connect(`${closed.address}/v1/`, { apiKey: 'sesame' });
  assert.equal((await engine.session({ system: SYSTEM }).send('Hello.')).finishReason, 'stop');
  closed.child.kill('SIGKILL');
});

test('a busy server is asked again, and told of', async () => {
  const small = await start('--slots', '1', '--queue', '0');
  const engine = await connect(small.address, { retries: 0 });
  const patient = await connect(small.address);
  const first = await engine.chat.completions.create({ ...LONG, stream: true });
  const busy = await failure(engine.chat.completions.create({ messages: HELLO }));
  assert.deepEqual([busy.code, busy.status, busy.retryAfter], ['busy', 429, 1]);
  const later = patient.chat.completions.create({ messages: HELLO, max_tokens: 2 });
  await until(() => small.log.filter((line) => line.includes('"status":429')).length === 2);
  assert.ok((await read(first, 3)).length > 0);
  assert.equal((await later).usage.completion_tokens, 2, 'the second attempt found room');
  small.child.kill('SIGKILL');
});

test('servers that are not there, or are something else', async () => {
  const gone = await start();
  const engine = await connect(gone.address, { retries: 0 });
  gone.child.kill('SIGKILL');
  await gone.ended;
  const works = [
    connect(gone.address, { retries: 0 }),
    engine.session().send('Hello.'),
    engine.chat.completions.create({ messages: HELLO }),
  ];
  for (const { code, message } of await Promise.all(works.map(failure))) {
    assert.equal(code, 'network');
    assert.match(message, /127\.0\.0\.1.*cannot be reached/);
  }
  assert.equal((await failure(connect('ftp://example.com'))).code, 'bad-request');
  assert.equal((await failure(connect('nowhere'))).code, 'bad-request');
  const secret = await failure(connect('http://me:sesame@127.0.0.1/v1'));
  assert.deepEqual([secret.code, /sesame/.test(secret.message)], ['bad-request', false]);
  const page = (_, response) => {
    response.setHeader('content-type', 'text/html');
    response.end('<!doctype html>');
  };
  const other = await over(page);
  for (const stream of [false, true]) {
    const { code, message } = await failure(other.engine.chat.completions.create({ messages: HELLO, stream }));
    assert.equal(code, 'network');
    assert.match(message, /does not answer as OpenAI's interface does: <!doctype/);
  }
  const empty = await scripted(page, []);
  closing.push(empty.close);
  assert.equal((await failure(connect(empty.address))).code, 'not-found');
});

test('one of several models must be named', async () => {
  const name = ({ model }, response) => response.end(JSON.stringify({ choices: [{ index: 0, message: { content: model } }] }));
  const many = await scripted(name, ['one', 'two']);
  closing.push(many.close);
  const unnamed = await failure(connect(many.address));
  assert.equal(unnamed.code, 'bad-request');
  assert.match(unnamed.message, /`one`, `two`.*remoteModel/);
  const named = await connect(many.address, { remoteModel: 'two', headers: { 'x-mine': 'yes' } });
  assert.equal((await named.chat.completions.create({ messages: HELLO })).choices[0].message.content, 'two');
  assert.equal(many.requests.at(-1).headers['x-mine'], 'yes');
  assert.equal((await failure(connect(many.address, { remoteModel: 'three' }))).code, 'not-found');
});

test('a server that dies amid a reply', async () => {
  const dying = await start();
  const engine = await connect(dying.address, { retries: 0 });
  const streams = [engine.chat.completions.create({ ...LONG, stream: true }), engine.chat.completions.create({ ...LONG, stream: true })];
  const [one, other] = await Promise.all(streams);
  const whole = engine.chat.completions.create(LONG);
  whole.catch(() => {});
  const session = engine.session({ system: SYSTEM });
  const reply = session.send('Tell me a story.', { grammar: ENDLESS, maxTokens: 1500 });
  await until(async () => (await dying.metric('requests_running')) === 4);
  for await (const _ of reply) break;
  dying.child.kill('SIGKILL');
  for (const { code, message } of await Promise.all([read(one), read(other), reply].map(failure))) {
    assert.equal(code, 'interrupted', message);
    assert.match(message, /broke off in the middle/);
  }
  // Nothing of this one had come.
  assert.equal((await failure(whole)).code, 'network');
  assert.equal(session.messages.length, 3, 'the text so far stays');
});

test('streams as other servers write them', async () => {
  const pieces = [
    ': a comment\r\n\r\n',
    `event: message\r\ndata:${JSON.stringify(chunk({ role: 'assistant', content: null, reasoning: 'Hm' }))}\r\n\r`,
    `\ndata: ${JSON.stringify(chunk({ reasoning_content: '.' }))}\n\n`,
    // An event of two lines, and a letter in two pieces.
    `data: {"id":"c1","created":1,"model":"one",\ndata: "choices":[{"index":0,"delta":{"content":"Gr`,
    Buffer.from('ü').subarray(0, 1),
    Buffer.concat([Buffer.from('ü').subarray(1), Buffer.from('ße"},"finish_reason":null}]}\n\n')]),
    `data: ${JSON.stringify(chunk({}, 'stop'))}\n\n`,
  ];
  const { engine } = await over(async (_, response) => {
    response.writeHead(200, { 'content-type': 'text/event-stream' });
    for (const piece of pieces) {
      response.write(piece);
      await sleep(5);
    }
    // Without `[DONE]`, and without usage.
    response.end();
  });
  const { text, thinking, finishReason, usage } = await engine.session().send('Hello.');
  assert.deepEqual([text, thinking, finishReason], ['Grüße', 'Hm.', 'stop']);
  assert.deepEqual([usage.promptTokens, usage.completionTokens], [0, 3]);
});

test('streams that end before their reply, and errors in them', async () => {
  const answers = {
    cut: (response) => (response.write(`data: ${JSON.stringify(chunk({ content: 'Hel' }))}\n\n`), response.end()),
    error: (response) => stream(response, [chunk({ content: 'Hel' }), { error: { message: 'the device is gone', code: null } }]),
    full: (response) => stream(response, [{ error: { message: 'too long', code: 'context_length_exceeded' } }]),
    other: (response) => response.end('data: no JSON\n\n'),
  };
  const { engine } = await over((body, response) => answers[body.messages[0].content](response));
  const ask = async (content) => read(await engine.chat.completions.create({ messages: [{ role: 'user', content }], stream: true }));
  const codes = {
    cut: ['interrupted', /broke off/],
    error: ['network', /the device is gone/],
    full: ['context-full', /too long/],
    other: ['network', /no JSON/],
  };
  for (const [name, [code, words]] of Object.entries(codes)) {
    const error = await failure(ask(name));
    assert.equal(error.code, code, `${name}: ${error.message}`);
    assert.match(error.message, words);
  }
});

test('waits that a server asks for', async () => {
  let asked = 0;
  const refuse = (status, after) => (_, response) => {
    asked += 1;
    response.writeHead(status, after === undefined ? {} : { 'retry-after': after });
    response.end('not now');
  };
  const patient = await over(refuse(503, '0'), { retries: 2 });
  const error = await failure(patient.engine.chat.completions.create({ messages: HELLO }));
  assert.deepEqual([error.code, error.status, asked], ['busy', 503, 3]);
  asked = 0;
  const hours = await over(refuse(429, '7200'), { retries: 2 });
  const busy = await failure(hours.engine.chat.completions.create({ messages: HELLO }));
  assert.deepEqual([busy.code, busy.retryAfter, asked], ['busy', 7200, 1], 'nobody is kept waiting for hours');
  asked = 0;
  const date = await over(refuse(429, new Date(Date.now() + 60_000).toUTCString()), { retries: 2 });
  const { retryAfter } = await failure(date.engine.chat.completions.create({ messages: HELLO }));
  assert.ok(retryAfter > 30 && retryAfter <= 60, `${retryAfter}`);
  asked = 0;
  const broken = await over(refuse(500), { retries: 1 });
  assert.equal((await failure(broken.engine.chat.completions.create({ messages: HELLO }))).code, 'network');
  assert.equal(asked, 2);
  // A wait can be cut short.
  const abort = new AbortController();
  const slow = await over(refuse(429, '15'), { retries: 1 });
  const waiting = slow.engine.chat.completions.create({ messages: HELLO, signal: abort.signal });
  setTimeout(() => abort.abort(), 50);
  assert.equal((await failure(waiting)).code, 'aborted');
});
