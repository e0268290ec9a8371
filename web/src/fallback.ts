/** The server in place of a model in this page, where the page has no GPU. */

import { withoutGpu } from './device.js';
import { SelvedgeError } from './errors.js';
import { reportError } from './events.js';
import type { EngineInterface, FallbackOptions, LoadOptions, ModelReference } from './types.js';

/** Connects to `fallbackUrl` where the model would not run on a GPU, and says so; `undefined` where it will, or there is none. */
export async function connectWithoutGpu(
  model: ModelReference,
  options: LoadOptions | FallbackOptions,
): Promise<EngineInterface | undefined> {
  if (!('fallbackUrl' in options) || options.fallbackUrl === undefined) return undefined;
  const why = await withoutGpu(options.device ?? 'auto');
  if (why === undefined) return undefined;
  // Pages that need it alone load it.
  const { RemoteEngine } = await import('./remote/engine.js').catch((cause: unknown) => {
    throw new SelvedgeError('not-found', `a part of this package could not be loaded: ${cause}`, { cause });
  });
  const wanted = typeof model === 'string' ? model : undefined;
  const engine = await RemoteEngine.connect(options.fallbackUrl, options, { why, wanted });
  try {
    options.onProgress?.({ stage: 'ready', done: 0, total: 0, downloaded: 0 });
  } catch (error) {
    reportError(error);
  }
  return engine;
}

/** The options of a load without those of a server, once none is to be asked. */
export function withoutServer<Options extends LoadOptions>(options: Options | (Options & FallbackOptions)): Options {
  const { fallbackUrl: _url, apiKey: _key, remoteModel: _model, headers: _headers, retries: _retries, ...rest } = options as Options &
    FallbackOptions;
  return rest as unknown as Options;
}
