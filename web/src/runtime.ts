/** The WebAssembly module: one a thread, however many engines. */

import init, { type InitOutput } from '../pkg/selvedge.js';
import { SelvedgeError } from './errors.js';
import type { LoadOptions } from './types.js';

let started: Promise<InitOutput> | undefined;

/** Starts the module, or waits for the one that was started first. */
export function startRuntime(wasm: LoadOptions['wasm']): Promise<InitOutput> {
  started ??= init(wasm === undefined ? undefined : { module_or_path: wasm as string }).catch((error: unknown) => {
    // The next load tries again.
    started = undefined;
    const where = typeof wasm === 'string' || wasm instanceof URL ? ` from ${wasm}` : '';
    const hint = 'does the server send selvedge_bg.wasm, and is the page allowed to run WebAssembly?';
    throw new SelvedgeError('not-found', `the WebAssembly module could not be started${where}: ${error}; ${hint}`, {
      cause: error,
    });
  });
  return started;
}
