// Conversations in the browser's store: what is there after a reload, a tab that was closed or crashed amid a reply, with
// two tabs, a full quota, and no storage at all. Texts and memory are the real ones, of the demo model on the CPU.
//
//     CHROMIUM=/usr/bin/chromium node --test web/tests/sessions.mjs

import { after, afterEach, before, beforeEach, test } from 'node:test';
import assert from 'node:assert/strict';
import { root } from './root.mjs';
import { openPage } from './support.mjs';

const SYSTEM = 'You are a helpful assistant.';
const STORY = 'Mia went to the lake. Emma met Finn.';

let page, server;
before(async () => {
  page = await openPage({ model: `${root}assets/demo/` });
  ({ server } = page);
});
after(() => page?.close());

/** A tab of the same browser, with an engine. */
async function tab(kind = 'Engine') {
  const opened = await page.page.context().newPage();
  opened.setDefaultTimeout(240_000);
  await opened.goto(server.address);
  await load(opened, kind);
  return opened;
}

const load = (tab, kind = 'Engine') =>
  tab.evaluate(async (kind) => {
    const at = kind === 'Engine' ? '/web/dist/index.js' : '/web/dist/worker/index.js';
    window.Kind = (await import(at))[kind];
    window.notices = [];
    window.start = async (options = {}) => {
      window.engine = await Kind.load('/model', {
        device: 'cpu',
        store: false,
        onNotice: ({ code, message }) => code !== 'cpu' && notices.push(`${code}: ${message}`),
        ...options,
      });
    };
    await start();
  }, kind);

const SESSION = { id: 'lake', system: SYSTEM };

/** Says something in a conversation; what came of it. */
const say = (tab, text, options = SESSION) =>
  tab.evaluate(
    async ([text, options]) => {
      window.session = await engine.session(options);
      const { text: answer, usage } = await session.send(text);
      return { answer, usage, messages: session.messages, notices, stats: (await engine.stats()).cache };
    },
    [text, options],
  );

/** A conversation as it is found, before anything is said in it. */
const found = (tab, options = SESSION) =>
  tab.evaluate(async (options) => {
    window.session = await engine.session(options);
    const remembered = await session.remembered();
    return { messages: session.messages, ...remembered, notices, stats: (await engine.stats()).cache };
  }, options);

// A tab that a failed test left would hold its conversations.
afterEach(async () => {
  for (const other of page.page.context().pages()) if (other !== page.page) await other.close();
});
beforeEach(async () => {
  await page.reload();
  await page.evaluate(async () => {
    const root = await navigator.storage.getDirectory();
    for await (const name of root.keys()) await root.removeEntry(name, { recursive: true });
  });
});

for (const kind of ['Engine', 'WorkerEngine']) {
  test(`after a reload nothing is read again, ${kind}`, async () => {
    const first = await tab(kind);
    const said = await say(first, STORY);
    assert.ok(said.stats.store.states > 0 && said.stats.checkpoints > 0, JSON.stringify(said.stats));
    const second = await say(first, 'Where did Mia go?');
    assert.ok(second.usage.readTokens < 20, JSON.stringify(second.usage));
    await first.reload();
    await load(first, kind);
    const later = await found(first);
    assert.deepEqual(later.messages, second.messages);
    assert.ok(later.remembered >= second.usage.promptTokens + second.usage.completionTokens - 2, JSON.stringify(later));
    assert.equal(later.stats.promptTokens, 0, 'nothing was read for it');
    const third = await say(first, 'Who did Emma meet?');
    assert.ok(third.usage.readTokens < 20 && third.usage.promptTokens > 60, JSON.stringify(third.usage));
    assert.equal(third.usage.readAgain, null);
    assert.ok(third.stats.storedTokens >= later.remembered, JSON.stringify(third.stats));
    assert.deepEqual(third.notices, []);
    // An edit of the first question, from disk.
    const edited = await first.evaluate(async () => {
      session.rewind(3);
      return (await session.send('Where did Mia go?')).usage;
    });
    assert.ok(edited.readTokens < 20, JSON.stringify(edited));
    // The same text as of an engine that was never interrupted.
    const unbroken = await first.evaluate(async (said) => {
      const other = await Kind.load('/model', { device: 'cpu', store: false });
      const session = other.session({ system: said.system });
      for (const text of said.before) await session.send(text);
      const { text } = await session.send(said.last);
      await other.dispose();
      await engine.dispose();
      return text;
    }, { system: SYSTEM, before: [STORY, 'Where did Mia go?'], last: 'Who did Emma meet?' });
    assert.equal(third.answer, unbroken);
    await first.close();
  });

  test(`a tab closed amid a reply, ${kind}`, async () => {
    const first = await tab(kind);
    await say(first, STORY);
    // Closed while the reply is under way and a part of it was written; whoever closes a tab waits for nothing.
    const closed = await first.evaluate(async () => {
      window.session = await engine.session({ id: 'lake' });
      // Of this seed a long one.
      const reply = session.send('Tell me a story.', { maxTokens: 4000, temperature: 2, seed: 23 });
      for await (const part of reply) {
        const sessions = await Kind.sessions();
        if (sessions.length !== 1) return `${sessions.length} conversations`;
        const [{ messages }] = sessions;
        const written = messages.length === 5 && messages[4].content.length > 8;
        if (part && written) return 'amid the reply';
      }
      return 'after the reply';
    });
    assert.equal(closed, 'amid the reply');
    await first.close();
    const second = await tab(kind);
    const later = await found(second);
    assert.equal(later.messages.length, 5, JSON.stringify(later.messages));
    assert.equal(later.messages[3].content, 'Tell me a story.');
    assert.ok(later.messages[4].content.length > 8, 'the part of the reply that came');
    const again = await second.evaluate(async () => (await session.regenerate({ maxTokens: 5 })).usage);
    assert.ok(again.readTokens < 10 && again.promptTokens > 40, `the question is not read again: ${JSON.stringify(again)}`);
    assert.deepEqual(later.notices, []);
    await second.evaluate(() => engine.dispose());
    await second.close();
  });
}

for (const kind of ['Engine', 'WorkerEngine']) {
  test(`an engine disposed amid a reply, ${kind}`, async () => {
    const first = await tab(kind);
    await say(first, STORY);
    const ended = await first.evaluate(async () => {
      const reply = session.send('Tell me a story.', { maxTokens: 4000, temperature: 2, seed: 3 });
      let parts = 0;
      try {
        for await (const _ of reply) {
          parts += 1;
          if (parts === 8) void engine.dispose();
        }
      } catch ({ code }) {
        await engine.dispose();
        const stored = (await Kind.sessions()).find(({ id }) => id === 'lake');
        return { code, said: session.messages, stored: stored.messages, notices };
      }
      return { code: 'none' };
    });
    assert.equal(ended.code, 'disposed');
    assert.equal(ended.said.length, 5);
    assert.deepEqual(ended.stored, ended.said);
    assert.deepEqual(ended.notices, []);
  });
}

test('what is stored and cannot be read is not written over', async () => {
  const first = await tab();
  await say(first, STORY);
  await first.evaluate(() => engine.dispose());
  const broken = await first.evaluate(async () => {
    const root = await (await navigator.storage.getDirectory()).getDirectoryHandle('selvedge');
    const at = await root.getDirectoryHandle('sessions');
    for await (const entry of at.values()) {
      const text = (await (await entry.getFile()).text()).slice(0, -9);
      const stream = await entry.createWritable();
      await stream.write(text);
      await stream.close();
      window.read = async () => (await entry.getFile()).text();
      return text;
    }
  });
  await first.evaluate(() => start());
  const said = await say(first, 'Where did Mia go?');
  assert.match(said.notices.join(), /not-kept: the browser's storage cannot be used \(SyntaxError/);
  assert.equal(await first.evaluate(() => read()), broken);
  const refused = await first.evaluate(async () => {
    try {
      engine.session({ id: 42 });
    } catch ({ code }) {
      return code;
    }
  });
  assert.equal(refused, 'bad-request');
});

test('a conversation is closed, removed and forgotten; a signal that was aborted changes nothing', async () => {
  const first = await tab();
  await say(first, STORY);
  const run = await first.evaluate(async () => {
    const aborted = await session.send('Never said.', { signal: AbortSignal.abort() }).then(
      () => 'none',
      ({ code }) => code,
    );
    const after = session.messages.length;
    const answer = await session.send('Where did Mia go?');
    const open = await Kind.removeSession('lake').catch(({ code }) => code);
    await session.close();
    const removed = await Kind.removeSession('lake');
    await Kind.forget();
    const states = (await (await navigator.storage.getDirectory()).getDirectoryHandle('selvedge')).getDirectoryHandle('states');
    let left = 0;
    for await (const _ of (await states).keys()) left += 1;
    await session.send('Who did Emma meet?');
    return { aborted, after, answer: answer.text, open, removed, left, sessions: (await Kind.sessions()).length };
  });
  assert.deepEqual([run.aborted, run.after, run.open, run.removed, run.left, run.sessions], ['aborted', 3, 'bad-request', true, 0, 0]);
  assert.ok(run.answer.length > 3);
});

test('a browser that writes files in place and in workers only', async () => {
  const first = await tab();
  const read = await first.evaluate(async () => {
    const source = `
      delete FileSystemFileHandle.prototype.createWritable;
      const { folder, readFile, rootFolder, writeFile } = await import('${location.origin}/web/dist/store/opfs.js');
      const at = await folder(await rootFolder(), 'older');
      await writeFile(at, 'a', Uint8Array.of(1, 2, 3));
      await writeFile(at, 'a', Uint8Array.of(4, 5));
      const names = [];
      for await (const name of at.keys()) names.push(name);
      postMessage([...(await readFile(at, 'a')), ...names]);`;
    const worker = new Worker(URL.createObjectURL(new Blob([source], { type: 'text/javascript' })), { type: 'module' });
    return new Promise((resolve) => {
      worker.onmessage = ({ data }) => resolve(data);
      worker.onerror = ({ message }) => resolve(message);
    });
  });
  assert.deepEqual(read, [4, 5, 'a']);
});

test('a tab that crashes amid a reply', async () => {
  const first = await tab();
  await say(first, STORY);
  const devtools = await first.context().newCDPSession(first);
  await first.evaluate(() => void session.send('Tell me a story.', { maxTokens: 4000 }));
  const crashed = new Promise((resolve) => first.once('crash', resolve));
  void devtools.send('Page.crash').catch(() => {});
  await crashed;
  const second = await tab();
  const later = await found(second);
  assert.ok(later.messages.length >= 3 && later.remembered > 20, JSON.stringify(later));
  assert.deepEqual(later.notices, []);
  const next = await say(second, 'Where did Mia go?');
  assert.ok(next.usage.readTokens < next.usage.promptTokens / 2, JSON.stringify(next.usage));
  await second.close();
});

test('two tabs: one has the conversation, the other says that it keeps nothing of it', async () => {
  const [first, second] = [await tab(), await tab()];
  await say(first, STORY);
  const other = await say(second, 'Where did Mia go?');
  assert.deepEqual(other.messages.slice(0, 3), (await found(first)).messages);
  assert.match(other.notices.join(), /not-kept: it is open elsewhere, in another tab or another engine: what is said in the conversation `lake`/);
  // What one tab read, the other need not.
  assert.ok(other.usage.readTokens < 20, JSON.stringify(other.usage));
  const refused = await second.evaluate(() => Kind.removeSession('lake').catch(({ code }) => code));
  assert.equal(refused, 'bad-request');
  const at = await say(first, 'Who did Emma meet?');
  await first.close();
  await second.evaluate(() => engine.dispose());
  await second.close();
  const third = await tab();
  assert.deepEqual((await found(third)).messages, at.messages);
  // Both at once, in conversations of their own.
  const fourth = await tab();
  const both = await Promise.all([say(third, STORY, { id: 'a', system: SYSTEM }), say(fourth, STORY, { id: 'b', system: SYSTEM })]);
  assert.equal(both[0].answer, both[1].answer);
  for (const { notices } of both) assert.deepEqual(notices, []);
  await third.evaluate(() => engine.dispose());
  const removed = await third.evaluate(async () => [await Kind.removeSession('a'), await Kind.removeSession('a')]);
  assert.deepEqual(removed, [true, false]);
  const left = await third.evaluate(async () => (await Kind.sessions()).map(({ id, model }) => [id, model.endsWith('/model')]));
  assert.deepEqual(left, [['b', true], ['lake', true]]);
  await third.close();
  await fourth.close();
});

test('a full quota takes nothing from the conversation, and is told', async () => {
  const first = await tab();
  const before = await say(first, STORY);
  const devtools = await first.context().newCDPSession(first);
  const origin = new URL(server.address).origin;
  await devtools.send('Storage.overrideQuotaForOrigin', { origin, quotaSize: 1000 });
  const during = await say(first, 'Where did Mia go?');
  assert.ok(during.answer.length > 3);
  assert.match(during.notices.join(), /not-kept: the browser gives the page no more storage: what is said/);
  assert.match(during.notices.join(), /memory: .*the browser gives the page no more storage; states are not kept until there is room/);
  await devtools.send('Storage.overrideQuotaForOrigin', { origin });
  // What was stored before is there; and with room, what was said since is stored after all.
  const after = await say(first, 'Who did Emma meet?');
  assert.equal(after.messages.length, before.messages.length + 4);
  await first.reload();
  await load(first);
  const later = await found(first);
  assert.deepEqual(later.messages, after.messages);
  assert.ok(later.remembered > 40, JSON.stringify(later));
  await first.close();
});

test('no storage, as in a private window', async () => {
  const first = await page.page.context().newPage();
  await first.addInitScript(() => {
    navigator.storage.getDirectory = () => Promise.reject(new DOMException('private window', 'SecurityError'));
  });
  await first.goto(server.address);
  await load(first);
  const said = await say(first, STORY);
  assert.equal(said.messages.length, 3);
  assert.match(said.notices.join(), /not-kept: the browser's storage cannot be used .*what is said in the conversation `lake`/);
  assert.match(said.notices.join(), /not-kept: the browser's storage cannot be used .*the memory of conversations/);
  const next = await say(first, 'Where did Mia go?');
  assert.ok(next.usage.readTokens < 20, 'it is remembered while the page is there');
  assert.equal(next.notices.length, said.notices.length, 'told once');
  await first.close();
});

test('bytes are limited, and damaged states are read anew and told', async () => {
  const first = await tab();
  const { store } = (await say(first, STORY, { id: 'size', system: SYSTEM })).stats;
  const stateBytes = Math.ceil((3.5 * store.bytes) / store.states);
  // A conversation that alone is too much takes nobody's place.
  await first.evaluate(async () => {
    await engine.dispose();
    await start({ stateBytes: 1000 });
  });
  const none = await say(first, STORY, { id: 'none', system: SYSTEM });
  assert.match(none.notices.join(), /memory: .*the memory of the text takes \d+ bytes, and all may take 1000/);
  assert.equal(none.notices.length, 1, 'told once');
  await first.evaluate(async (stateBytes) => {
    await engine.dispose();
    notices.length = 0;
    await start({ stateBytes });
  }, stateBytes);
  for (const id of ['a', 'b', 'c', 'd']) await say(first, `${STORY} I am ${id}.`, { id, system: SYSTEM });
  const held = await say(first, 'Where did Mia go?', { id: 'd', system: SYSTEM });
  assert.ok(held.stats.store.bytes <= stateBytes && held.stats.store.states > 1, JSON.stringify(held.stats.store));
  await first.evaluate(async () => {
    const root = await (await navigator.storage.getDirectory()).getDirectoryHandle('selvedge');
    const states = await root.getDirectoryHandle('states');
    for await (const entry of states.values()) {
      const bytes = new Uint8Array(await (await entry.getFile()).arrayBuffer());
      bytes[bytes.length >> 1] ^= 1;
      const stream = await entry.createWritable();
      await stream.write(bytes);
      await stream.close();
    }
  });
  await first.reload();
  await load(first);
  const next = await say(first, 'Who did Emma meet?', { id: 'd', system: SYSTEM });
  assert.ok(next.usage.readTokens > 40, JSON.stringify(next.usage));
  assert.match(next.notices.join(), /memory: [0-9a-f]{32}\.state: the saved state is damaged/);
  await first.close();
});
