// The page in a browser, and what a person does in it, for tests. Screenshots go to target/page/.

import { mkdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import assert from 'node:assert/strict';
import { launch } from './launch.mjs';
import { serve } from './server.mjs';

const at = (path) => fileURLToPath(new URL(path, import.meta.url));
const PAGE = at('../demo/dist/');
export const MODEL = at('../../assets/demo/');
const AXE = at('../node_modules/axe-core/axe.min.js');
const SHOTS = at('../../target/page/');

export const DESKTOP = { viewport: { width: 1280, height: 800 } };
export const PHONE = { viewport: { width: 390, height: 844 }, deviceScaleFactor: 2, hasTouch: true, isMobile: true };

/** The story that the page offers to begin with, and what is right about it. */
export const STORY = 'Read a story, then ask about it';
export const ANSWERS = {
  'Where did Mia go?': 'Mia visited the lake.',
  'Who did Emma meet?': 'Emma met Finn.',
  'What colour is the boat?': 'The boat is white.',
};

mkdirSync(SHOTS, { recursive: true });

/** Another name of this machine. Browsers trust pages from `localhost`, and not those from elsewhere over plain HTTP. */
export const ELSEWHERE = 'elsewhere.test';

/** A browser, and what one does in it. */
export class Visit {
  static async begin(options = {}) {
    const visit = new Visit();
    visit.server = await serve({ page: PAGE, model: MODEL });
    visit.browser = await launch({ ...options, args: [`--host-resolver-rules=MAP ${ELSEWHERE} 127.0.0.1`] });
    return visit;
  }

  async end() {
    await this.browser?.close();
    this.server.close();
  }

  /** A fresh browser profile with the page open in it. */
  async open(options = DESKTOP, address = this.server.address) {
    return this.tab(await this.browser.newContext(options), address);
  }

  /** The page in another tab of a browser profile. What the page complains of fails the test. */
  async tab(context, address = this.server.address) {
    const page = await context.newPage();
    page.setDefaultTimeout(240_000);
    page.faults = [];
    page.on('pageerror', (error) => page.faults.push(String(error)));
    page.on('console', (message) => message.type() === 'error' && page.faults.push(message.text()));
    await page.goto(`${address}/page/index.html`);
    return page;
  }

  async ready(options) {
    const page = await this.open(options);
    await ready(page);
    return page;
  }
}

/** Until the model is loaded. */
export const ready = (page) => page.locator('#state-bytes').waitFor({ state: 'attached' });
export const turns = (page) => page.locator('.turn');
export const answer = (page) => page.locator('.turn.assistant.last .text');

/** Until the last answer is whole; its text. */
export async function answered(page) {
  await page.locator('.turn.assistant.last .actions').waitFor();
  return answer(page).innerText();
}

export async function say(page, text) {
  await page.getByLabel('Say something').fill(text);
  await page.keyboard.press('Enter');
}

export async function ask(page, text) {
  await say(page, text);
  return answered(page);
}

/** The last turn read its own words only: the others were remembered. */
export async function readOnlyItsOwn(page) {
  const [read, all] = (await page.locator('#read-tokens').innerText()).match(/\d+/g).map(Number);
  assert.ok(read < 20 && all > 60, `${read} of ${all} tokens were read for a short question`);
}

/**
 * Asks for a story and calls `act` when its first words are there. `act` runs in the page: a quick machine would be
 * done before anything out here could, and shows all of a story in a handful of pieces.
 */
export async function amidAStory(page, act) {
  await page.evaluate((act) => {
    const before = document.querySelectorAll('.turn').length;
    const observer = new MutationObserver(() => {
      // The question and an answer that has begun.
      if (document.querySelectorAll('.turn').length < before + 2) return;
      const words = document.querySelector('.turn.assistant.last .text')?.textContent.split(' ') ?? [];
      if (words.length < 4) return;
      observer.disconnect();
      (0, eval)(`(${act})()`);
    });
    observer.observe(document.querySelector('.thread'), { childList: true, subtree: true });
  }, String(act));
  await say(page, 'Tell me a story.');
}

/** Stops a story by `stop`; what was told until then. */
export async function stopAStory(page, stop) {
  await amidAStory(page, stop);
  const part = await answered(page);
  await page.getByText('Stopped.', { exact: true }).waitFor();
  return part;
}

export const clickStop = () => document.querySelector('button[aria-label^=Stop]').click();
export const pressEscape = () =>
  document.activeElement.dispatchEvent(new KeyboardEvent('keydown', { key: 'Escape', bubbles: true }));

export const shot = (page, name) => page.screenshot({ path: `${SHOTS}${name}.png` });

/** Rules of accessibility that the page breaks, by axe. */
export async function faultsOfAccess(page) {
  await page.addScriptTag({ path: AXE });
  const { violations } = await page.evaluate(() => axe.run(document, { resultTypes: ['violations'] }));
  return violations.map(({ id, nodes }) => `${id}: ${nodes.map((node) => node.html).join(' ')}`);
}
