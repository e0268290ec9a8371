/**
 * Node.js: the same engine, with models in folders, on the GPU through the npm package `webgpu` where it is installed,
 * else on the CPU.
 */

import { existsSync, readdirSync } from 'node:fs';
import { open, readFile, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Engine as AnyEngine } from './engine.js';
import type { EngineInterface, FallbackOptions, LoadOptions, ModelReference, Source } from './types.js';

export { SelvedgeError, type ErrorCode } from './errors.js';
export type * from './openai.js';
export type * from './types.js';

/** Options of a load in Node.js. */
export interface NodeLoadOptions extends LoadOptions {
  /** Options of the package `webgpu` that choose a driver, such as `["backend=vulkan"]`. */
  readonly webgpu?: readonly string[];
}

export const Engine = { load };

/** Loads a model. A text that is the path of a folder or of a GGUF file means what lies there. */
function load(model: ModelReference, options: NodeLoadOptions & FallbackOptions): Promise<EngineInterface>;
function load(model: ModelReference, options?: NodeLoadOptions): Promise<AnyEngine>;
async function load(
  model: ModelReference,
  options: NodeLoadOptions | (NodeLoadOptions & FallbackOptions) = {},
): Promise<EngineInterface> {
  const { webgpu, ...rest } = options;
  if (rest.device !== 'cpu') await offerWebGpu(webgpu ?? []);
  const wasm = rest.wasm ?? (await readFile(fileURLToPath(new URL('../pkg/selvedge_bg.wasm', import.meta.url))));
  const isHere = typeof model === 'string' && (await stat(model).catch(() => undefined));
  const source = !isHere ? model : isHere.isDirectory() ? folder(model) : { ...folder(dirname(model)), gguf: basename(model) };
  // There is no browser to keep what is downloaded.
  return AnyEngine.load(source, { store: false, ...rest, wasm });
}

/** The files of a folder, read where they lie. */
export function folder(path: string): Source {
  return {
    files: existsSync(path) ? readdirSync(path) : [],
    describe: (name) => (name === '' ? path : join(path, name)),
    size: (name) => stat(join(path, name)).then(({ size }) => size, missing),
    async read(name, start, end) {
      const file = await open(join(path, name));
      try {
        const bytes = new Uint8Array(end - start);
        for (let at = 0; at < bytes.length; ) {
          const { bytesRead } = await file.read(bytes, at, bytes.length - at, start + at);
          if (bytesRead === 0) return bytes.subarray(0, at);
          at += bytesRead;
        }
        return bytes;
      } finally {
        await file.close();
      }
    },
  };
}

function missing(error: NodeJS.ErrnoException): null {
  if (error.code === 'ENOENT') return null;
  throw error;
}

let offered = false;

/** Puts WebGPU where a browser has it, and makes the global object look like a window, which wgpu asks for. */
async function offerWebGpu(options: readonly string[]): Promise<void> {
  if (offered || (globalThis.navigator as Partial<Navigator> | undefined)?.gpu) return;
  // A bundler must not look for it: the name is not written where one would.
  const name: string = 'webgpu';
  const dawn = await import(name).catch(() => undefined);
  if (!dawn) return;
  offered = true;
  Object.assign(globalThis, dawn.globals);
  const gpu: unknown = dawn.create([...options]);
  const navigator = Object.create((globalThis.navigator as object | undefined) ?? null, { gpu: { value: gpu } });
  Object.defineProperty(globalThis, 'navigator', { value: navigator, configurable: true });
  const isWindow = (value: unknown) => value === globalThis;
  const Window = class {
    static [Symbol.hasInstance] = isWindow;
  };
  Object.assign(globalThis, { window: globalThis, Window });
}
