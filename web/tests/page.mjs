// The page as a person uses it, with the model that comes with it: on WebGPU (in Chromium without a graphics card that
// is SwiftShader) and, where a browser has no WebGPU, on the CPU.
//
//     cargo xtask wasm && npm run build --prefix web && CHROMIUM=/usr/bin/chromium node --test web/tests/page.mjs
//
// Screenshots go to target/page/; look at them.

import { after, before, describe, test } from 'node:test';
import assert from 'node:assert/strict';
import {
  ANSWERS,
  DESKTOP,
  ELSEWHERE,
  MODEL,
  PHONE,
  STORY,
  Visit,
  amidAStory,
  answer,
  answered,
  ask,
  clickStop,
  faultsOfAccess,
  pressEscape,
  readOnlyItsOwn,
  ready,
  say,
  shot,
  stopAStory,
  turns,
} from './visit.mjs';

/** A commit of a model on the hub. */
const COMMIT = '0123456789abcdef0123456789abcdef01234567';

async function loadOnGpu(page) {
  await page.locator('#model').click();
  await page.getByText('How it runs').click();
  await page.getByLabel('Run on').selectOption('gpu');
  await page.getByRole('button', { name: 'Load the present model this way' }).click();
  await page.locator('#backend', { hasText: /^WebGPU/ }).waitFor();
  await page.getByText('The graphics card of this browser is software').waitFor();
}

describe('on WebGPU', () => {
  let visit;
  before(async () => (visit = await Visit.begin()));
  after(() => visit.end());

  // The same runs without WebGPU below; the kernels are the next test's.
  const skip = process.env.SELVEDGE_LONG ? false : 'left to --all';
  test('loads, reads a story, streams and stops', { skip }, async () => {
    const page = await visit.ready();
    // A graphics card that is software is only taken by those who ask for it.
    assert.match(await page.locator('#backend').innerText(), /^CPU/);
    await loadOnGpu(page);
    await page.getByRole('button', { name: STORY }).click();
    assert.equal(await answered(page), 'Ben saw a goat.');
    await page.getByRole('button', { name: 'Where did Mia go?' }).click();
    assert.equal(await answered(page), 'Mia visited the lake.');
    await readOnlyItsOwn(page);
    await stopAStory(page, clickStop);
    await shot(page, 'desktop-gpu');
    assert.deepEqual(page.faults, []);
  });

  test('a graphics card that goes away amid an answer: the answer goes on', async () => {
    const page = await visit.ready();
    const whole = await ask(page, 'Hello.');
    const workers = [];
    page.on('worker', (worker) => workers.push(worker.evaluate(keepDevices).then(() => worker)));
    await page.getByRole('button', { name: 'New conversation' }).click();
    await loadOnGpu(page);
    const worker = await workers.at(-1);
    await say(page, 'Hello.');
    await answer(page).filter({ hasText: /\w+ \w+ \w+/ }).waitFor();
    await worker.evaluate(() => devices.at(-1).destroy());
    await page.getByText('The GPU went away.').waitFor();
    assert.equal(await answered(page), whole);
    assert.equal(await worker.evaluate(() => devices.length), 2);
    assert.deepEqual(page.faults, []);
  });
});

// The worker's devices, which a test takes away.
const keepDevices = () => {
  const original = GPUAdapter.prototype.requestDevice;
  globalThis.devices = [];
  GPUAdapter.prototype.requestDevice = async function (...args) {
    const device = await original.apply(this, args);
    globalThis.devices.push(device);
    return device;
  };
};

// What does not depend on the device, too: there it is quick.
describe('without WebGPU', () => {
  let visit;
  before(async () => (visit = await Visit.begin({ webgpu: false })));
  after(() => visit.end());

  test('it runs on the CPU, says so, and answers the same', async () => {
    const page = await visit.ready();
    await page.getByRole('status').getByText(/CPU/).first().waitFor();
    assert.match(await page.locator('#backend').innerText(), /^CPU/);
    await page.getByRole('button', { name: STORY }).click();
    assert.equal(await answered(page), 'Ben saw a goat.');
    for (const question of ['Where did Mia go?', 'Who did Emma meet?']) {
      assert.equal(await ask(page, question), ANSWERS[question]);
    }
    assert.match(await ask(page, 'Tell me a story about Mia and Ben.'), /Mia.*Ben/);
    // docs/page.png is this one.
    await page.getByRole('button', { name: 'Put this notice away' }).click();
    await page.setViewportSize({ width: 1280, height: 860 });
    await page.mouse.move(640, 20);
    await page.getByLabel('Say something').focus();
    assert.ok(await page.getByRole('button', { name: 'To the end' }).isHidden());
    await shot(page, 'conversation');
    assert.deepEqual(page.faults, []);
  });

  test('loads, reads a story, streams, stops, goes on, edits, and is there after a reload', async () => {
    const page = await visit.open();
    // Loading is told in words and in numbers.
    await page.getByRole('progressbar', { name: 'Loading Hymba demo' }).waitFor();
    await ready(page);
    assert.equal(await page.getByRole('progressbar').count(), 0);

    // A question about a story.
    await page.getByRole('button', { name: STORY }).click();
    assert.equal(await answered(page), 'Ben saw a goat.');

    // What is offered next is answered rightly, and reads no more than its own words.
    for (const [question, right] of Object.entries(ANSWERS)) {
      await page.getByRole('button', { name: question }).click();
      assert.equal(await answered(page), right);
    }
    await readOnlyItsOwn(page);
    assert.match(await page.locator('#tokens-per-second').innerText(), /^[\d.,]+ tokens\/s$/);
    assert.match(await page.locator('#first-token').innerText(), /^[\d.]+ m?s$/);

    const part = await stopAStory(page, clickStop);

    // The same story again, to its end: it begins with what was heard already.
    await page.getByRole('button', { name: 'Regenerate' }).click();
    const whole = await answered(page);
    assert.ok(whole.length > part.length && whole.startsWith(part), `${whole}\ndoes not go on from\n${part}`);
    assert.equal(await turns(page).count(), 10);
    await shot(page, 'desktop-light');

    // Another first message: what came after it is gone, and the answer is another one.
    await turns(page).first().hover();
    await turns(page).first().getByRole('button', { name: 'Edit' }).click();
    await page.getByLabel('Say instead').fill('Ben saw a crab. Mia saw a swan. What animal did Ben see?');
    await shot(page, 'editing');
    await page.keyboard.press('Enter');
    assert.equal(await answered(page), 'Ben saw a crab.');
    assert.equal(await turns(page).count(), 2);

    // A reload: what was said is there, and is known.
    await page.reload();
    assert.equal(await turns(page).count(), 2);
    await ready(page);
    assert.equal(await ask(page, 'What animal did Mia see?'), 'Mia saw a swan.');

    // A reload amid an answer: what was heard of it is there.
    const reloaded = page.waitForEvent('load');
    await amidAStory(page, () => location.reload());
    await reloaded;
    await page.getByText('Stopped.', { exact: true }).waitFor();
    assert.match(await answer(page).innerText(), /^One \w+ day/);
    assert.deepEqual(page.faults, []);
  });

  test('a page from elsewhere over plain HTTP has neither WebGPU nor a store, and works', async () => {
    const page = await visit.open(DESKTOP, visit.server.address.replace('localhost', ELSEWHERE));
    assert.equal(await page.evaluate(() => navigator.gpu), undefined);
    await ready(page);
    await page.getByRole('status').getByText(/CPU/).first().waitFor();
    assert.match(await ask(page, 'Hello.'), /^Hello!/);
    assert.deepEqual(page.faults, []);
  });

  test('asks that come before the model is there are answered when it is', async () => {
    const page = await visit.open();
    await say(page, 'Hello.');
    await page.getByText('The answer begins when the model is loaded.').waitFor();
    assert.match(await answered(page), /^Hello!/);
  });

  test('is used with the keyboard alone, and speaks to screen readers', async () => {
    const page = await visit.ready();
    await page.getByRole('link', { name: 'Skip to the message box' }).focus();
    await page.keyboard.press('Enter');
    assert.equal(await page.evaluate(() => document.activeElement.id), 'say');

    await page.keyboard.type('Hello.');
    await page.keyboard.press('Enter');
    assert.match(await answered(page), /^Hello!/);
    const said = await stopAStory(page, pressEscape);
    await page.waitForFunction(
      (text) => document.querySelector('[aria-live=polite]').textContent.trim() === text,
      said,
    );
    assert.equal(await page.evaluate(() => document.activeElement.id), 'say', 'the focus stays where one writes');

    // The dialog takes the focus and gives it back.
    await page.locator('#model').focus();
    await page.keyboard.press('Enter');
    await page.getByRole('dialog', { name: 'Choose a model' }).waitFor();
    assert.deepEqual(await faultsOfAccess(page), []);
    await page.keyboard.press('Escape');
    assert.equal(await page.evaluate(() => document.activeElement.id), 'model');
    assert.deepEqual(await faultsOfAccess(page), []);
    await page.getByRole('button', { name: 'Dark colours' }).click();
    assert.deepEqual(await faultsOfAccess(page), []);
  });

  test('takes models from a folder and from an address, and says what is wrong with others', async () => {
    const page = await visit.ready();
    const choose = () => page.locator('#model').click();

    await choose();
    await page.getByLabel('From the Hugging Face hub').fill('not a name');
    await page.keyboard.press('Enter');
    await page.getByText('Write it as owner/name, as the hub does.').waitFor();
    await shot(page, 'picker');

    await page.getByLabel('From an address').fill(`${visit.server.address}/nowhere/`);
    await page.keyboard.press('Enter');
    await page.getByRole('alert').getByText('There is no such model').waitFor();
    await shot(page, 'trouble');

    await page.getByRole('button', { name: 'Choose another model' }).click();
    await page.locator('#gguf-files').setInputFiles(`${MODEL}../../tests/goldens/gguf/types/iq4_nl.gguf`);
    await page.getByRole('alert').getByText('This model is of a kind that is not supported').waitFor();

    await page.getByRole('button', { name: 'Choose another model' }).click();
    await page.locator('#folder-files').setInputFiles(MODEL);
    await page.locator('#model', { hasText: 'demo' }).waitFor();
    await ready(page);
    assert.match(await ask(page, 'Hello.'), /^Hello!/);

    await choose();
    await page.getByLabel('From an address').fill(`${visit.server.address}/model/`);
    await page.keyboard.press('Enter');
    await ready(page);
    assert.match(await ask(page, 'Thank you.'), /welcome/);

    // It was kept, comes back with the page, and goes when it is told to.
    await page.reload();
    await ready(page);
    assert.equal(await page.locator('#model .name').innerText(), 'model');
    assert.match(await answer(page).innerText(), /welcome/);

    // Fewer bits: less to keep, and the same story.
    await choose();
    await page.getByText('How it runs').click();
    await page.getByLabel('Weights').selectOption('q4');
    await page.getByRole('button', { name: 'Load the present model this way' }).click();
    await page.locator('.place', { hasText: /Weights\s*1\.\d+ MB/ }).waitFor();
    assert.equal(await ask(page, 'Ben saw a goat. Mia saw a swan. What animal did Mia see?'), 'Mia saw a swan.');

    await choose();
    const remove = page.getByRole('button', { name: 'Remove model from this browser' });
    await remove.click();
    await remove.getByText(/^Remove \d\.\d+ MB\?$/).waitFor();
    await remove.click();
    await remove.waitFor({ state: 'detached' });
    await page.getByRole('button', { name: 'Hymba demo' }).click();
    await ready(page);
    assert.equal(await turns(page).count(), 0, 'every model has its own conversation');
  });

  test('takes models from the hub', async () => {
    const page = await visit.ready();
    // The hub's answers come from here: where it is, and what it lets other sites see, are its own.
    const asked = [];
    await page.context().route('https://huggingface.co/**', async (route) => {
      const path = new URL(route.request().url()).pathname;
      asked.push(path);
      const cors = { 'access-control-allow-origin': '*', 'access-control-expose-headers': '*' };
      if (route.request().method() === 'OPTIONS') {
        return route.fulfill({ headers: { ...cors, 'access-control-allow-headers': '*' } });
      }
      if (path === '/api/models/org/demo/revision/main') return route.fulfill({ headers: cors, json: { sha: COMMIT } });
      const file = new RegExp(`^/org/demo/resolve/${COMMIT}/(.+)$`).exec(path)?.[1];
      if (!file) return route.fulfill({ status: 404, headers: cors });
      const response = await route.fetch({ url: `${visit.server.address}/model/${file}` });
      return route.fulfill({ response, headers: { ...response.headers(), ...cors } });
    });
    await page.locator('#model').click();
    await page.getByLabel('From the Hugging Face hub').fill('org/demo');
    await page.keyboard.press('Enter');
    await page.locator('#model', { hasText: 'org/demo' }).waitFor();
    await ready(page);
    assert.match(await ask(page, 'Hello.'), /^Hello!/);
    assert.ok(asked.some((path) => path.endsWith('/model.safetensors')), asked.join('\n'));

    // Kept: after a reload nothing but the question which commit is meant goes out.
    asked.length = 0;
    await page.reload();
    await ready(page);
    assert.match(await ask(page, 'Hello.'), /^Hello!/);
    assert.ok(!asked.some((path) => path.includes('/resolve/')), asked.join('\n'));

    await page.locator('#model').click();
    await page.getByLabel('From the Hugging Face hub').fill('org/none');
    await page.keyboard.press('Enter');
    await page.getByRole('alert').getByText('There is no such model').waitFor();
  });

  test('on a phone, light and dark', async () => {
    for (const colorScheme of ['light', 'dark']) {
      const page = await visit.ready({ ...PHONE, colorScheme });
      await shot(page, `phone-${colorScheme}-greeting`);
      await page.getByRole('button', { name: STORY }).tap();
      assert.equal(await answered(page), 'Ben saw a goat.');
      const wide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
      assert.ok(wide <= 0, `the page is ${wide} pixels wider than the phone`);
      await shot(page, `phone-${colorScheme}`);
      const toggle = page.getByRole('button', { name: 'What it costs' });
      assert.equal(await toggle.getAttribute('aria-expanded'), 'false');
      await toggle.tap();
      await page.locator('#state-bytes').waitFor();
      await shot(page, `phone-${colorScheme}-panel`);
      assert.deepEqual(await faultsOfAccess(page), []);
      await toggle.tap();
      await page.locator('#state-bytes').waitFor({ state: 'hidden' });
      await page.context().close();
    }
  });

  test('follows the system’s colours until a person says otherwise', async () => {
    const page = await visit.ready({ ...DESKTOP, colorScheme: 'dark' });
    const brightness = () =>
      page.evaluate(() => getComputedStyle(document.documentElement).backgroundColor.match(/\d+/g).map(Number)[0]);
    assert.ok((await brightness()) < 64);
    await shot(page, 'desktop-dark-greeting');
    await page.getByRole('button', { name: STORY }).click();
    await answered(page);
    await shot(page, 'desktop-dark');
    await page.getByRole('button', { name: 'Dark colours' }).click();
    assert.ok((await brightness()) > 192);
    await page.reload();
    assert.ok((await brightness()) > 192, 'the choice is remembered');
  });
});
