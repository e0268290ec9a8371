// One run of llama.cpp, as its prebuilt packages for Node.js have it: a prompt in one batch, then tokens one at a time.
//
//     node decode.mjs MODEL.gguf vulkan|cpu THREADS PROMPT GENERATE
//     node decode.mjs MODEL.gguf vulkan|cpu THREADS PROMPT TOKENS,OF,ANOTHER
//
// prints JSON. The first is timed, after a run that is not; the calls are those of llama-bench, llama_decode and
// llama_synchronize, and nothing is sampled. The second is given what another program wrote after the prompt, and prints what
// llama.cpp takes to be most probable in each of these places. For the calls it goes below the package's own interface, whose
// version package-lock.json holds. LLAMA_LOG=1 prints llama.cpp's log too.

import { getLlama, getModuleVersion, LlamaLogLevel } from 'node-llama-cpp';

const [path, device, threads, prompt, last] = process.argv.slice(2);
const [PROMPT, VOCABULARY, WARM] = [Number(prompt), 8192, 4];
const others = last.includes(',') ? last.split(',').map(Number) : null;
const generate = others?.length ?? Number(last);

let log = '';
const llama = await getLlama({
  gpu: device === 'vulkan' ? 'vulkan' : false,
  build: 'never',
  progressLogs: false,
  logLevel: LlamaLogLevel.info,
  logger: (_level, text) => (log += text.endsWith('\n') ? text : `${text}\n`),
});
const addonExports = llama._bindings;
const { AddonModel, AddonContext, AddonSampler } = addonExports;

const gpuLayers = device === 'vulkan' ? 99 : 0;
const model = new AddonModel(path, { addonExports, gpuLayers, useMmap: false });
if (!(await model.init())) throw new Error(`llama.cpp does not load ${path}:\n${log}`);
const context = new AddonContext(model, {
  contextSize: Math.ceil((PROMPT + generate) / 256) * 256,
  batchSize: PROMPT,
  sequences: 1,
  flashAttention: 'auto',
  threads: Number(threads),
});
if (!(await context.init())) throw new Error(`llama.cpp makes no context:\n${log}`);

/** Reads tokens from a place on, in one batch, and waits; returns where the last one's logits are. */
async function read(tokens, at) {
  context.initBatch(tokens.length);
  const [last] = context.addToBatch(0, at, Uint32Array.from(tokens), Uint32Array.of(tokens.length - 1));
  await context.decodeBatch();
  return last;
}

/** The ids that `selvedge bench` reads. */
const ids = Array.from({ length: PROMPT + Math.max(generate, WARM) }, (_, i) => (i * 7919) % VOCABULARY);

/** Seconds for the prompt, and for the tokens after it. */
async function run(count) {
  context.disposeSequence(0);
  const started = performance.now();
  await read(ids.slice(0, PROMPT), 0);
  const between = performance.now();
  for (let i = 0; i < count; i++) await read([ids[PROMPT + i]], PROMPT + i);
  return [(between - started) / 1e3, (performance.now() - between) / 1e3];
}

/** The most probable token after the prompt, and after each of another's but the last. */
async function judge() {
  const sampler = new AddonSampler(model);
  sampler.applyConfig({ temperature: 0 });
  let at = await read(ids.slice(0, PROMPT), 0);
  const tokens = [await context.sampleToken(at, sampler)];
  for (let i = 0; i + 1 < generate; i++) {
    at = await read([others[i]], PROMPT + i);
    tokens.push(await context.sampleToken(at, sampler));
  }
  return tokens;
}

const result = {};
if (others) {
  result.tokens = await judge();
} else {
  await run(WARM);
  const [reading, writing] = await run(generate);
  Object.assign(result, { prompt_tps: PROMPT / reading, generate_tps: generate / writing });
}
// llama.cpp falls back to the CPU without an error: its log says what ran.
const found = (expression) => [...log.matchAll(expression)].at(-1)?.[1] ?? null;
result.devices = addonExports.getGpuDeviceInfo().deviceNames;
result.offloaded = found(/offloaded (\d+\/\d+) layers/g);
result.flash = found(/Flash Attention (.*)/g);
result.kv = found(/, K \((\w+)\)/g);
result.release = llama.llamaCppRelease.release;
result.package = await getModuleVersion();
result.system = llama.systemInfo;
if (process.env.LLAMA_LOG) process.stderr.write(log);
process.stdout.write(`${JSON.stringify(result)}\n`, () => process.exit(0));
