// A page with the package in it, for tests.

import { launch } from './launch.mjs';
import { root } from './root.mjs';
import { serve } from './server.mjs';

/**
 * Opens a page that has the package as `selvedge`, with `folders` served beside it. What is given has the page's
 * `evaluate`; `server` and `reload`; and `close`, which ends browser and server too.
 */
export async function openPage(folders = {}, { withoutGpu = false } = {}) {
  const server = await serve({ web: `${root}web`, ...folders });
  const browser = await launch();
  // A context of its own, in Chromium, may have several tabs.
  const page = await (browser.newContext ? await browser.newContext() : browser).newPage();
  page.setDefaultTimeout(3_600_000);
  page.on('console', (message) => {
    // Optional files that are not there are no news.
    if (!/status of 404/.test(message.text())) console.log(`[${message.type()}] ${message.text()}`);
  });
  page.on('pageerror', (error) => console.log(`[page] ${error}`));
  const reload = async () => {
    await page.goto(server.address);
    await page.evaluate(async (withoutGpu) => {
      if (withoutGpu) delete Navigator.prototype.gpu;
      const [{ Engine, SelvedgeError }, { WorkerEngine }] = [
        await import('/web/dist/index.js'),
        await import('/web/dist/worker/index.js'),
      ];
      window.selvedge = { Engine, SelvedgeError, WorkerEngine };
    }, withoutGpu);
  };
  await reload();
  return {
    evaluate: (work, argument) => page.evaluate(work, argument),
    page,
    server,
    reload,
    async close() {
      await browser.close();
      server.close();
    },
  };
}
