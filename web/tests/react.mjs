// The example for React, with the package as npm packs it: from Vite's dev server, and built; in OpenAI's shapes, and with
// `useChat` of `@ai-sdk/react`. React, Vite and the AI SDK come from the npm registry.
//
//     npm run build:package --prefix web && CHROMIUM=/usr/bin/chromium node --test web/tests/react.mjs

import { after, test } from 'node:test';
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import assert from 'node:assert/strict';
import { launch } from './launch.mjs';
import { npm, pack } from './packed.mjs';
import { serve } from './server.mjs';

const packed = pack();
const folder = packed.copy('react', 'public/model');
after(() => packed.remove());

/** Opens the example at `address`, and does something once its model is there. */
async function visit(address, work) {
  const browser = await launch({ webgpu: false });
  try {
    const page = await browser.newPage();
    page.setDefaultTimeout(120_000);
    const faults = [];
    page.on('pageerror', (error) => faults.push(String(error)));
    await page.goto(address);
    await page.getByRole('status').getByText('Ready').waitFor();
    const last = page.locator('li.assistant').last();
    const ask = async (question) => {
      if (question !== undefined) await page.getByLabel('Question').fill(question);
      await page.getByRole('button', { name: 'Ask' }).click();
    };
    await work(page, ask, last);
    assert.deepEqual(faults, []);
  } finally {
    await browser.close();
  }
}

/** Two questions, the second of which needs the first. */
async function talk(page, ask, last) {
  await ask();
  await last.getByText('Ben saw a goat.').waitFor();
  await ask('What animal did Mia see?');
  await last.getByText('Mia saw a swan.').waitFor();
}

/** The same over `useChat`, and what its user can do besides: stop a reply, have it made again, see an error. */
async function useChat(page, ask, last) {
  // What React renders of the last answer, each time it grows; with `stopAt` letters of it the reply is stopped.
  await page.evaluate(() => {
    window.seen = [];
    window.stopAt = Infinity;
    const look = () => {
      const text = [...document.querySelectorAll('li.assistant')].at(-1)?.textContent ?? '';
      if (text === '' || text === seen.at(-1)) return;
      seen.push(text);
      if (text.length < stopAt) return;
      stopAt = Infinity;
      [...document.querySelectorAll('button')].find(({ textContent }) => textContent === 'Stop').click();
    };
    new MutationObserver(look).observe(document.body, { subtree: true, childList: true, characterData: true });
  });
  const idle = () => page.locator('button:disabled', { hasText: 'Stop' }).waitFor();
  await talk(page, ask, last);
  await idle();
  await page.evaluate(() => (stopAt = 20));
  await ask('Tell me a story.');
  await page.waitForFunction(() => stopAt === Infinity);
  await idle();
  const begun = await last.innerText();
  await page.evaluate(() => (seen = []));
  await page.getByRole('button', { name: 'Again' }).click();
  await page.waitForFunction((length) => seen.at(-1)?.length > length, begun.length);
  await idle();
  const whole = await last.innerText();
  assert.ok(whole.startsWith(begun) && begun.length >= 20 && begun.length < whole.length, `${begun} … ${whole}`);
  const shown = (await page.evaluate(() => seen)).filter((text) => whole.startsWith(text));
  assert.ok(shown.length > 5, `it is shown as it comes: ${JSON.stringify(shown)}`);
  assert.equal(await page.getByRole('alert').count(), 0);
  assert.equal(await page.locator('li').count(), 6);
  await ask('word '.repeat(20_000));
  await page.getByRole('alert').getByText(/context/).waitFor();
  await idle();
}

/** The example in both of its forms. */
async function both(address) {
  await visit(address, talk);
  await visit(`${address}?use-chat`, useChat);
}

test('as it is developed', async () => {
  const vite = spawn(join(folder, 'node_modules/.bin/vite'), ['--port', '0', '--strictPort'], { cwd: folder });
  try {
    let said = '';
    const address = await new Promise((resolve, reject) => {
      const hear = (text) => {
        said += text;
        // The address comes with colours.
        const found = /http:\/\/localhost:\d+\//.exec(said.replace(/\x1b\[\d+m/g, ''));
        if (found) resolve(found[0]);
      };
      vite.stdout.setEncoding('utf8').on('data', hear);
      vite.stderr.setEncoding('utf8').on('data', hear);
      vite.on('exit', () => reject(new Error(`vite ended: ${said}`)));
    });
    await both(address);
  } finally {
    vite.kill();
  }
});

test('as it is built', async () => {
  npm(folder, 'run', 'build');
  const server = await serve({ page: join(folder, 'dist') });
  try {
    await both(`${server.address}/page/index.html`);
  } finally {
    server.close();
  }
});
