// The reference's numbers, and how far the package is from them.

import { readFileSync } from 'node:fs';
import assert from 'node:assert/strict';
import { TOLERANCE, difference } from './compare.mjs';
import { root } from './root.mjs';
import { openSafetensors } from './safetensors.mjs';

/**
 * Holds a prompt of one of Hymba's golden cases to the package on a page that has `engine(model, device, options)`:
 * the logits of the prompt and of the tokens that follow, and the tokens themselves.
 */
export async function expectGolden(page, name, prompt, device, folder = `${root}tests/goldens/`) {
  const golden = openSafetensors(`${folder}${name}/golden.safetensors`);
  const ids = golden(`${prompt}.input_ids`);
  const made = golden(`${prompt}.gen_tokens`);
  // The reference's decode from its cache equals a full recompute: one span covers both.
  const decoded = golden(`${prompt}.gen_logits_fixed_cache`);
  const width = decoded.length / made.length;
  const wanted = [...golden(`${prompt}.logits`), ...decoded.slice(width)];
  const got = await page.evaluate(
    async ([name, device, ids, made]) => {
      const training = await engine(`/goldens/${name}`, device, { hymbaWindow: 'training' });
      const logits = Array.from(await training.tokens.logits([...ids, ...made.slice(0, -1)]));
      // The golden tokens are the official generate()'s, whose window is one key narrower.
      const official = await engine(`/goldens/${name}`, device, { hymbaWindow: 'generate' });
      const tokens = Array.from(await official.tokens.greedy(ids, made.length));
      return { logits, tokens, adapter: (await training.stats()).device.adapter };
    },
    [name, device, ids, made],
  );
  const apart = difference(got.logits, wanted);
  console.log(`${name} ${prompt} on ${got.adapter}: logits differ by ${apart.toExponential(2)} at most`);
  assert.ok(apart <= TOLERANCE, `${apart} > ${TOLERANCE}`);
  // The reference goes on behind an end token.
  const end = JSON.parse(readFileSync(`${folder}${name}/config.json`, 'utf8')).eos_token_id;
  const ended = made.indexOf(end);
  assert.deepEqual(got.tokens, ended < 0 ? made : made.slice(0, ended + 1));
}
