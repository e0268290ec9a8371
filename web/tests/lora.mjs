// LoRA adapters in a browser: by address and as files, in the page and in a worker, quantised, and of another model.
//
//     CHROMIUM=/usr/bin/chromium node --test web/tests/lora.mjs

import { after, before, test } from 'node:test';
import assert from 'node:assert/strict';
import { TOLERANCE, difference } from './compare.mjs';
import { root } from './root.mjs';
import { openSafetensors } from './safetensors.mjs';
import { openPage } from './support.mjs';

const GOLDENS = `${root}tests/goldens/`;
const MODEL = '/goldens/llama';
const ADAPTER = '/goldens/adapters/llama';
const golden = openSafetensors(`${GOLDENS}adapters/llama/golden.safetensors`);

let page;
before(async () => {
  page = await openPage({ goldens: GOLDENS });
  await page.evaluate(() => {
    /** Loads a model and gives its logits; or the error. */
    window.logits = async (model, ids, options, Kind) => {
      try {
        const engine = await Kind.load(model, { device: 'cpu', ...options });
        const logits = Array.from(await engine.tokens.logits(ids));
        await engine.dispose();
        return { logits };
      } catch (error) {
        return { code: error.code, message: error.message };
      }
    };
  });
});
after(() => page?.close());

const logits = (options, kind = 'Engine') =>
  page.evaluate(([model, ids, options, kind]) => window.logits(model, ids, options, selvedge[kind]), [
    MODEL, golden('input_ids'), options, kind,
  ]);

test('an adapter gives what PEFT gives, in the page and in a worker', async () => {
  for (const kind of ['Engine', 'WorkerEngine']) {
    const { logits: got, message } = await logits({ lora: [ADAPTER], store: false }, kind);
    assert.ok(got, message);
    const apart = difference(got, golden('logits'));
    console.log(`${kind}: logits differ by at most ${apart}`);
    assert.ok(apart < TOLERANCE, `${apart}`);
  }
});

test('files in memory, and a model that is wanted quantised', async () => {
  const got = await page.evaluate(async ([model, adapter, ids]) => {
    const names = ['adapter_config.json', 'adapter_model.safetensors'];
    const read = async (name) => [name, new Uint8Array(await (await fetch(`${adapter}/${name}`)).arrayBuffer())];
    const files = new Map(await Promise.all(names.map(read)));
    const of = (options) => window.logits(model, ids, options, selvedge.Engine);
    const whole = await of({ lora: [files], store: false });
    const small = await of({ lora: [files], weights: 'q8' });
    const plain = await of({ weights: 'q8' });
    for (const { name } of await selvedge.Engine.models()) await selvedge.Engine.remove(name);
    return [whole, small, plain];
  }, [MODEL, ADAPTER, golden('input_ids')]);
  for (const { logits, message } of got) assert.ok(logits, message);
  const [whole, small, plain] = got.map(({ logits }) => difference(logits, golden('logits')));
  assert.ok(whole < TOLERANCE && small > whole && small < plain / 4, `${whole} ${small} ${plain}`);
});

test('an adapter of another model, and none at all', async () => {
  const other = await logits({ lora: ['/goldens/adapters/qwen3_embedding'] });
  assert.match(other.message ?? '', /is it an adapter of this model\?/);
  const nothing = await logits({ lora: ['/goldens/nowhere'], store: false });
  assert.match(nothing.message ?? '', /there is no adapter_config\.json/);
  assert.ok([other, nothing].every(({ code }) => code === 'corrupt-weights'), JSON.stringify([other.code, nothing.code]));
});
