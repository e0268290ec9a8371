// The package in Node.js: on the CPU, and on the GPU through Dawn (the npm package `webgpu`), on whatever Vulkan driver
// the environment names.
//
//     node --test web/tests/node.mjs

import { after, test } from 'node:test';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import assert from 'node:assert/strict';
import { TOLERANCE, difference } from './compare.mjs';
import { openSafetensors } from './safetensors.mjs';
import { root } from './root.mjs';
import { Engine, SelvedgeError } from '../dist/node.js';

const CASE = `${root}tests/goldens/hymba/caseA`;
const golden = openSafetensors(`${CASE}/golden.safetensors`);
const HELLO = JSON.parse(readFileSync(`${root}assets/demo/greedy.json`, 'utf8')).find(({ name }) => name === 'hello');

// Dawn keeps the process alive as long as its instance is.
after(() => setTimeout(() => process.exit(), 100));

for (const device of ['gpu', 'cpu']) {
  test(`Hymba's case A, ${device}`, async () => {
    const engine = await Engine.load(CASE, { device, selfTest: false });
    const ids = golden('p0.input_ids');
    const made = golden('p0.gen_tokens');
    const decoded = golden('p0.gen_logits_fixed_cache');
    const wanted = [...golden('p0.logits'), ...decoded.slice(decoded.length / made.length)];
    const apart = difference(await engine.tokens.logits([...ids, ...made.slice(0, -1)]), wanted);
    const stats = await engine.stats();
    await engine.dispose();
    console.log(`case A p0 on ${stats.device.adapter}: logits differ by ${apart.toExponential(2)} at most`);
    assert.ok(apart <= TOLERANCE, `${apart} > ${TOLERANCE}`);
    assert.equal(stats.device.backend, device === 'gpu' ? 'webgpu' : 'cpu');
    const official = await Engine.load(CASE, { device, selfTest: false, hymbaWindow: 'generate' });
    assert.deepEqual(Array.from(await official.tokens.greedy(ids, made.length)), made);
    await official.dispose();
  });
}

test('a GGUF file, the folder of one, and files of several parts', async () => {
  const ids = [1, 5, 3, 20, 7, 7, 0, 11];
  const logits = async (model) => {
    const engine = await Engine.load(model, { device: 'cpu' });
    const logits = Array.from(await engine.tokens.logits(ids));
    await engine.dispose();
    return logits;
  };
  const at = (path) => logits(`${root}tests/goldens/${path}`);
  const wanted = await at('gguf/llama/model.gguf');
  // The converter computes wavelengths.
  assert.ok(difference(await at('llama'), wanted) <= 1e-5);
  assert.equal(difference(await at('gguf/llama'), wanted), 0);
  const bytes = readFileSync(`${root}tests/goldens/gguf/llama/model.gguf`);
  assert.equal(difference(await logits([new File([bytes], 'model.gguf')]), wanted), 0);
  const types = 'gguf/types/';
  assert.equal(difference(await at(`${types}split-00002-of-00002.gguf`), await at(`${types}f16.gguf`)), 0);
  await assert.rejects(at(types), ({ message }) => /GGUF models; name one of them: bf16\.gguf/.test(message));
  await assert.rejects(at(`${types}numbers.safetensors`), ({ message }) => /cannot be read as GGUF/.test(message));
});

test('the demo model answers as natively', async () => {
  const engine = await Engine.load(`${root}assets/demo`, { device: 'cpu' });
  const session = engine.session({ system: 'You are a helpful assistant.' });
  let text = '';
  for await (const part of session.send('Hello.')) text += part.text;
  assert.equal(text, HELLO.text);
  await engine.dispose();
});

test("embeddings are pooled as the folder's own file says", async () => {
  const folder = mkdtempSync(join(tmpdir(), 'selvedge-pooling-'));
  try {
    for (const name of ['config.json', 'model.safetensors', 'tokenizer.json']) symlinkSync(`${root}assets/demo/${name}`, join(folder, name));
    mkdirSync(join(folder, '1_Pooling'));
    writeFileSync(join(folder, '1_Pooling/config.json'), '{"pooling_mode_lasttoken": true}');
    const engine = await Engine.load(folder, { device: 'cpu' });
    const embed = async (pooling) => (await engine.embeddings.create({ input: 'A dog ran.', pooling })).data[0].embedding;
    const own = await embed();
    assert.deepEqual(own, await embed('last'));
    assert.ok(difference(own, await embed('mean')) > 1e-3);
    await engine.dispose();
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test('a folder that is none', async () => {
  await assert.rejects(Engine.load(`${root}web/tests`, { device: 'cpu' }), (error) => {
    assert.ok(error instanceof SelvedgeError);
    assert.equal(error.code, 'not-found');
    return /config\.json/.test(error.message);
  });
});
