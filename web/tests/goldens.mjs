// The reference's numbers, and how far the package is from them.

import { readFileSync } from 'node:fs';
import assert from 'node:assert/strict';
import { TOLERANCE, difference } from './compare.mjs';
import { root } from './root.mjs';
import { openSafetensors } from './safetensors.mjs';

const GOLDENS = `${root}tests/goldens/`;

/**
 * Holds a prompt of one of Hymba's golden cases to the package on a page that has `engine(model, device, options)`:
 * the logits of the prompt and of the tokens that follow, and the tokens themselves.
 */
export async function expectGolden(page, name, prompt, device) {
  const golden = openSafetensors(`${GOLDENS}${name}/golden.safetensors`);
  const [ids, made] = [golden(`${prompt}.input_ids`), golden(`${prompt}.gen_tokens`)];
  // The reference's decode from its cache equals a full recompute: one span covers both.
  const decoded = golden(`${prompt}.gen_logits_fixed_cache`);
  const wanted = [...golden(`${prompt}.logits`), ...decoded.slice(decoded.length / made.length)];
  await expectLogits(page, [name, device, 'training', [...ids, ...made.slice(0, -1)]], wanted);
  await expectTokens(page, name, prompt, device);
}

/** The same of an engine alone that decodes as the official `generate()`, whose window is one key narrower. */
export async function expectTokens(page, name, prompt, device) {
  const golden = openSafetensors(`${GOLDENS}${name}/golden.safetensors`);
  const [ids, made] = [golden(`${prompt}.input_ids`), golden(`${prompt}.gen_tokens`)];
  await expectLogits(page, [name, device, 'generate', ids], golden(`${prompt}.logits`));
  const tokens = await page.evaluate(
    async ([name, device, ids, count]) => {
      const model = await engine(`/goldens/${name}`, device, { hymbaWindow: 'generate' });
      return Array.from(await model.tokens.greedy(ids, count));
    },
    [name, device, ids, made.length],
  );
  // The reference goes on behind an end token.
  const end = JSON.parse(readFileSync(`${GOLDENS}${name}/config.json`, 'utf8')).eos_token_id;
  const ended = made.indexOf(end);
  assert.deepEqual(tokens, ended < 0 ? made : made.slice(0, ended + 1));
}

async function expectLogits(page, [name, device, hymbaWindow, ids], wanted) {
  const { logits, adapter } = await page.evaluate(
    async ([name, device, hymbaWindow, ids]) => {
      const model = await engine(`/goldens/${name}`, device, { hymbaWindow });
      return { logits: Array.from(await model.tokens.logits(ids)), adapter: (await model.stats()).device.adapter };
    },
    [name, device, hymbaWindow, ids],
  );
  const apart = difference(logits, wanted);
  console.log(`${name}, ${ids.length} tokens, on ${adapter}: logits differ by ${apart.toExponential(2)} at most`);
  assert.ok(apart <= TOLERANCE, `${apart} > ${TOLERANCE}`);
}
