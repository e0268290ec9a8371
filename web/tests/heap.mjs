// WebAssembly's heap during a load: at most 256 MiB, whatever the model's size, and with a tokenizer of 250,000
// entries. SELVEDGE_LARGE names the folder of a checkpoint of some gigabytes (`cargo run --example random_checkpoint --
// hymba-1.5b FOLDER`), which is loaded as q4: quantised while it streams in, stored, and loaded again from there.
//
//     CHROMIUM=/usr/bin/chromium node --test web/tests/heap.mjs

import { after, before, test } from 'node:test';
import { readFileSync } from 'node:fs';
import assert from 'node:assert/strict';
import { root } from './root.mjs';
import { openPage } from './support.mjs';

const MOST = 256 << 20;
const ENTRIES = 250_000;
const LARGE = process.env.SELVEDGE_LARGE;

let page;
before(async () => {
  page = await openPage({ demo: `${root}assets/demo`, ...(LARGE ? { large: LARGE } : {}), made: { 'tokenizer.json': tokenizer() } });
});
after(() => page?.close());

/** A byte-level tokenizer as large as the largest that models have: every byte, and pairs of what is there. */
function tokenizer() {
  const bytes = [];
  // GPT-2's letters for bytes: those that can be seen stand for themselves.
  for (let byte = 0, hidden = 256; byte < 256; byte += 1) {
    const seen = (byte > 32 && byte < 127) || (byte > 160 && byte !== 173);
    bytes.push(String.fromCodePoint(seen ? byte : hidden++));
  }
  const tokens = [...bytes];
  const known = new Set(tokens);
  const merges = [];
  for (let width = 1; tokens.length < ENTRIES; width += 1) {
    for (let left = 0; left < 256 * width && tokens.length < ENTRIES; left += 1) {
      for (const right of bytes.slice(33, 127)) {
        const pair = tokens[left] + right;
        if (tokens.length >= ENTRIES || known.has(pair)) continue;
        known.add(pair);
        merges.push([tokens[left], right]);
        tokens.push(pair);
      }
    }
  }
  return Buffer.from(
    JSON.stringify({
      version: '1.0',
      truncation: null,
      padding: null,
      added_tokens: [],
      normalizer: null,
      pre_tokenizer: { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true },
      post_processor: null,
      decoder: { type: 'ByteLevel', add_prefix_space: true, trim_offsets: true, use_regex: true },
      model: { type: 'BPE', dropout: null, unk_token: null, vocab: Object.fromEntries(tokens.map((token, id) => [token, id])), merges },
    }),
  );
}

const mib = (bytes) => `${(bytes / 2 ** 20).toFixed(0)} MiB`;

test('a tokenizer of 250,000 entries', async () => {
  const heap = await page.evaluate(async () => {
    const files = new Map();
    for (const name of ['config.json', 'model.safetensors']) {
      files.set(name, new Uint8Array(await (await fetch(`/demo/${name}`)).arrayBuffer()));
    }
    files.set('tokenizer.json', new Uint8Array(await (await fetch('/made/tokenizer.json')).arrayBuffer()));
    const engine = await selvedge.Engine.load(files, { device: 'cpu' });
    const { heap } = (await engine.stats()).memory;
    await engine.dispose();
    return heap;
  });
  console.log(`a tokenizer of ${ENTRIES} entries, ${mib(tokenizer().length)} of JSON: the heap grew to ${mib(heap)}`);
  assert.ok(heap > 20 << 20 && heap <= MOST, mib(heap));
});

test('a checkpoint of gigabytes, as q4', { skip: !LARGE && 'SELVEDGE_LARGE names none' }, async () => {
  const sizes = readFileSync(`${LARGE}/config.json`).length > 0 && (await page.evaluate(async () => {
    const started = performance.now();
    const load = async () => {
      let downloaded = 0;
      let told = 0;
      const engine = await selvedge.WorkerEngine.load('/large', {
        device: 'gpu',
        weights: 'q4',
        contextLength: 256,
        selfTest: false,
        onProgress: ({ stage, done, total, downloaded: bytes }) => {
          downloaded = bytes;
          const tenths = total > 0 ? Math.floor((10 * done) / total) : 0;
          if (tenths === told) return;
          told = tenths;
          console.log(`${stage}: ${10 * told} % after ${((performance.now() - started) / 1000).toFixed(0)} s`);
        },
      });
      const seconds = (performance.now() - started) / 1000;
      const { memory } = await engine.stats();
      return { engine, downloaded, memory, seconds };
    };
    const first = await load();
    const tokens = Array.from(await first.engine.tokens.greedy([1], 1));
    await first.engine.dispose();
    const models = await selvedge.Engine.models();
    const second = await load();
    const { memory } = await second.engine.stats();
    await second.engine.dispose();
    const { engine: _, ...rest } = first;
    return { ...rest, models, tokens, again: { downloaded: second.downloaded, memory, seconds: second.seconds } };
  }));
  const { downloaded, memory, seconds, models, tokens, again } = sizes;
  console.log(
    `${mib(downloaded)} came, ${mib(memory.weights)} lie on the device, ${mib(models[0].total)} in the store; the heap ` +
      `grew to ${mib(memory.heap)}, and to ${mib(again.memory.heap)} the second time (${seconds.toFixed(0)} s, ` +
      `${again.seconds.toFixed(0)} s in all)`,
  );
  assert.ok(downloaded > 2e9 && again.downloaded < 1e6);
  assert.equal(models[0].bytes, models[0].total);
  assert.ok(models[0].total < 0.36 * downloaded);
  assert.equal(tokens.length, 1);
  for (const { heap } of [memory, again.memory]) assert.ok(heap <= MOST, mib(heap));
});
