// The browser's store of models: what a bad network, a damaged disk, a changed file, a full quota and a second tab do to
// it. Each ends in a working model or a clear error, never in a broken store.
//
//     CHROMIUM=/usr/bin/chromium node --test web/tests/store.mjs

import { after, before, beforeEach, test } from 'node:test';
import { readFileSync } from 'node:fs';
import assert from 'node:assert/strict';
import { root } from './root.mjs';
import { openPage } from './support.mjs';

const DEMO = `${root}assets/demo/`;
const HELLO = JSON.parse(readFileSync(`${DEMO}greedy.json`, 'utf8')).find(({ name }) => name === 'hello');
const NAMES = ['config.json', 'generation_config.json', 'model.safetensors', 'tokenizer.json', 'tokenizer_config.json'];
const model = Object.fromEntries(NAMES.map((name) => [name, readFileSync(DEMO + name)]));
const SIZE = NAMES.reduce((sum, name) => sum + model[name].length, 0);
const COMMIT = 'c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00';

let page, server;
before(async () => {
  const api = { 'models/org/demo/revision/main': Buffer.from(JSON.stringify({ sha: COMMIT })) };
  const org = Object.fromEntries(NAMES.map((name) => [`demo/resolve/${COMMIT}/${name}`, model[name]]));
  page = await openPage({ model, api, org });
  ({ server } = page);
});
after(() => page?.close());
beforeEach(async () => {
  for (const fault of Object.keys(server.faults)) delete server.faults[fault];
  server.requests.length = 0;
  await page.reload();
  await page.evaluate(async () => {
    for (const { name } of await selvedge.Engine.models()) await selvedge.Engine.remove(name);
    /** Loads, asks, and tells all about it. */
    window.attempt = async (model = '/model', options = {}, Kind = selvedge.Engine) => {
      const notices = [];
      let downloaded = 0;
      try {
        const engine = await Kind.load(model, {
          device: 'cpu',
          onNotice: ({ code, message }) => code !== 'cpu' && notices.push(`${code}: ${message}`),
          onProgress: (progress) => (downloaded = progress.downloaded),
          ...options,
        });
        const { text } = await engine.session({ system: 'You are a helpful assistant.' }).send('Hello.');
        await engine.dispose();
        return { text, notices, downloaded, models: await selvedge.Engine.models() };
      } catch (error) {
        return { code: error.code, message: error.message, notices, downloaded, models: await selvedge.Engine.models() };
      }
    };
    /** Every file of the store, with its path. */
    window.stored = async () => {
      const files = [];
      const walk = async (at, path) => {
        for await (const entry of at.values()) {
          if (entry.kind === 'directory') await walk(entry, `${path}/${entry.name}`);
          else files.push({ path: `${path}/${entry.name}`, size: (await entry.getFile()).size });
        }
      };
      await walk(await (await navigator.storage.getDirectory()).getDirectoryHandle('selvedge'), '');
      return files;
    };
    window.change = async (path, edit) => {
      let at = await (await navigator.storage.getDirectory()).getDirectoryHandle('selvedge');
      const parts = path.split('/').filter(Boolean);
      for (const part of parts.slice(0, -1)) at = await at.getDirectoryHandle(part);
      const handle = await at.getFileHandle(parts.at(-1));
      const bytes = new Uint8Array(await (await handle.getFile()).arrayBuffer());
      const stream = await handle.createWritable();
      await stream.write(edit(bytes));
      await stream.close();
    };
  });
});

/** What an attempt gives. The same attempt in a worker, where the store has other means, too. */
const attempt = (model = '/model', options = {}, kind = 'Engine') =>
  page.evaluate(([model, options, kind]) => attempt(model, options, selvedge[kind]), [model, options, kind]);

const worked = (result) => assert.equal(result.text, HELLO.text, JSON.stringify(result));
const full = ({ models }) => assert.ok(models.length === 1 && models[0].bytes === models[0].total, JSON.stringify(models));

for (const kind of ['Engine', 'WorkerEngine']) {
  test(`the second load reads what the first one kept (${kind})`, async () => {
    const first = await attempt('/model', {}, kind);
    worked(first);
    full(first);
    assert.equal(first.models[0].total, SIZE);
    assert.ok(first.downloaded >= SIZE);
    const second = await attempt('/model', {}, kind);
    worked(second);
    assert.ok(second.downloaded < 300_000, `${second.downloaded} bytes were fetched again`);
    const { name } = second.models[0];
    const left = await page.evaluate(async (name) => {
      const removed = await selvedge.Engine.remove(name);
      return [removed, await selvedge.Engine.remove(name), await selvedge.Engine.models()];
    }, name);
    assert.deepEqual(left, [true, false, []]);
  });
}

test('a connection that is cut at random points, 20 times', async () => {
  for (let round = 0; round < 20; round += 1) {
    let cuts = 0;
    server.faults.noRanges = round % 4 === 3;
    server.faults.cut = (path) => {
      // Every server answers in full in the end: at most a few cuts a round, in any file.
      if (cuts >= 4 || !path.startsWith('/model/') || Math.random() < 0.5) return undefined;
      cuts += 1;
      return Math.floor(Math.random() * model[path.split('/')[2]].length);
    };
    const result = await attempt();
    worked(result);
    full(result);
    if (round % 2 === 0) {
      delete server.faults.cut;
      const again = await attempt();
      worked(again);
      assert.deepEqual(again.notices, []);
      await page.evaluate((name) => selvedge.Engine.remove(name), again.models[0].name);
    }
  }
});

test('an interrupted download goes on where it was', async () => {
  server.faults.cut = (path) => (path.endsWith('.safetensors') ? 0 : undefined);
  // Whoever is cut for ever gives up, clearly.
  const broken = await page.evaluate(async () => {
    const controller = new AbortController();
    const started = Date.now();
    setTimeout(() => controller.abort(), 3000);
    return { ...(await attempt('/model', { signal: controller.signal })), ms: Date.now() - started };
  });
  assert.equal(broken.code, 'aborted');
  assert.ok(broken.ms < 10_000);
  delete server.faults.cut;
  const result = await attempt();
  worked(result);
  full(result);
  assert.ok(result.downloaded < SIZE + 300_000);
});

test('a server that is gone for good', async () => {
  server.faults.cut = (path) => (path.startsWith('/model/') ? 0 : undefined);
  const result = await attempt('/model', { store: false });
  assert.equal(result.code, 'network', result.message);
  assert.match(result.message, /cannot be fetched/);
});

test('a flipped byte is noticed, and its chunk fetched again', async () => {
  worked(await attempt());
  await page.evaluate(async () => {
    const { path } = (await stored()).find(({ path, size }) => /model\.safetensors\/0-/.test(path) && size > 1000);
    await change(path, (bytes) => bytes.map((byte, at) => (at === 1234 ? byte ^ 1 : byte)));
  });
  const repaired = await attempt();
  worked(repaired);
  full(repaired);
  assert.match(repaired.notices.join(), /repaired/);
  const after = await attempt();
  worked(after);
  assert.deepEqual(after.notices, []);
});

test('a chunk that was cut short and a manifest that is nonsense', async () => {
  worked(await attempt());
  await page.evaluate(async () => {
    const { path } = (await stored()).find(({ path }) => /tokenizer\.json\/0-/.test(path));
    await change(path, (bytes) => bytes.subarray(0, 100));
  });
  worked(await attempt());
  await page.evaluate(async () => {
    const { path } = (await stored()).find(({ path }) => path.endsWith('manifest.json'));
    await change(path, () => new TextEncoder().encode('{"version": 1, "chunk'));
  });
  const result = await attempt();
  worked(result);
  full(result);
});

test('a file that changed on the server is fetched anew', async () => {
  worked(await attempt());
  server.faults.tag = (path) => (path.endsWith('.safetensors') ? '"another"' : undefined);
  const changed = await attempt();
  worked(changed);
  full(changed);
  assert.ok(changed.downloaded > model['model.safetensors'].length);
});

test('a file that changes while it is read is never mixed', async () => {
  let asked = 0;
  server.faults.tag = (path) => (path.endsWith('.safetensors') ? `"${(asked += 1) < 2 ? 'old' : 'new'}"` : undefined);
  const mixed = await attempt();
  assert.equal(mixed.code, 'network');
  assert.match(mixed.message, /changed on the server/);
  const result = await attempt();
  worked(result);
  full(result);
});

test('pages in place of files are no files', async () => {
  server.faults.html = true;
  const result = await attempt();
  worked(result);
  full(result);
  const stored = await page.evaluate(() => window.stored());
  assert.ok(!stored.some(({ path }) => /jinja|index/.test(path)), JSON.stringify(stored));
  const nowhere = await attempt('/nowhere');
  assert.equal(nowhere.code, 'not-found');
});

test('a full quota', async () => {
  const result = await page.evaluate(async () => {
    const write = FileSystemWritableFileStream.prototype.write;
    let room = 100_000;
    FileSystemWritableFileStream.prototype.write = function (data) {
      room -= data.byteLength ?? 0;
      if (room < 0) return Promise.reject(new DOMException('no space left', 'QuotaExceededError'));
      return write.call(this, data);
    };
    const result = await attempt();
    FileSystemWritableFileStream.prototype.write = write;
    return result;
  });
  worked(result);
  assert.match(result.notices.join(), /no-store: the browser gives the page no more storage/);
  const after = await attempt();
  worked(after);
  full(after);
});

test('a quota too small for the model, as the browser sets it', async () => {
  const devtools = await page.page.context().newCDPSession(page.page);
  const origin = new URL(server.address).origin;
  await devtools.send('Storage.overrideQuotaForOrigin', { origin, quotaSize: 1_000_000 });
  const result = await attempt();
  await devtools.send('Storage.overrideQuotaForOrigin', { origin });
  worked(result);
  assert.match(result.notices.join(), /no-store/);
  const after = await attempt();
  worked(after);
  full(after);
});

test('a browser without storage', async () => {
  const result = await page.evaluate(async () => {
    navigator.storage.getDirectory = () => Promise.reject(new DOMException('private window', 'SecurityError'));
    return attempt();
  });
  worked(result);
  assert.match(result.notices.join(), /no-store/);
});

test('two tabs', async () => {
  const other = await page.page.context().newPage();
  await other.goto(server.address);
  const results = await Promise.all(
    [page.page, other].map((tab) =>
      tab.evaluate(async () => {
        const { Engine } = await import('/web/dist/index.js');
        const notices = [];
        const engine = await Engine.load('/model', { device: 'cpu', onNotice: ({ code }) => notices.push(code) });
        const { text } = await engine.session({ system: 'You are a helpful assistant.' }).send('Hello.');
        await engine.dispose();
        return { text, notices };
      }),
    ),
  );
  for (const result of results) worked(result);
  await other.close();
  const after = await attempt();
  worked(after);
  full(after);
  assert.deepEqual(after.notices, []);
});

test('a model that is being loaded is not removed', async () => {
  const error = await page.evaluate(async () => {
    let removing;
    await selvedge.Engine.load('/model', {
      device: 'cpu',
      onProgress: ({ stage }) => {
        if (stage === 'weights') removing ??= selvedge.Engine.remove(`${location.origin}/model`).catch((error) => error.code);
      },
    });
    return removing;
  });
  assert.equal(error, 'bad-request');
});

test('a model of the hub, then without a network', async () => {
  const hub = server.address;
  const first = await attempt('org/demo', { hub });
  worked(first);
  full(first);
  assert.equal(first.models[0].name, 'org/demo');
  assert.ok(server.requests.some(({ path }) => path === `/org/demo/resolve/${COMMIT}/config.json`));
  await page.page.route('**/{api,org}/**', (route) => route.abort());
  const offline = await attempt('org/demo', { hub });
  await page.page.unrouteAll();
  worked(offline);
  assert.equal(offline.downloaded, 0);
  const none = await attempt('org/none', { hub });
  assert.equal(none.code, 'not-found');
});

test('a quantised model is stored in that form alone', async () => {
  const full8 = ({ models }) => {
    assert.deepEqual(models.map(({ weights }) => weights), ['q8']);
    assert.equal(models[0].bytes, models[0].total);
    assert.ok(models[0].total < 0.62 * SIZE, `${models[0].total} of ${SIZE} bytes`);
  };
  const first = await attempt('/model', { weights: 'q8' });
  assert.ok(first.text?.length > 10, JSON.stringify(first));
  full8(first);
  server.requests.length = 0;
  const second = await attempt('/model', { weights: 'q8' }, 'WorkerEngine');
  assert.equal(second.text, first.text);
  full8(second);
  assert.ok(second.downloaded < 300_000, `${second.downloaded} bytes were fetched again`);

  // What is damaged cannot be fetched: it is made again.
  await page.evaluate(async () => {
    const { path } = (await stored()).find(({ path, size }) => /model\.safetensors\/0-/.test(path) && size > 1000);
    await change(path, (bytes) => bytes.map((byte, at) => (at === 99_999 ? byte ^ 1 : byte)));
  });
  const repaired = await attempt('/model', { weights: 'q8' });
  assert.equal(repaired.text, first.text);
  full8(repaired);
  assert.match(repaired.notices.join(), /repaired/);

  // Another original, another quantised form.
  server.faults.tag = (path) => (path.endsWith('.safetensors') ? '"another"' : undefined);
  const changed = await attempt('/model', { weights: 'q8' });
  assert.equal(changed.text, first.text);
  full8(changed);
  assert.ok(changed.downloaded > model['model.safetensors'].length);
});

test('the GPU rounds what is stored, as the CPU would', async () => {
  const onCpu = await attempt('/model', { weights: 'q4' });
  await page.evaluate(async () => {
    for (const { name } of await selvedge.Engine.models()) await selvedge.Engine.remove(name);
  });
  const [onGpu, again] = await page.evaluate(async () => {
    const original = GPUAdapter.prototype.requestDevice;
    const loads = [];
    for (let load = 0; load < 2; load += 1) {
      let devices = 0;
      GPUAdapter.prototype.requestDevice = function (...args) {
        devices += 1;
        return original.apply(this, args);
      };
      const engine = await selvedge.Engine.load('/model', { device: 'gpu', weights: 'q4', selfTest: false });
      await engine.dispose();
      loads.push({ devices, models: await selvedge.Engine.models() });
    }
    GPUAdapter.prototype.requestDevice = original;
    return loads;
  });
  // One device to round on and one for the model; the second time there is nothing to round.
  assert.deepEqual([onGpu.devices, again.devices], [2, 1]);
  assert.deepEqual(onGpu.models.map(({ weights, total }) => [weights, total]), [['q4', onCpu.models[0].total]]);
  const stored = await attempt('/model', { weights: 'q4' });
  assert.ok(stored.downloaded < 300_000, `${stored.downloaded} bytes were fetched again`);
  assert.equal(stored.text, onCpu.text);
});

test('a quantised model that cannot be stored is quantised on its way', async () => {
  const kept = await attempt('/model', { weights: 'q8', store: false });
  assert.ok(kept.text?.length > 10, JSON.stringify(kept));
  assert.deepEqual(kept.models, []);
  const result = await page.evaluate(async () => {
    const write = FileSystemWritableFileStream.prototype.write;
    FileSystemWritableFileStream.prototype.write = function (data) {
      const full = data.byteLength > 500_000;
      return full ? Promise.reject(new DOMException('no space left', 'QuotaExceededError')) : write.call(this, data);
    };
    const result = await attempt('/model', { weights: 'q8' });
    FileSystemWritableFileStream.prototype.write = write;
    return { ...result, stored: await stored() };
  });
  assert.equal(result.text, kept.text);
  assert.match(result.notices.join(), /no-store/);
  // The forms of kernels that were measured are no part of a model.
  assert.deepEqual(result.stored.filter(({ path }) => !path.startsWith('/forms/')), []);
});

test('a conversion that is stopped goes on, or begins anew, and ends well', async () => {
  for (const at of [0.1, 0.5, 0.9]) {
    const stopped = await page.evaluate((at) => {
      const controller = new AbortController();
      return selvedge.Engine.load('/model', {
        device: 'cpu',
        weights: 'q4',
        signal: controller.signal,
        onProgress: ({ stage, done, total }) => stage === 'weights' && done >= at * total && controller.abort(),
      }).catch((error) => error.code);
    }, at);
    assert.equal(stopped, 'aborted');
  }
  const result = await attempt('/model', { weights: 'q4' });
  assert.ok(result.text?.length > 10, JSON.stringify(result));
  assert.equal(result.models[0].bytes, result.models[0].total);
});
