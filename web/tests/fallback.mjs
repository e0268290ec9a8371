// `fallbackUrl` in Chromium without WebGPU: replies come from `selvedge serve`, of another origin, and are those of the same
// model in the page.
//
//     cargo build && CHROMIUM=/usr/bin/chromium node --test web/tests/fallback.mjs

import { after, before, test } from 'node:test';
import assert from 'node:assert/strict';
import { killAll, start } from './binary.mjs';
import { root } from './root.mjs';
import { openPage } from './support.mjs';

let page, server, origin;
before(async () => {
  page = await openPage({ demo: `${root}assets/demo/` }, { withoutGpu: true });
  origin = page.server.address;
  server = await start('--cors', origin, '--api-key', 'sesame', '--slots', '1', '--queue', '0');
  await page.evaluate(() => {
    // What a reply that takes long is bound to.
    window.ENDLESS = { regex: '[a-z ]{3000,}' };
    window.SYSTEM = 'You are a helpful assistant.';
    window.failure = async (work) => {
      const error = await work().then(() => undefined, (error) => error);
      const { code, message, retryAfter } = error ?? {};
      return error && { code, message, retryAfter, is: error instanceof selvedge.SelvedgeError };
    };
  });
});
after(async () => {
  await page?.close();
  killAll();
});

const given = () => ({ fallbackUrl: server.address, apiKey: 'sesame', retries: 0 });

for (const name of ['Engine', 'WorkerEngine']) {
  test(`${name} without WebGPU asks the server, says so, and answers as the page's own CPU`, async () => {
    const before = page.server.requests.length;
    const said = await page.evaluate(
      async ([name, given]) => {
        const [notices, stages] = [[], []];
        const onNotice = (notice) => notices.push(notice);
        const remote = await selvedge[name].load('/demo', { ...given, onNotice, onProgress: ({ stage }) => stages.push(stage) });
        const talk = async (engine) => {
          const session = engine.session({ system: SYSTEM });
          const parts = [];
          for await (const { text } of session.send('Hello.')) parts.push(text);
          const { text, finishReason } = await session.send('Tell me a story.', { maxTokens: 12 });
          const messages = [{ role: 'system', content: SYSTEM }, { role: 'user', content: 'Hello.' }];
          const { choices } = await engine.chat.completions.create({ messages });
          return { first: parts.join(''), pieces: parts.length, text, finishReason, completion: choices[0].message.content };
        };
        const there = await talk(remote);
        const { backend, adapter } = (await remote.stats()).device;
        return { there, notices, stages, backend, adapter, remote: remote.remote };
      },
      [name, given()],
    );
    assert.ok(!page.server.requests.slice(before).some(({ path }) => /demo|wasm/.test(path)), 'nothing was downloaded');
    const here = await page.evaluate(async (name) => {
      const notices = [];
      const fallbackUrl = new URL('http://127.0.0.1:9/');
      const options = { store: false, fallbackUrl, headers: {}, device: 'cpu', onNotice: ({ code }) => notices.push(code) };
      const engine = await selvedge[name].load('/demo', options);
      const session = engine.session({ system: SYSTEM });
      const first = (await session.send('Hello.')).text;
      const { text, finishReason } = await session.send('Tell me a story.', { maxTokens: 12 });
      await engine.dispose();
      return { first, text, finishReason, notices, remote: engine.remote };
    }, name);
    assert.deepEqual([said.there.first, said.there.text, said.there.finishReason], [here.first, here.text, here.finishReason]);
    assert.equal(said.there.completion, here.first);
    assert.ok(said.there.pieces > 10, 'it came as a stream');
    assert.deepEqual(said.notices.map(({ code }) => code), ['remote']);
    assert.match(said.notices[0].message, /no WebGPU.*replies come from the server at http:\/\/127.*selvedge-demo/);
    assert.deepEqual(said.stages, ['ready']);
    assert.deepEqual([said.backend, said.adapter, said.remote], ['remote', `${server.address}/v1`, `${server.address}/v1`]);
    // `device: "cpu"` asks no server.
    assert.deepEqual([here.notices, here.remote], [[], null]);
  });
}

test('`device: "gpu"` has the server too, and no server is an error that says both', async () => {
  const other = await start();
  const [gpu, closed, wrong, foreign] = await page.evaluate(async ([given, other]) => {
    const { connect } = await import('/web/dist/remote/index.js');
    const engine = await selvedge.Engine.load('/demo', { ...given, device: 'gpu' });
    const load = (more) => failure(() => selvedge.Engine.load('/demo', { ...given, ...more }));
    return [
      engine.remote,
      await load({ fallbackUrl: given.fallbackUrl.replace('127.0.0.1', '[::1]') }),
      await load({ apiKey: 'wrong' }),
      // One that lets no page ask.
      await failure(() => connect(other, { retries: 0 })),
    ];
  }, [given(), other.address]);
  assert.equal(gpu, `${server.address}/v1`);
  assert.deepEqual([closed.code, closed.is], ['network', true]);
  assert.match(closed.message, /no WebGPU in this browser, and the server at .*cannot be reached/);
  assert.deepEqual([wrong.code, foreign.code], ['unauthorized', 'network']);
  assert.match(foreign.message, /CORS/);
});

test('a graphics adapter in software is none', async () => {
  const software = await openPage();
  try {
    const allowed = await start('--cors', software.server.address);
    const notices = await software.evaluate(async (fallbackUrl) => {
      const notices = [];
      await selvedge.Engine.load('/demo', { fallbackUrl, onNotice: (notice) => notices.push(notice) });
      return notices;
    }, allowed.address);
    assert.deepEqual(notices.map(({ code }) => code), ['remote']);
    assert.match(notices[0].message, /software|no graphics adapter/);
  } finally {
    await software.close();
  }
});

test('a conversation with a name is kept in the browser', async () => {
  const kept = await page.evaluate(async (given) => {
    const notices = [];
    const load = () => selvedge.Engine.load('/demo', { ...given, onNotice: ({ code }) => notices.push(code) });
    const engine = await load();
    await (await engine.session({ id: 'kept', system: SYSTEM })).send('Hello.');
    await engine.dispose();
    const session = await (await load()).session({ id: 'kept' });
    const { length } = session.messages;
    const again = (await session.regenerate()).text;
    await session.close();
    return { length, again, listed: (await selvedge.Engine.sessions()).map(({ id, model }) => [id, model]), notices };
  }, given());
  assert.equal(kept.length, 3);
  assert.match(kept.again, /^Hello!/);
  assert.deepEqual(kept.listed, [['kept', 'selvedge-demo']]);
  assert.deepEqual(kept.notices, ['remote', 'remote']);
});

test('a page that aborts gives its place on the server back', async () => {
  const errors = await page.evaluate(async (given) => {
    const engine = await selvedge.Engine.load('/demo', given);
    const long = { messages: [{ role: 'user', content: 'Hello.' }], structured_outputs: ENDLESS, max_tokens: 1500 };
    const abort = new AbortController();
    const stream = await engine.chat.completions.create({ ...long, stream: true }, { signal: abort.signal });
    const busy = await failure(() => engine.chat.completions.create(long));
    const aborted = await failure(async () => {
      for await (const _ of stream) abort.abort();
    });
    return { busy, aborted };
  }, given());
  assert.deepEqual([errors.busy.code, errors.busy.retryAfter], ['busy', 1], 'a page may read Retry-After');
  assert.equal(errors.aborted.code, 'aborted');
  const headers = { authorization: 'Bearer sesame' };
  for (const end = Date.now() + 20_000; ; ) {
    const metrics = await (await fetch(`${server.address}/metrics`, { headers })).text();
    if (/^selvedge_requests_running 0$/m.test(metrics)) break;
    assert.ok(Date.now() < end, 'the request goes on');
  }
});

test('a server that dies amid a reply is an error, and the text so far stays', async () => {
  const dying = await start('--cors', origin);
  await page.evaluate(async (fallbackUrl) => {
    const engine = await selvedge.Engine.load('/demo', { fallbackUrl, retries: 0 });
    const session = engine.session({ system: SYSTEM });
    const reply = session.send('Tell me a story.', { grammar: ENDLESS, maxTokens: 1500 });
    window.ending = { session, reply, failed: failure(() => Promise.resolve(reply)), engine };
    for await (const _ of reply) break;
  }, dying.address);
  dying.child.kill('SIGKILL');
  const { failed, said, next } = await page.evaluate(async () => {
    const { session, failed, engine } = ending;
    const error = await failed;
    return { failed: error, said: session.messages[2].content, next: await failure(async () => session.send('Hello.')) };
  });
  assert.equal(failed.code, 'interrupted');
  assert.match(failed.message, /the reply of the server at http:\/\/127\S+ broke off in the middle/);
  assert.ok(said.length > 0);
  assert.equal(next.code, 'network');
});
