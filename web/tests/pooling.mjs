// The pooling of a model's embeddings, from its `1_Pooling/config.json`: wherever its files lie, read once and when it is needed.
//
//     CHROMIUM=/usr/bin/chromium node --test web/tests/pooling.mjs

import { after, before, test } from 'node:test';
import { readFileSync } from 'node:fs';
import assert from 'node:assert/strict';
import { root } from './root.mjs';
import { openPage } from './support.mjs';

const DEMO = `${root}assets/demo/`;
const NAMES = ['config.json', 'model.safetensors', 'tokenizer.json', 'tokenizer_config.json'];
const model = Object.fromEntries(NAMES.map((name) => [name, readFileSync(DEMO + name)]));
const POOLING = '1_Pooling/config.json';
const LAST = '{"word_embedding_dimension": 64, "pooling_mode_mean_tokens": false, "pooling_mode_lasttoken": true}';
const COMMIT = 'c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00';

const withFile = (text) => ({ ...model, [POOLING]: Buffer.from(text) });
const folders = {
  without: model,
  last: withFile(LAST),
  mean: withFile('{"pooling_mode": "mean"}'),
  cls: withFile('{"pooling_mode_cls_token": true}'),
  broken: withFile('{"pooling_mode'),
  api: { 'models/org/embedder/revision/main': Buffer.from(JSON.stringify({ sha: COMMIT })) },
  org: Object.fromEntries(Object.entries(withFile(LAST)).map(([name, bytes]) => [`embedder/resolve/${COMMIT}/${name}`, bytes])),
};

let page, server;
before(async () => {
  page = await openPage(folders);
  ({ server } = page);
  await page.evaluate(async () => {
    const own = { device: 'cpu', store: false };
    window.load = (model, options = {}, kind = 'Engine') => selvedge[kind].load(model, { ...own, ...options });
    window.vector = async (engine, pooling) => (await engine.embeddings.create({ input: 'A dog ran.', pooling })).data[0].embedding;
    window.same = (a, b) => a.every((x, index) => Math.abs(x - b[index]) < 1e-6);
    /** The pooling of an engine that is not told which. */
    window.poolingOf = async (engine) => {
      const [own, mean, last] = [await vector(engine), await vector(engine, 'mean'), await vector(engine, 'last')];
      return [['mean', mean], ['last', last]].filter(([, other]) => same(own, other)).map(([name]) => name).join();
    };
    window.loaded = async (...how) => {
      const engine = await load(...how);
      const pooling = await poolingOf(engine);
      await engine.dispose();
      return pooling;
    };
    window.files = async (names) => {
      const read = async (name) => [name, new Uint8Array(await (await fetch(`/last/${name}`)).arrayBuffer())];
      return new Map(await Promise.all(names.map(read)));
    };
  });
});
after(() => page?.close());

const asked = () => server.requests.filter(({ path }) => path.endsWith(POOLING)).length;
const pooling = (...how) => page.evaluate((how) => loaded(...how), how);

test('a folder on a server: the file is asked for once, and only by embeddings', async () => {
  assert.equal(await pooling('/without'), 'mean');
  assert.equal(await pooling('/mean'), 'mean');
  assert.equal(await pooling('/last', {}, 'WorkerEngine'), 'last');
  server.requests.length = 0;
  await page.evaluate(async () => {
    const engine = await load('/last');
    await engine.session().send('Hello.', { maxTokens: 2 });
    window.chosen = [engine, await vector(engine, 'mean')];
  });
  assert.equal(asked(), 0, 'neither a conversation nor a chosen pooling needs it');
  const differ = await page.evaluate(async () => {
    const [engine, mean] = chosen;
    // The page goes elsewhere; the model's address does not.
    history.pushState(null, '', '/elsewhere/');
    const [one, two] = await Promise.all([vector(engine), vector(engine)]);
    history.pushState(null, '', '/');
    await engine.dispose();
    return [same(one, two), same(one, mean)];
  });
  assert.deepEqual(differ, [true, false]);
  assert.equal(asked(), 1);
});

test('files, a folder of files, a directory, bytes, and a source of the page', async () => {
  const found = await page.evaluate(async (names) => {
    const bytes = await files(names);
    const list = (top) =>
      names.map((name) => {
        const file = new File([bytes.get(name)], name.split('/').at(-1));
        return Object.defineProperty(file, 'webkitRelativePath', { value: top + name });
      });
    const folder = await (await navigator.storage.getDirectory()).getDirectoryHandle('chosen', { create: true });
    const write = async (at, name, bytes) => {
      const stream = await (await at.getFileHandle(name, { create: true })).createWritable();
      await stream.write(bytes);
      await stream.close();
    };
    const inside = await folder.getDirectoryHandle('1_Pooling', { create: true });
    for (const [name, content] of bytes) await write(name.includes('/') ? inside : folder, name.split('/').at(-1), content);
    const source = {
      describe: (name) => `mine/${name}`,
      size: async (name) => bytes.get(name)?.length ?? null,
      read: async (name, start, end) => bytes.get(name).slice(start, end),
    };
    const without = list('chosen/').filter(({ webkitRelativePath }) => !/1_Pooling/.test(webkitRelativePath));
    // One of another model, further down, is not the model's own.
    const other = Object.defineProperty(new File([bytes.get(names.at(-1))], 'config.json'), 'webkitRelativePath', {
      value: `chosen/other/${names.at(-1)}`,
    });
    const ways = { list: list('chosen/'), without: [...without, other], folder, bytes, source };
    const found = {};
    for (const [name, way] of Object.entries(ways)) found[name] = await loaded(way);
    found.worker = await loaded(source, {}, 'WorkerEngine');
    await (await navigator.storage.getDirectory()).removeEntry('chosen', { recursive: true });
    return found;
  }, [...NAMES, POOLING]);
  assert.deepEqual(found, { list: 'last', without: 'mean', folder: 'last', bytes: 'last', source: 'last', worker: 'last' });
});

for (const weights of ['auto', 'q8']) {
  test(`a model of the hub in the browser's store, then without a network (${weights})`, async () => {
    server.requests.length = 0;
    const how = ['org/embedder', { hub: server.address, store: true, weights }];
    assert.equal(await pooling(...how), 'last');
    assert.equal(asked(), 1);
    assert.equal(await pooling(...how), 'last');
    assert.equal(asked(), 1, 'the second time it is in the store');
    await page.page.route('**/{api,org}/**', (route) => route.abort());
    assert.equal(await pooling(...how), 'last');
    await page.page.unrouteAll();
    const models = await page.evaluate(async () => {
      const models = await selvedge.Engine.models();
      await selvedge.Engine.remove('org/embedder');
      return models;
    });
    assert.equal(models.length, 1);
    assert.equal(models[0].bytes, models[0].total);
  });
}

test('a file that is broken, and one that asks for what there is not', async () => {
  const { broken, mean, other, notices, gone } = await page.evaluate(async () => {
    const engine = await load('/broken');
    const broken = await vector(engine).catch(({ code, message, constructor }) => [code, message, constructor.name]);
    const mean = (await vector(engine, 'mean')).length;
    const notices = [];
    const other = await loaded('/cls', { onNotice: ({ code, message }) => code !== 'cpu' && notices.push(`${code}: ${message}`) });
    await engine.dispose();
    const gone = await vector(engine).catch(({ code }) => code);
    return { broken, mean, other, notices, gone };
  });
  assert.deepEqual([broken[0], broken[2]], ['corrupt-weights', 'SelvedgeError']);
  assert.match(broken[1], /1_Pooling\/config\.json is broken: .*`pooling`/);
  assert.ok(mean > 0, 'who chooses is not kept from it');
  assert.equal(other, 'mean');
  assert.equal(gone, 'disposed');
  assert.equal(notices.length, 1);
  assert.match(notices[0], /^model: 1_Pooling\/config\.json asks for/);
});
