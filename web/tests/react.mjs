// The example for React, with the package as npm packs it: from Vite's dev server, and built. React and Vite come from
// the npm registry.
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

/** Asks the example at `address` two questions, the second of which needs the first. */
async function talk(address) {
  const browser = await launch({ webgpu: false });
  try {
    const page = await browser.newPage();
    page.setDefaultTimeout(120_000);
    const faults = [];
    page.on('pageerror', (error) => faults.push(String(error)));
    await page.goto(address);
    const ask = page.getByRole('button', { name: 'Ask' });
    const last = page.locator('li.assistant').last();
    await page.getByRole('status').getByText('Ready').waitFor();
    await ask.click();
    await last.getByText('Ben saw a goat.').waitFor();
    await page.getByLabel('Question').fill('What animal did Mia see?');
    await ask.click();
    await last.getByText('Mia saw a swan.').waitFor();
    assert.deepEqual(faults, []);
  } finally {
    await browser.close();
  }
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
    await talk(address);
  } finally {
    vite.kill();
  }
});

test('as it is built', async () => {
  npm(folder, 'run', 'build');
  const server = await serve({ page: join(folder, 'dist') });
  try {
    await talk(`${server.address}/page/index.html`);
  } finally {
    server.close();
  }
});
