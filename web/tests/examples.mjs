// The examples for a script tag and for Node.js, with the package as npm packs it. The one for React is in react.mjs.
//
//     npm run build:package --prefix web && CHROMIUM=/usr/bin/chromium node --test web/tests/examples.mjs

import { after, test } from 'node:test';
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import assert from 'node:assert/strict';
import { launch } from './launch.mjs';
import { MODEL, pack } from './packed.mjs';
import { root } from './root.mjs';
import { serve } from './server.mjs';

const packed = pack();
after(() => packed.remove());

test('the package holds what it exports, and nothing else', () => {
  const { exports } = JSON.parse(readFileSync(join(root, 'web/package.json'), 'utf8'));
  const exported = Object.values(exports).flatMap((entry) =>
    typeof entry === 'string' ? entry : Object.values(entry),
  );
  for (const path of exported) assert.ok(packed.files.includes(path.replace('./', '')), `${path} is not packed`);
  const papers = ['LICENSE-APACHE', 'LICENSE-MIT', 'THIRD-PARTY-NOTICES.txt'];
  for (const path of papers) assert.ok(packed.files.includes(path), `${path} is not packed`);
  for (const path of packed.files.filter((path) => !papers.includes(path)))
    assert.match(path, /^(dist|pkg)\/.+\.(js|d\.ts|wasm)$|^package\.json$|^README\.md$/);
});

test('a script tag', async () => {
  const server = await serve({ page: packed.copy('script-tag', 'model') });
  const browser = await launch();
  try {
    const page = await browser.newPage();
    page.setDefaultTimeout(300_000);
    const faults = [];
    page.on('pageerror', (error) => faults.push(String(error)));
    await page.goto(`${server.address}/page/index.html`);
    await page.locator('#ask:enabled').click();
    await page.locator('#status', { hasText: /tokens a second on/ }).waitFor();
    assert.equal(await page.locator('#answer').innerText(), 'Ben saw a goat.');
    assert.deepEqual(faults, []);
  } finally {
    await browser.close();
    server.close();
  }
});

test('Node.js', () => {
  const folder = packed.copy('node');
  const input = 'Ben saw a goat. Mia saw a swan. What animal did Ben see?\nWhat animal did Mia see?\n';
  const { status, stdout, stderr } = spawnSync('node', ['chat.mjs', MODEL], { cwd: folder, input, encoding: 'utf8' });
  assert.equal(status, 0, stderr);
  assert.match(stdout, /Ben saw a goat\.\n.*Mia saw a swan\.\n/);
  assert.match(stderr, /tokens a second on/);
});
