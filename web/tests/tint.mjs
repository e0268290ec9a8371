// Every composed shader through Tint, the compiler inside Chromium, and into a pipeline on a device that
// offers no more than the limits WebGPU promises everywhere. Dawn's null backend does both without a GPU.
//
//     SHADERS=folder node --test tests/tint.mjs

import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import assert from 'node:assert/strict';
import { create } from 'webgpu';

const folder = process.env.SHADERS;
const files = readdirSync(folder).filter((name) => name.endsWith('.wgsl')).sort();
// Held by the global object: Dawn crashes when its instance is collected before its devices.
globalThis.gpu = create(['backend=null']);
const adapter = await gpu.requestAdapter();
// No `requiredLimits`: the device has exactly the defaults.
const device = await adapter.requestDevice({ requiredFeatures: ['shader-f16', 'subgroups'] });

/** What the device says against what `work` asks of it, or null. */
async function complaint(work) {
  device.pushErrorScope('validation');
  const result = await work();
  const error = await device.popErrorScope();
  return { result, error: error && error.message };
}

/** Tint's errors and warnings, as an editor would list them. */
async function messages(module, name) {
  const { messages } = await module.getCompilationInfo();
  return messages
    .filter((message) => message.type !== 'info')
    .map((message) => `${name}:${message.lineNum}:${message.linePos}: ${message.type}: ${message.message}`)
    .join('\n');
}

test('there are shaders', () => assert.ok(files.length > 0, `no .wgsl in ${folder}`));

test('Tint and the limits do refuse', async () => {
  // A barrier that some invocations may miss: naga lets it pass, browsers do not.
  const diverging = `
    @group(0) @binding(0) var<storage, read_write> x: array<f32>;
    @compute @workgroup_size(64) fn main(@builtin(local_invocation_index) i: u32) {
      if (x[i] > 0.0) { workgroupBarrier(); }
    }`;
  const { result, error } = await complaint(() => device.createShaderModule({ code: diverging }));
  assert.ok(error);
  assert.match(await messages(result, 'diverging'), /uniform control flow/);
  const wide = '@compute @workgroup_size(512) fn main() {}';
  const module = device.createShaderModule({ code: wide });
  assert.ok((await complaint(() => device.createComputePipeline({ layout: 'auto', compute: { module } }))).error);
});

for (const name of files) {
  test(name, async () => {
    const code = readFileSync(join(folder, name), 'utf8');
    const { result: module, error } = await complaint(() => device.createShaderModule({ code }));
    const found = await messages(module, name);
    assert.equal(error, null, found);
    assert.equal(found, '');
    for (const [, entryPoint] of code.matchAll(/@compute[^{;]*?\bfn\s+(\w+)/g)) {
      const pipeline = { layout: 'auto', compute: { module, entryPoint } };
      assert.equal((await complaint(() => device.createComputePipeline(pipeline))).error, null, entryPoint);
    }
  });
}
