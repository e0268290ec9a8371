// GGUF models in a browser: by address, by the hub's names, as files of a person, in a worker. The server counts what is asked.
//
//     CHROMIUM=/usr/bin/chromium node --test web/tests/gguf.mjs

import { after, before, beforeEach, test } from 'node:test';
import { readFileSync } from 'node:fs';
import assert from 'node:assert/strict';
import { difference } from './compare.mjs';
import { root } from './root.mjs';
import { openPage } from './support.mjs';

const GOLDENS = `${root}tests/goldens/`;
const TYPES = `${GOLDENS}gguf/types/`;
/** Tokens that every one of the models has. */
const IDS = [1, 5, 3, 20, 7, 7, 0, 11, 19, 2];
/** What rounding may change where the converter did: it computes wavelengths, and adds 1 to norms. */
const CONVERTED = 1e-5;
const COMMIT = 'c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00';
/** Bytes of a chunk of the package, and of its first look at a file. */
const [CHUNK, PROBE] = [4 << 20, 64 << 10];

const whole = readFileSync(`${GOLDENS}gguf/llama/model.gguf`);
/** The same model, as if tensors that it does not need came behind those it needs. */
const long = Buffer.concat([whole, Buffer.alloc(40 << 20)]);
const split = [1, 2].map((number) => readFileSync(`${TYPES}split-0000${number}-of-00002.gguf`));
const types = Object.fromEntries(['f16', 'q8_0', 'q4_k_m'].map((name) => [name, readFileSync(`${TYPES}${name}.gguf`)]));

/** Models of a hub: the files of each. */
const MODELS = {
  tiny: {
    'README.md': Buffer.from('#'),
    'mmproj-Tiny-Q8_0.gguf': Buffer.from('a tower'),
    'Tiny-Q8_0.gguf': types.q8_0,
    'Tiny.q4_k_m.gguf': types.q4_k_m,
    'F16/Tiny-F16-00001-of-00002.gguf': split[0],
    'F16/Tiny-F16-00002-of-00002.gguf': split[1],
  },
  one: { 'Tiny-Q8_0.gguf': types.q8_0, 'mmproj-F16.gguf': Buffer.from('a tower'), 'imatrix.gguf': Buffer.from('counts') },
  marked: { 'Tiny-Q8_0.gguf': types.q8_0, 'Tiny-UD-Q8_0.gguf': types.f16 },
  two: { 'Tiny-Q8_0.gguf': types.q8_0, 'Tiny-it-Q8_0.gguf': types.q8_0 },
  none: { 'README.md': Buffer.from('#') },
};

let page, server;
before(async () => {
  const broken = Buffer.from(whole.subarray(0, whole.length - 1000));
  const [api, org] = [{}, {}];
  for (const [name, files] of Object.entries(MODELS)) {
    const siblings = Object.keys(files).map((rfilename) => ({ rfilename }));
    for (const revision of ['main', 'v1']) {
      api[`models/org/${name}/revision/${revision}`] = Buffer.from(JSON.stringify({ sha: COMMIT, siblings }));
    }
    for (const [file, bytes] of Object.entries(files)) org[`${name}/resolve/${COMMIT}/${file}`] = bytes;
  }
  page = await openPage({ goldens: GOLDENS, gguf: { 'long.gguf': long, 'broken.gguf': broken }, api, org });
  ({ server } = page);
});
after(() => page?.close());
beforeEach(async () => {
  await page.reload();
  server.requests.length = 0;
  await page.evaluate(async () => {
    for (const { name } of await selvedge.Engine.models()) await selvedge.Engine.remove(name);
    /** Loads a model and gives its logits; or the error. */
    window.logits = async (model, ids, options = {}, Kind = selvedge.Engine) => {
      let downloaded = 0;
      const onProgress = (progress) => (downloaded = progress.downloaded);
      const own = { device: 'cpu', store: false, hub: location.origin, onProgress };
      try {
        const engine = await Kind.load(model, { ...own, ...options });
        const logits = Array.from(await engine.tokens.logits(ids));
        await engine.dispose();
        return { name: engine.modelName, logits, downloaded };
      } catch (error) {
        return { code: error.code, message: error.message };
      }
    };
    window.bytes = async (path) => new Uint8Array(await (await fetch(path)).arrayBuffer());
  });
});

const logits = (model, options = {}, kind = 'Engine') =>
  page.evaluate(([model, ids, options, kind]) => window.logits(model, ids, options, selvedge[kind]), [model, IDS, options, kind]);

/** Holds logits to those of another model: they are the same, or as near as that. */
async function same(got, model, near = 0) {
  const wanted = await logits(model);
  assert.ok(got.logits && wanted.logits, JSON.stringify([got, wanted].map(({ message }) => message)));
  const apart = difference(got.logits, wanted.logits);
  assert.ok(apart <= near, `${model}: logits differ by ${apart}`);
}

test('a model by its address, of which ranges are asked', async () => {
  const got = await logits('/gguf/long.gguf?download=true');
  const asked = server.requests.filter(({ path }) => path.startsWith('/gguf/'));
  assert.ok(asked.every(({ method, range }) => method === 'GET' && range !== undefined), JSON.stringify(asked));
  const ranges = asked.filter(({ path }) => path.endsWith('.gguf')).map(({ range }) => /(\d+)-(\d+)/.exec(range));
  const bytes = ranges.reduce((sum, [, from, to]) => sum + Number(to) + 1 - Number(from), 0);
  console.log(`${ranges.length} ranges, ${bytes} of ${long.length} bytes, ${got.downloaded} came`);
  // The chunk that holds everything, and the two that are fetched ahead of it.
  assert.ok(bytes <= PROBE + 3 * CHUNK, `${bytes} bytes`);
  assert.match(got.name, /\/gguf\/long\.gguf$/);
  await same(got, '/goldens/llama', CONVERTED);
  await same(await logits('/goldens/gguf/llama/model.gguf', {}, 'WorkerEngine'), '/gguf/long.gguf');
});

test('families whose tensors lie in another order', async () => {
  for (const name of ['falcon_h1_rms', 'granitehybrid_moe', 'qwen35']) {
    await same(await logits(`/goldens/gguf/${name}/model.gguf`), `/goldens/gguf/${name}/`, CONVERTED);
  }
});

test('a signed address: its query goes with every request', async () => {
  const asked = [];
  await page.page.route('**/*.gguf*', (route) => (asked.push(route.request().url()), route.continue()));
  await same(await logits('/goldens/gguf/types/split-00001-of-00002.gguf?key=1#part'), '/goldens/gguf/types/f16.gguf');
  await page.page.unrouteAll();
  const parts = asked.filter((url) => /split/.test(url));
  assert.ok(parts.length >= 2 && parts.every((url) => url.endsWith('?key=1')), asked.join('\n'));
});

test('names of the hub, with a tag, a file, a revision, or nothing', async () => {
  await same(await logits('org/tiny:Q4_K_M'), '/goldens/gguf/types/q4_k_m.gguf');
  await same(await logits('org/tiny@v1:q8_0'), '/goldens/gguf/types/q8_0.gguf');
  await same(await logits('org/tiny:Tiny-Q8_0.gguf'), '/goldens/gguf/types/q8_0.gguf');
  await same(await logits('org/one', {}, 'WorkerEngine'), '/goldens/gguf/types/q8_0.gguf');
  await same(await logits('org/marked:Q8_0'), '/goldens/gguf/types/q8_0.gguf');
  await same(await logits('org/marked:UD-Q8_0'), '/goldens/gguf/types/f16.gguf');
  await same(await logits('org/tiny:F16'), '/goldens/gguf/types/f16.gguf');
  await same(await logits('org/tiny:F16/Tiny-F16-00002-of-00002.gguf'), '/goldens/gguf/types/f16.gguf');
  const asked = server.requests.map(({ path }) => path);
  assert.ok(asked.includes(`/org/tiny/resolve/${COMMIT}/F16/Tiny-F16-00002-of-00002.gguf`), asked.join('\n'));
});

test('names that mean no file, or several', async () => {
  const refused = async (name, wanted) => {
    const { code, message } = await logits(name);
    assert.equal(code, 'not-found', message);
    assert.match(message, wanted);
  };
  await refused('org/tiny:Q4', /org\/tiny has no GGUF models of the tag `Q4`; .* org\/tiny:TAG .*: Q8_0, q4_k_m, F16$/);
  await refused('org/tiny', /org\/tiny has 3 GGUF models; .*: Q8_0, q4_k_m, F16$/);
  await refused('org/two:Q8_0', /org\/two has 2 GGUF models of the tag `Q8_0`; .*: Tiny-Q8_0\.gguf, Tiny-it-Q8_0\.gguf$/);
  await refused('org/none:Q8_0', /none is there$/);
  await refused('org/none', /config\.json/);
  await refused('org/tiny:mmproj-Tiny-Q8_0.gguf', /no GGUF models of the tag/);
  await refused('/gguf/none.gguf', /none\.gguf: there is no such file/);
});

test('the store keeps a model of the hub, as it is and quantised', async () => {
  for (const options of [{ store: true }, { store: true, weights: 'q8' }]) {
    const first = await logits('org/tiny:F16', options);
    assert.ok(first.downloaded >= split[0].length + split[1].length, JSON.stringify(first));
    const second = await logits('org/tiny:F16', options);
    await page.page.route('**/{api,org}/**', (route) => route.abort());
    const offline = await logits('org/tiny:F16', options);
    await page.page.unrouteAll();
    assert.deepEqual([second.logits, offline.logits], [first.logits, first.logits], offline.message);
    // Whether the original of what is quantised still is the same is asked, and its files are small.
    assert.deepEqual([options.weights ? 0 : second.downloaded, offline.downloaded], [0, 0]);
  }
});

test('files of a person, bytes and a source', async () => {
  const got = await page.evaluate(async (ids) => {
    const names = [1, 2].map((number) => `split-0000${number}-of-00002.gguf`);
    const files = await Promise.all(names.map(async (name) => new File([await bytes(`/goldens/gguf/types/${name}`)], name)));
    const one = new File([await bytes('/goldens/gguf/types/f16.gguf')], 'f16.gguf');
    const source = {
      gguf: names[0],
      describe: (name) => `mine/${name}`,
      size: async (name) => files.find((file) => file.name === name)?.size ?? null,
      read: async (name, start, end) =>
        new Uint8Array(await files.find((file) => file.name === name).slice(start, end).arrayBuffer()),
    };
    const { Engine, WorkerEngine } = selvedge;
    return [
      await logits(files, ids),
      await logits(one, ids),
      await logits([one], ids, {}, WorkerEngine),
      await logits({ 'f16.gguf': await bytes('/goldens/gguf/types/f16.gguf') }, ids),
      await logits(source, ids, {}, Engine),
      await logits(source, ids, {}, WorkerEngine),
      await logits([one, ...files], ids),
    ];
  }, IDS);
  const several = got.pop();
  assert.match(several.message, /holds 2 GGUF models; name one of them: f16\.gguf, split-00001-of-00002\.gguf/);
  for (const one of got) await same(one, '/goldens/gguf/types/f16.gguf');
  assert.deepEqual(got.slice(1, 3).map(({ name }) => name), ['f16.gguf', 'f16.gguf']);
  assert.equal(got[4].name, 'mine/split-00001-of-00002.gguf');
});

test('a broken file and a type that is not read: the error names the tensor', async () => {
  const broken = await logits('/gguf/broken.gguf');
  assert.equal(broken.code, 'corrupt-weights');
  assert.match(broken.message, /broken\.gguf cannot be read as GGUF: tensor `[\w.]+`/);
  const other = await logits('/goldens/gguf/types/iq4_nl.gguf');
  assert.match(other.message, /tensor `model\.embed_tokens\.weight` holds IQ4_NL/);
});
