// The package in a browser whose adapter has shader-f16 and subgroups of eight: the numbers are the reference's whether
// they are there or hidden. `cargo xtask test --all` brings such a Chromium along (`xtask/driver`).
//
//     SELVEDGE_DRIVER=... CHROMIUM=target/drivers/chromium-f16/chromium node --test web/tests/f16.mjs

import { after, before, test } from 'node:test';
import assert from 'node:assert/strict';
import { expectGolden } from './goldens.mjs';
import { root } from './root.mjs';
import { openPage } from './support.mjs';

let page;
before(async () => {
  page = await openPage({ goldens: `${root}tests/goldens` });
  await page.evaluate(() => {
    window.engine = (model, device, options = {}) =>
      selvedge.Engine.load(model, { device, store: false, selfTest: false, ...options });
    const { has } = GPUSupportedFeatures.prototype;
    window.hide = (names) => {
      GPUSupportedFeatures.prototype.has = function (name) {
        return has.call(this, name) && !names.includes(name);
      };
    };
  });
});
after(() => page?.close());

test('the adapter has shader-f16 and subgroups', async () => {
  const features = await page.evaluate(async () => Array.from((await navigator.gpu.requestAdapter()).features));
  assert.ok(features.includes('shader-f16') && features.includes('subgroups'), features.join());
});

for (const hidden of [[], ['subgroups'], ['shader-f16'], ['shader-f16', 'subgroups']]) {
  test(`Hymba's case A without ${hidden.join(' and ') || 'nothing'}`, async () => {
    await page.evaluate((hidden) => hide(hidden), hidden);
    const { backend, subgroups } = await page.evaluate(async () => {
      const model = await engine('/goldens/hymba/caseA', 'gpu');
      const { device } = await model.stats();
      await model.dispose();
      return device;
    });
    assert.deepEqual({ backend, subgroups }, { backend: 'webgpu', subgroups: !hidden.includes('subgroups') });
    await expectGolden(page, 'hymba/caseA', 'p0', 'gpu');
  });
}

test("the kernels' own test passes", async () => {
  await page.evaluate(() => hide([]));
  const backend = await page.evaluate(async () => {
    const model = await engine('/goldens/hymba/caseA', 'gpu', { selfTest: true });
    const { device } = await model.stats();
    await model.dispose();
    return device.backend;
  });
  assert.equal(backend, 'webgpu');
});
