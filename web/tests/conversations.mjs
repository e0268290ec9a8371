// The page's conversations: several of a model, forks of them, what is remembered after a reload and after a tab was
// closed, two tabs, and a browser that keeps nothing. With the demo model on the CPU.
//
//     npm run build --prefix web && CHROMIUM=/usr/bin/chromium node --test web/tests/conversations.mjs

import { after, before, describe, test } from 'node:test';
import assert from 'node:assert/strict';
import {
  ANSWERS,
  PHONE,
  STORY,
  Visit,
  answer,
  answered,
  ask,
  faultsOfAccess,
  ready,
  say,
  shot,
  turns,
} from './visit.mjs';

const RIGHT = 'Ben saw a goat.';
const [FIRST, SECOND, THIRD] = Object.keys(ANSWERS);

const numbers = (text) => text.replaceAll(',', '').match(/\d+/g).map(Number);

/** Tokens of the last answer's prompt that were read, and all of them. */
const readTokens = async (page) => numbers(await page.locator('#read-tokens').innerText());

/** What is remembered of the conversation on the page, once it is known: `[remembered, tokens]`. */
async function remembered(page) {
  await page.locator('#remembered-tokens', { hasText: / of / }).waitFor({ state: 'attached' });
  return numbers(await page.locator('#remembered-tokens').innerText());
}

/** The story, and the question after it. */
async function readAStory(page) {
  await page.getByRole('button', { name: STORY }).click();
  assert.equal(await answered(page), RIGHT);
}

/** Texts of the turns on the page. */
const said = (page) => page.locator('.turn .text').allInnerTexts();

async function saying(page, texts) {
  await page.waitForFunction(
    (texts) => {
      const said = [...document.querySelectorAll('.turn .text')].map((text) => text.innerText.trim());
      return said.length === texts.length && said.every((text, index) => text === texts[index]);
    },
    texts,
  );
}

async function act(page, index, name) {
  await turns(page).nth(index).hover();
  await turns(page).nth(index).getByRole('button', { name }).click();
}

const fork = (page, index) => act(page, index, 'Fork: go on from here in a second conversation');
const dialog = (page) => page.getByRole('dialog', { name: 'Conversations' });
const entries = (page) => dialog(page).getByRole('listitem');

async function list(page) {
  await page.locator('#conversations').click();
  await dialog(page).waitFor();
}

/** The conversation of the list whose last words are `last`. */
const entry = (page, last) => entries(page).filter({ has: page.locator('.last-said').getByText(last, { exact: true }) });

async function choose(page, last) {
  await list(page);
  await entry(page, last).locator('.entry').click();
  await dialog(page).waitFor({ state: 'hidden' });
}

async function remove(page, last) {
  const button = entry(page, last).getByRole('button', { name: /Remove/ });
  await button.click();
  await button.getByText('Remove?').waitFor();
  await button.click();
}

const notice = (page, text) => page.locator('.notice', { hasText: text });
const PARTED = 'Another tab went on with this conversation too.';
const REMOVED = 'Another tab removed this conversation.';
const UNKEPT = 'What is said here is not kept';

/** Parts of an answer that a page hears before its worker is held back. */
const PARTS = 4;

/** A tab whose page can be told to hear no more than the beginning of an answer, from `hold()` to `release()`. */
async function holdable(visit, context) {
  await context.addInitScript((parts) => {
    const held = [];
    let left = Infinity;
    window.hold = () => (left = parts);
    window.release = () => {
      left = Infinity;
      for (const say of held.splice(0)) say();
    };
    window.Worker = class extends Worker {
      constructor(...options) {
        super(...options);
        this.addEventListener('message', (event) => {
          if (left > 0) {
            if (event.data.type === 'part') left -= 1;
            return;
          }
          event.stopImmediatePropagation();
          held.push(() => this.dispatchEvent(new MessageEvent('message', { data: event.data })));
        });
      }
    };
  }, PARTS);
  const page = await visit.tab(context);
  await ready(page);
  return page;
}

/** Asks for a story, and waits for its first words: the others do not come until `release()`. */
async function beginAStory(page) {
  await page.evaluate(() => hold());
  await say(page, 'Tell me a story.');
  await answer(page).filter({ hasText: /^One \w+/ }).waitFor();
}

/** Ends the page's process. */
async function crash(page) {
  const crashed = page.waitForEvent('crash');
  const session = await page.context().newCDPSession(page);
  session.send('Page.crash').catch(() => {});
  await crashed;
}

describe('conversations', () => {
  let visit;
  before(async () => (visit = await Visit.begin({ webgpu: false })));
  after(() => visit.end());

  test('a reload: what was said is there, and remembered', async () => {
    const page = await visit.ready();
    assert.equal(await page.locator('#stored-states').innerText(), '–');
    await readAStory(page);
    const before = await remembered(page);
    const whole = await said(page);
    assert.match(await page.locator('.composer .hint').innerText(), / of \d+ tokens remembered$/);
    await page.reload();
    await saying(page, whole);
    await ready(page);
    // Before anything is asked.
    const [known, all] = await remembered(page);
    assert.deepEqual([known, all], before);
    assert.ok(known > 60 && all - known <= 2, `${known} of ${all} tokens are remembered`);
    assert.equal(await page.locator('.composer .hint').innerText(), `${known} of ${all} tokens remembered`);
    assert.match(await page.locator('#stored-states').innerText(), /^[1-9]\d* in [\d.]+ [kM]B$/);
    assert.equal(await page.locator('#read-tokens').innerText(), '–');
    assert.equal(await ask(page, FIRST), ANSWERS[FIRST]);
    const [read, prompt] = await readTokens(page);
    assert.ok(read < 20 && prompt > all, `${read} of ${prompt} tokens were read for a short question`);
    assert.match(await page.locator('#checkpoints').innerText(), /^[1-9]\d* in [\d.]+ [kM]B$/);
    assert.equal(await page.locator('.cache .remark').count(), 0);
    await shot(page, 'remembered');

    // That an edit is read anew is told.
    await act(page, 2, 'Edit');
    await page.getByLabel('Say instead').fill(SECOND);
    await page.keyboard.press('Enter');
    assert.equal(await answered(page), ANSWERS[SECOND]);
    await page.locator('.cache .remark', { hasText: /^A part was read again for the last answer: .+\.$/ }).waitFor();
    await shot(page, 'read-again');
    assert.deepEqual(page.faults, []);
  });

  for (const [how, end] of Object.entries({ closed: (page) => page.close(), 'that crashed': crash })) {
    test(`a tab ${how} amid an answer: what was heard is there in the next one`, async () => {
      const context = await visit.browser.newContext();
      const page = await holdable(visit, context);
      await readAStory(page);
      await beginAStory(page);
      // A crash is no occasion to keep anything: it is kept from time to time.
      await page.waitForFunction(() => {
        const key = Object.keys(localStorage).find((key) => key.startsWith('selvedge.conversation/'));
        const { turns } = JSON.parse(localStorage.getItem(key));
        return turns.length === 4 && turns[3].content.startsWith('One ');
      });
      await end(page);

      const next = await visit.tab(context);
      await ready(next);
      await next.getByText('Stopped.', { exact: true }).waitFor();
      const part = (await answer(next).innerText()).trim();
      assert.match(part, /^One \w+/);
      await next.getByRole('button', { name: 'Regenerate' }).click();
      const whole = await answered(next);
      assert.ok(whole.startsWith(part) && whole.length > part.length, `${whole}\ndoes not go on from\n${part}`);
      const [read, prompt] = await readTokens(next);
      assert.ok(read < 20 && prompt > 60, `${read} of ${prompt} tokens were read to answer again`);
      assert.deepEqual(next.faults, []);
    });
  }

  test('forks at a question and at an answer go on by themselves', async () => {
    const page = await visit.ready();
    await readAStory(page);
    assert.equal(await ask(page, FIRST), ANSWERS[FIRST]);
    const whole = await said(page);

    // At an answer: the fork ends with it.
    await fork(page, 1);
    await saying(page, whole.slice(0, 2));
    await page.getByText('From here on, a second conversation.').waitFor();
    const [known, all] = await remembered(page);
    assert.ok(all - known <= 2, `${known} of ${all} tokens are remembered`);
    await shot(page, 'forked');
    assert.equal(await ask(page, SECOND), ANSWERS[SECOND]);
    const [read] = await readTokens(page);
    assert.ok(read < 20, `${read} tokens were read after a fork`);

    // At a question, of the first one: the fork ends with it, and can be answered.
    await choose(page, ANSWERS[FIRST]);
    await saying(page, whole);
    await fork(page, 2);
    await saying(page, whole.slice(0, 3));
    await shot(page, 'forked-question');
    await page.getByRole('button', { name: 'Answer this' }).click();
    assert.equal(await answered(page), ANSWERS[FIRST]);
    assert.equal(await ask(page, THIRD), ANSWERS[THIRD]);

    // All three are as they were left, also after a reload.
    await page.reload();
    await ready(page);
    await saying(page, [...whole, THIRD, ANSWERS[THIRD]]);
    await choose(page, ANSWERS[SECOND]);
    await saying(page, [...whole.slice(0, 2), SECOND, ANSWERS[SECOND]]);
    await choose(page, ANSWERS[FIRST]);
    await saying(page, whole);
    assert.deepEqual(page.faults, []);
  });

  test('several conversations: begun, chosen, removed, with the keyboard', async () => {
    const page = await visit.ready();
    await list(page);
    await dialog(page).getByText('Nothing has been said yet.').waitFor();
    await page.keyboard.press('Escape');
    const fresh = page.getByRole('button', { name: 'New conversation' });
    assert.ok(await fresh.isDisabled());
    const hello = await ask(page, 'Hello.');
    await fresh.click();
    assert.equal(await turns(page).count(), 0);
    assert.equal(await page.evaluate(() => document.activeElement.id), 'say');
    // One in which nothing was said is there after a reload, and is not in the list.
    await page.reload();
    await ready(page);
    assert.equal(await turns(page).count(), 0);
    const thanks = await ask(page, 'Thank you.');
    assert.equal(await page.locator('#conversations .name').innerText(), 'Thank you.');

    await page.locator('#conversations').focus();
    await page.keyboard.press('Enter');
    assert.deepEqual(await entries(page).locator('.name').allInnerTexts(), ['Thank you.', 'Hello.']);
    await shot(page, 'conversations');
    assert.deepEqual(await faultsOfAccess(page), []);
    await entries(page).nth(1).locator('.entry').focus();
    await page.keyboard.press('Enter');
    await saying(page, ['Hello.', hello]);
    assert.deepEqual(await faultsOfAccess(page), []);

    // One press removes nothing; the next conversation takes the place of one that is removed.
    await list(page);
    await entry(page, hello).getByRole('button', { name: /Remove/ }).click();
    await page.keyboard.press('Escape');
    await list(page);
    assert.equal(await entries(page).count(), 2);
    await remove(page, hello);
    await saying(page, ['Thank you.', thanks]);
    assert.equal(await entries(page).count(), 1);
    await remove(page, thanks);
    await dialog(page).getByText('Nothing has been said yet.').waitFor();
    await page.keyboard.press('Escape');
    assert.equal(await turns(page).count(), 0);
    await page.reload();
    await ready(page);
    assert.equal(await turns(page).count(), 0);
    assert.deepEqual(page.faults, []);
  });

  test('the conversation of an older page is taken over, and the oldest of many makes room', async () => {
    const page = await visit.ready();
    await page.evaluate(() => {
      const turns = [
        { role: 'user', content: 'Hello.' },
        { role: 'assistant', content: 'Hello! How are you?' },
      ];
      localStorage.setItem('selvedge.conversation.demo', JSON.stringify(turns));
      sessionStorage.clear();
    });
    await page.reload();
    await saying(page, ['Hello.', 'Hello! How are you?']);
    await page.evaluate(() => {
      for (let changed = 1; changed <= 49; changed++) {
        const turns = [{ role: 'user', content: `Question ${changed}.` }];
        localStorage.setItem(`selvedge.conversation/old${changed}/demo`, JSON.stringify({ changed, turns }));
      }
    });
    await page.reload();
    await ready(page);
    await page.getByRole('button', { name: 'New conversation' }).click();
    await ask(page, 'Thank you.');
    await notice(page, 'The oldest was removed: “Question 1.”').waitFor();
    await list(page);
    const names = await entries(page).locator('.name').allInnerTexts();
    assert.deepEqual([names.length, ...names.slice(0, 3)], [50, 'Thank you.', 'Hello.', 'Question 49.']);
    assert.equal(names.at(-1), 'Question 2.');
    assert.deepEqual(page.faults, []);
  });

  test('two tabs: the one that is idle follows', async () => {
    const one = await visit.ready();
    await readAStory(one);
    const two = await visit.tab(one.context());
    await ready(two);
    const begun = await said(one);
    await saying(two, begun);
    assert.equal(await ask(two, FIRST), ANSWERS[FIRST]);
    await saying(one, [...begun, FIRST, ANSWERS[FIRST]]);
    await one.getByText('Stopped.', { exact: true }).waitFor({ state: 'detached' });
    assert.equal(await ask(one, SECOND), ANSWERS[SECOND]);
    const all = [...begun, FIRST, ANSWERS[FIRST], SECOND, ANSWERS[SECOND]];
    await saying(two, all);

    // What is being written in one of them is not taken away.
    await act(one, 4, 'Edit');
    await one.getByLabel('Say instead').fill('Thank you.');
    assert.equal(await ask(two, THIRD), ANSWERS[THIRD]);
    assert.equal(await one.getByLabel('Say instead').inputValue(), 'Thank you.');
    await one.getByLabel('Say instead').press('Escape');
    await saying(one, [...all, THIRD, ANSWERS[THIRD]]);
    await act(one, 4, 'Edit');
    await one.getByLabel('Say instead').fill('Thank you.');
    await ask(two, 'Tell me a story.');
    const twos = (await said(two)).map((text) => text.trim());
    await one.getByLabel('Say instead').press('Enter');
    await notice(one, PARTED).waitFor();
    assert.match(await answered(one), /welcome/);
    const ones = await said(one);
    assert.equal(ones.length, 6);

    // Each has its own now, and both are in the list.
    await two.reload();
    await ready(two);
    await saying(two, twos);
    await choose(two, ones.at(-1));
    await saying(two, ones);

    // Removed in one tab: it is still on the page of the other, and kept again when something is said there.
    await list(two);
    await remove(two, ones.at(-1));
    await notice(one, REMOVED).waitFor();
    assert.equal(await entries(two).count(), 1);
    await saying(one, ones);
    await ask(one, 'Hello.');
    await entries(two).nth(1).waitFor();
    assert.deepEqual([...one.faults, ...two.faults], []);
  });

  test('two tabs: what is being answered in one while the other goes on becomes its own', async () => {
    const context = await visit.browser.newContext();
    const one = await holdable(visit, context);
    await readAStory(one);
    const two = await visit.tab(context);
    await ready(two);
    const begun = await said(one);

    // The words of an answer are seen in the other tab as they come.
    await beginAStory(one);
    await answer(two).filter({ hasText: /^One \w+/ }).waitFor();
    assert.equal(await notice(one, PARTED).count(), 0);
    const hello = await ask(two, 'Hello.');
    await notice(one, PARTED).waitFor();
    await one.evaluate(() => release());
    const story = await answered(one);
    await saying(one, [...begun, 'Tell me a story.', story]);
    const twos = await said(two);
    assert.deepEqual([twos.length, ...twos.slice(-2)], [begun.length + 4, 'Hello.', hello]);

    // Both are in the list, and there after a reload.
    await choose(one, hello);
    await saying(one, twos);
    await choose(one, story);
    await saying(one, [...begun, 'Tell me a story.', story]);
    await one.reload();
    await saying(one, [...begun, 'Tell me a story.', story]);
    await two.reload();
    await saying(two, twos);
    assert.deepEqual([...one.faults, ...two.faults], []);
  });

  test('a browser that keeps nothing: the page says so and goes on', async () => {
    const context = await visit.browser.newContext();
    await context.addInitScript(() => {
      Storage.prototype.setItem = () => {
        throw new DOMException('The quota has been exceeded.', 'QuotaExceededError');
      };
    });
    const page = await visit.tab(context);
    await ready(page);
    assert.equal(await notice(page, UNKEPT).count(), 0);
    const hello = await ask(page, 'Hello.');
    await notice(page, UNKEPT).waitFor();
    // Said once.
    await notice(page, UNKEPT).getByRole('button').click();
    await page.getByRole('button', { name: 'New conversation' }).click();
    const thanks = await ask(page, 'Thank you.');
    assert.equal(await notice(page, UNKEPT).count(), 0);
    // As long as the page is there, so are both.
    await choose(page, hello);
    await saying(page, ['Hello.', hello]);
    await choose(page, thanks);
    await saying(page, ['Thank you.', thanks]);
    await page.reload();
    await ready(page);
    assert.equal(await turns(page).count(), 0);
    assert.deepEqual(page.faults, []);
  });

  test('a full storage: the page says so, and keeps what is said as soon as there is room', async () => {
    const page = await visit.ready();
    await ask(page, 'Hello.');
    await page.getByRole('button', { name: 'New conversation' }).click();
    await page.evaluate(() => {
      let size = 1 << 22;
      for (let text = 'x'.repeat(size); size >= 1; size >>= 1, text = text.slice(0, size)) {
        try {
          localStorage.setItem(`full${size}`, text);
        } catch {
          // Half of it, then.
        }
      }
    });
    const thanks = await ask(page, 'Thank you.');
    await notice(page, UNKEPT).waitFor();
    await page.evaluate(() => Object.keys(localStorage).forEach((key) => key.startsWith('full') && localStorage.removeItem(key)));
    const story = await ask(page, 'Tell me a story.');
    assert.equal(await notice(page, UNKEPT).count(), 0);
    await page.reload();
    await ready(page);
    await saying(page, ['Thank you.', thanks, 'Tell me a story.', story]);
    assert.deepEqual(page.faults, []);
  });

  test('on a phone, light and dark', async () => {
    for (const colorScheme of ['light', 'dark']) {
      const page = await visit.ready({ ...PHONE, colorScheme });
      await page.getByRole('button', { name: STORY }).tap();
      await answered(page);
      await ask(page, FIRST);
      await fork(page, 2);
      await page.getByRole('button', { name: 'Answer this' }).waitFor();
      // What is too wide for a phone makes it show more, in small.
      const scrollWidth = await page.evaluate(() => document.documentElement.scrollWidth);
      assert.ok(scrollWidth <= PHONE.viewport.width, `the page is ${scrollWidth} pixels wide`);
      await shot(page, `phone-${colorScheme}-forked`);
      assert.deepEqual(await faultsOfAccess(page), []);
      await page.locator('#conversations').tap();
      await entries(page).nth(1).waitFor();
      assert.deepEqual(await faultsOfAccess(page), []);
      await shot(page, `phone-${colorScheme}-conversations`);
      await page.getByRole('button', { name: 'Close' }).tap();
      await page.getByRole('button', { name: 'What it costs' }).tap();
      await page.locator('#stored-states').scrollIntoViewIfNeeded();
      await shot(page, `phone-${colorScheme}-remembered`);
      await page.context().close();
    }
  });
});
