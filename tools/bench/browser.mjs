// How fast the demo model reads and writes in a browser: in Chromium on WebGPU and on the CPU in WebAssembly.
//
//     cargo xtask wasm && npm run build:package --prefix web && node tools/bench/browser.mjs [rounds [gpu|cpu]]
//
// Every round makes one answer of at most 64 tokens to a prompt that the engine has not read before, after one round that
// warms up.
// Prints, of each device, the best and all rounds: tokens written a second after the first, and milliseconds from the
// question to the first token.

import { fileURLToPath } from 'node:url';
import { launch } from '../../web/tests/launch.mjs';
import { serve } from '../../web/tests/server.mjs';

const at = (path) => fileURLToPath(new URL(path, import.meta.url));
const rounds = Number(process.argv[2] ?? 5);
const server = await serve({ dist: at('../../web/dist/'), pkg: at('../../web/pkg/'), model: at('../../assets/demo/') });
const browser = await launch();
try {
  const page = await browser.newPage();
  page.setDefaultTimeout(0);
  await page.goto(server.address);
  for (const device of process.argv[3] ? [process.argv[3]] : ['gpu', 'cpu']) {
    const { adapter, load, all } = await page.evaluate(measure, [device, rounds]);
    const best = (values, better) => values.reduce((a, b) => (better(b, a) ? b : a));
    const rates = all.map(({ rate }) => rate);
    const firsts = all.map(({ first }) => first);
    console.log(`${device} (${adapter}), loaded in ${Math.round(load)} ms`);
    console.log(
      `  ${all[0].prompt} tokens read: first token after ${best(firsts, (a, b) => a < b).toFixed(0)} ms (${firsts.map((x) => x.toFixed(0)).join(', ')})`,
    );
    console.log(
      `  ${all[0].made} tokens made: ${best(rates, (a, b) => a > b).toFixed(1)} tokens/s (${rates.map((x) => x.toFixed(1)).join(', ')})`,
    );
  }
} finally {
  await browser.close();
  server.close();
}

/** Runs in the page. */
async function measure([device, rounds]) {
  const { WorkerEngine } = await import('/dist/worker/index.js');
  const began = performance.now();
  const engine = await WorkerEngine.load('/model/', { device, store: false });
  const load = performance.now() - began;
  const all = [];
  for (let round = 0; round <= rounds; round++) {
    // Another first word each time: nothing of the prompt is remembered from the round before.
    const names = ['Anna', 'Mia', 'Lily', 'Rosa', 'Nora', 'Ella', 'Zoe', 'Ivy', 'Clara', 'Sara', 'Emma', 'Lucy'];
    const facts = Array.from({ length: 30 }, (_, i) => `${names[(round + i) % names.length]} found seven shells.`);
    const session = engine.session({ system: 'You are a helpful assistant.' });
    const reply = session.send(`${facts.join(' ')} Tell me a story.`, { maxTokens: 64, temperature: 0 });
    const { usage } = await reply;
    if (round > 0)
      all.push({
        rate: usage.tokensPerSecond,
        first: usage.firstTokenMs,
        prompt: usage.readTokens,
        made: usage.completionTokens,
      });
  }
  const { device: found } = await engine.stats();
  await engine.dispose();
  return { adapter: found.adapter, load, all };
}
