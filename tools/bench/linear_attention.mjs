// One Mamba-2 layer's scan in a page, Selvedge's against onnxruntime-web's `LinearAttention` ("gated"): the same
// numbers, the same browser, the same WebGPU adapter, taking turns. Both are held against the recurrence in f64.
//
//     npm ci --prefix web && npm ci --prefix tools/bench --ignore-scripts
//     node tools/bench/linear_attention.mjs [ROUNDS]
//
// builds Selvedge's side first (`cargo xtask setup` knows what that needs) and prints JSON. Inputs and results lie on
// the GPU; a round is a run of each, waited for. Without a graphics card Chromium's adapter is SwiftShader.

import { execFileSync } from 'node:child_process';
import { loadavg } from 'node:os';
import { fileURLToPath } from 'node:url';
import { launch } from '../../web/tests/launch.mjs';
import { serve } from '../../web/tests/server.mjs';
import { linearAttention } from './onnx.mjs';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const PACKAGE = 'target/scan_web';
const SIZES = { rows: 256, heads: 16, columns: 64, states: 128 };
/** Largest difference to the recurrence in f64, relative to the largest number. */
const TOLERANCE = 1e-5;

function build() {
  const cargo = (...args) => execFileSync('cargo', args, { cwd: ROOT, stdio: ['ignore', 2, 2] });
  const target = 'wasm32-unknown-unknown';
  cargo('build', '--release', '--example', 'scan_web', '--target', target, '--no-default-features', '--features', 'web');
  cargo('run', '--quiet', '--package', 'xtask-bindgen', '--', `target/${target}/release/examples/scan_web.wasm`, PACKAGE);
}

/** Everything below runs in the page. */
async function race({ rows, heads, columns, states, model, rounds }) {
  const ort = await import('/ort/ort.webgpu.bundle.min.mjs');
  const { default: init, Scan } = await import('/selvedge/scan_web.js');
  await init();

  // The same numbers for both: steps dt, decays a, and what is read and written, each head's for itself.
  let seed = 7;
  const uniform = (from, to) => {
    seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
    return from + ((to - from) * (seed >>> 8)) / 2 ** 24;
  };
  const fill = (count, from, to) => Float32Array.from({ length: count }, () => uniform(from, to));
  const x = fill(rows * heads * columns, -1, 1);
  const b = fill(rows * heads * states, -1, 1);
  const c = fill(rows * heads * states, -1, 1);
  const dt = fill(rows * heads, -4.6, -2.3);
  const a = fill(heads, -16, -1);
  const zeros = new Float32Array(heads);

  // The recurrence, in f64: S <- exp(D a) S + D x b, y = S c, with D = softplus(dt).
  const delta = Float64Array.from(dt, (value) => Math.log1p(Math.exp(value)));
  const wanted = new Float64Array(rows * heads * columns);
  for (let h = 0; h < heads; h++) {
    const state = new Float64Array(columns * states);
    for (let t = 0; t < rows; t++) {
      const decay = Math.exp(delta[t * heads + h] * a[h]);
      const key = (t * heads + h) * states;
      for (let p = 0; p < columns; p++) {
        const at = (t * heads + h) * columns + p;
        const input = delta[t * heads + h] * x[at];
        let sum = 0;
        for (let n = 0; n < states; n++) {
          const s = decay * state[p * states + n] + input * b[key + n];
          state[p * states + n] = s;
          sum += s * c[key + n];
        }
        wanted[at] = sum;
      }
    }
  }
  const largest = wanted.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  const off = (got) => wanted.reduce((most, value, i) => Math.max(most, Math.abs(got[i] - value)), 0) / largest;

  const numbers = new Map(Object.entries({ x, dt, b, c, a, d: zeros, dt_bias: zeros }));
  const scan = await Scan.load(numbers, rows, heads, columns, heads, states);

  // onnxruntime-web is given what Selvedge computes on the way: the decays' logarithms and D x.
  const options = { executionProviders: ['webgpu'], preferredOutputLocation: 'gpu-buffer' };
  const session = await ort.InferenceSession.create(model, options);
  const device = await ort.env.webgpu.device;
  const onDevice = (data, width) => {
    const usage = GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST;
    const buffer = device.createBuffer({ size: data.byteLength, usage });
    device.queue.writeBuffer(buffer, 0, data);
    return ort.Tensor.fromGpuBuffer(buffer, { dataType: 'float32', dims: [1, rows, width] });
  };
  const feeds = {
    query: onDevice(c, heads * states),
    key: onDevice(b, heads * states),
    value: onDevice(Float32Array.from(x, (value, i) => delta[Math.floor(i / columns)] * value), heads * columns),
    decay: onDevice(Float32Array.from(delta, (value, i) => value * a[i % heads]), heads),
  };
  const attend = async () => {
    const results = await session.run(feeds);
    await device.queue.onSubmittedWorkDone();
    return results;
  };
  const dispose = (results) => Object.values(results).forEach((tensor) => tensor.dispose());

  const first = await attend();
  const found = { selvedge: { off: off(await scan.result()), ms: [] }, onnxruntime: { off: off(await first.output.getData()), ms: [] } };
  dispose(first);
  const time = async (list, work) => {
    const begun = performance.now();
    const made = await work();
    list.push(performance.now() - begun);
    return made;
  };
  for (let round = 0; round < rounds; round++) {
    await time(found.selvedge.ms, () => scan.run(1));
    dispose(await time(found.onnxruntime.ms, attend));
  }
  const { vendor, architecture, description } = device.adapterInfo ?? {};
  return { ...found, adapters: { selvedge: scan.device, onnxruntime: [vendor, architecture, description].join(' ') } };
}

build();
const rounds = Number(process.argv[2] ?? 9);
const folders = { ort: 'tools/bench/node_modules/onnxruntime-web/dist', selvedge: PACKAGE };
const server = await serve(Object.fromEntries(Object.entries(folders).map(([name, folder]) => [name, ROOT + folder])));
const browser = await launch();
try {
  const page = await browser.newPage();
  page.setDefaultTimeout(600_000);
  page.on('console', (message) => console.error(`[${message.type()}] ${message.text()}`));
  page.on('pageerror', (error) => console.error(`[page] ${error}`));
  await page.goto(server.address);
  const model = Array.from(linearAttention(SIZES.heads));
  const found = await page.evaluate(
    `(${race})({ ...${JSON.stringify({ ...SIZES, rounds })}, model: Uint8Array.from(${JSON.stringify(model)}) })`,
  );
  for (const side of [found.selvedge, found.onnxruntime]) {
    side.best = Math.min(...side.ms);
    side.median = side.ms.toSorted((one, other) => one - other)[Math.floor(rounds / 2)];
  }
  const times = { best: found.onnxruntime.best / found.selvedge.best, median: found.onnxruntime.median / found.selvedge.median };
  console.log(JSON.stringify({ ...SIZES, browser: browser.version?.(), load: loadavg()[0], ...found, times }, null, 2));
  for (const side of ['selvedge', 'onnxruntime']) {
    if (!(found[side].off <= TOLERANCE)) throw new Error(`${side} is off by ${found[side].off}`);
  }
} finally {
  await browser.close();
  server.close();
}
