// The goldens of every family in a browser, through the package.
//
//     CHROMIUM=/usr/bin/chromium node --test web/tests/families.mjs

import { after, before, test } from 'node:test';
import { existsSync, readdirSync } from 'node:fs';
import assert from 'node:assert/strict';
import { difference } from './compare.mjs';
import { expectGolden } from './goldens.mjs';
import { root } from './root.mjs';
import { openSafetensors } from './safetensors.mjs';
import { openPage } from './support.mjs';

/** Largest absolute difference of a logit that is no fault; the gated delta rule adds more up. */
const tolerance = (name) => (name.startsWith('qwen3_5') ? 2.4e-3 : 1e-3);

const GOLDENS = `${root}tests/goldens/`;
/** Every golden but Hymba's; models that give scores have no words to decode. */
const families = readdirSync(GOLDENS).filter((name) => {
  const golden = `${GOLDENS}${name}/golden.safetensors`;
  return existsSync(golden) && openSafetensors(golden).names.includes('decode_tokens');
});

let page;
before(async () => {
  page = await openPage({ goldens: GOLDENS });
  await page.evaluate(() => {
    const selfTest = false;
    window.engine = (model, device, options = {}) =>
      selvedge.Engine.load(model, { device, store: false, selfTest, ...options });
  });
});
after(() => page?.close());

for (const [name, prompts] of [['hymba/caseA', ['p0', 'p1']], ['hymba/caseB', ['p0']], ['hymba/caseC', ['p0', 'p3', 'p7']]]) {
  for (const prompt of prompts) {
    test(`${name}, ${prompt}`, () => expectGolden(page, name, prompt, 'gpu'));
  }
}

for (const family of families) {
  test(family, async () => {
    const golden = openSafetensors(`${GOLDENS}${family}/golden.safetensors`);
    const ids = golden('input_ids');
    const decoded = golden('decode_tokens');
    const wanted = [...golden('logits'), ...golden('decode_logits')];
    const got = await page.evaluate(
      async ([family, ids]) => {
        const model = await engine(`/goldens/${family}`, 'gpu');
        const logits = Array.from(await model.tokens.logits(ids));
        await model.dispose();
        return logits;
      },
      [family, [...ids, ...decoded]],
    );
    const apart = difference(got, wanted);
    console.log(`${family}: logits differ by ${apart.toExponential(2)} at most`);
    assert.ok(apart <= tolerance(family), `${apart}`);
    assert.deepEqual(largest(got, ids.length + decoded.length), largest(wanted, ids.length + decoded.length));
  });
}

test('with subgroups where the browser has them, and without', async () => {
  const ids = openSafetensors(`${GOLDENS}hymba/caseA/golden.safetensors`)('p0.input_ids');
  const runs = await page.evaluate(async (ids) => {
    const { has } = GPUSupportedFeatures.prototype;
    const runs = [];
    for (const hidden of [false, true]) {
      GPUSupportedFeatures.prototype.has = function (name) {
        return has.call(this, name) && !(hidden && name === 'subgroups');
      };
      const model = await engine('/goldens/hymba/caseA', 'gpu', { hymbaWindow: 'generate' });
      const { subgroups } = (await model.stats()).device;
      runs.push({ subgroups, tokens: Array.from(await model.tokens.greedy(ids, 8)) });
      await model.dispose();
    }
    GPUSupportedFeatures.prototype.has = has;
    return runs;
  }, ids);
  assert.deepEqual(runs.map(({ subgroups }) => subgroups), [true, false]);
  assert.deepEqual(runs[0].tokens, runs[1].tokens);
});

test("the kernels' own test passes", async () => {
  const stats = await page.evaluate(async () => {
    const model = await engine('/goldens/hymba/caseA', 'gpu', { selfTest: true });
    const stats = await model.stats();
    await model.dispose();
    return stats;
  });
  assert.equal(stats.device.backend, 'webgpu');
});

test('there are families', () => assert.ok(families.length >= 19, families.join()));

/** The most probable token of each row. */
function largest(logits, rows) {
  const width = logits.length / rows;
  return Array.from({ length: rows }, (_, row) => {
    const line = logits.slice(row * width, (row + 1) * width);
    return line.indexOf(Math.max(...line));
  });
}
