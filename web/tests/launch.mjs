// The browser to test in, without a window: Firefox where the environment names one, else Chromium. What both
// give back has the same `newPage`, `goto`, `evaluate` (of one argument) and `close`.

/** Quiet, and nobody to call: a test machine may have no network, and a container's root no sandbox. */
const CHROMIUM = [
  '--no-sandbox',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
];

/** WebGPU, also on a driver that Firefox does not know. */
const FIREFOX = { 'dom.webgpu.enabled': true, 'gfx.webgpu.ignore-blocklist': true };

/** WebGPU without a graphics card. */
const SOFTWARE = '--enable-unsafe-webgpu';

/** Chromium with `webgpu: false` has no adapter, as on a machine whose driver it does not trust; `args`: more switches. */
export async function launch({ webgpu = true, args = [] } = {}) {
  if (process.env.FIREFOX) {
    const { default: puppeteer } = await import('puppeteer-core');
    return puppeteer.launch({
      browser: 'firefox',
      executablePath: process.env.FIREFOX,
      extraPrefsFirefox: FIREFOX,
      protocolTimeout: 600_000,
    });
  }
  const { chromium } = await import('playwright-core');
  const switches = [...CHROMIUM, ...(webgpu ? [SOFTWARE] : []), ...args];
  return chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: switches });
}
