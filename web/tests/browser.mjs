// Hymba's golden case A through WebAssembly in a browser: on WebGPU, which without a graphics card is a
// software driver (SwiftShader in Chromium, the system's Vulkan in Firefox), and on the CPU.
//
//     cargo xtask wasm && CHROMIUM=/usr/bin/chromium node --test tests/browser.mjs
//     cargo xtask wasm && FIREFOX=/usr/bin/firefox-esr node --test tests/browser.mjs

import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import assert from 'node:assert/strict';
import { launch } from './launch.mjs';
import { openSafetensors } from './safetensors.mjs';
import { serve } from './server.mjs';

/** Largest absolute difference of a logit that is no fault. */
const TOLERANCE = 1e-3;

const GOLDENS = fileURLToPath(new URL('../../tests/goldens/hymba/', import.meta.url));
const golden = openSafetensors(`${GOLDENS}caseA/golden.safetensors`);

const server = await serve({ pkg: fileURLToPath(new URL('../pkg/', import.meta.url)), goldens: GOLDENS });
let browser, page;

before(async () => {
  browser = await launch();
  page = await browser.newPage();
  page.setDefaultTimeout(600_000);
  page.on('console', (message) => console.log(`[${message.type()}] ${message.text()}`));
  page.on('pageerror', (error) => console.log(`[page] ${error}`));
  await page.goto(server.address);
  await page.evaluate(async () => {
    const { default: init, Engine } = await import('/pkg/selvedge.js');
    await init();
    window.Engine = Engine;
    window.load = async (folder, device, window) => {
      const files = new Map();
      for (const name of ['config.json', 'model.safetensors']) {
        const response = await fetch(`/goldens/${folder}/${name}`);
        files.set(name, new Uint8Array(await response.arrayBuffer()));
      }
      return Engine.load(files, device, window);
    };
    // Loading tests the device's kernels first, which takes a software GPU seconds: once for all tests.
    const loaded = new Map();
    window.engine = (...which) => {
      const key = which.join();
      if (!loaded.has(key)) loaded.set(key, load(...which));
      return loaded.get(key);
    };
  });
});

after(async () => {
  await browser?.close();
  server.close();
});

/** The largest difference of two lists of numbers of the same length. */
function difference(got, wanted) {
  assert.equal(got.length, wanted.length);
  return got.reduce((most, x, i) => {
    const apart = Math.abs(x - wanted[i]);
    // A NaN is as far as can be.
    return apart <= most ? most : Number.isNaN(apart) ? Infinity : apart;
  }, 0);
}

for (const device of ['gpu', 'cpu']) {
  for (const prompt of ['p0', 'p1']) {
    test(`case A, ${prompt}, ${device}: logits`, async () => {
      const ids = golden(`${prompt}.input_ids`);
      const made = golden(`${prompt}.gen_tokens`);
      // The reference's decode from its cache equals a full recompute: one span covers both.
      const decoded = golden(`${prompt}.gen_logits_fixed_cache`);
      const width = decoded.length / made.length;
      const wanted = [...golden(`${prompt}.logits`), ...decoded.slice(width)];
      const { adapter, logits } = await page.evaluate(
        async ([device, tokens]) => {
          const model = await engine('caseA', device, 'training');
          const logits = await model.logits(new Uint32Array(tokens));
          return { adapter: model.adapter, logits: Array.from(logits) };
        },
        [device, [...ids, ...made.slice(0, -1)]],
      );
      const apart = difference(logits, wanted);
      console.log(`case A ${prompt} on ${adapter}: logits differ by ${apart.toExponential(2)} at most`);
      assert.ok(apart <= TOLERANCE, `${apart} > ${TOLERANCE}`);
    });

    test(`case A, ${prompt}, ${device}: greedy tokens`, async () => {
      const wanted = golden(`${prompt}.gen_tokens`);
      const made = await page.evaluate(
        async ([device, tokens, count]) => {
          // The golden tokens are the official generate()'s, whose window is one key narrower.
          const model = await engine('caseA', device, 'generate');
          return Array.from(await model.generate(new Uint32Array(tokens), count));
        },
        [device, golden(`${prompt}.input_ids`), wanted.length],
      );
      assert.deepEqual(made, wanted);
    });
  }
}

test('faults are errors that say what is wrong', async () => {
  const message = (work, ...rest) =>
    page.evaluate(`(async () => { try { await (${work})(${rest.map(JSON.stringify).join()}); } catch (e) { return e.message; } })()`);
  assert.match(await message('() => Engine.load(new Map(), "cpu", "training")'), /config\.json/);
  assert.match(await message('() => Engine.load(new Map([["config.json", 1]]), "cpu", "training")'), /config\.json: not a Uint8Array/);
  assert.match(await message('() => load("caseA", "abacus", "training")'), /no device `abacus`/);
  const unknownToken = 'async () => (await engine("caseA", "cpu", "training")).logits(new Uint32Array([1, 97]))';
  assert.match(await message(unknownToken), /97 is not in the model's vocabulary of 97/);
});
