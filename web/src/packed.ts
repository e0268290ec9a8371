/**
 * Quantised models of the network: the original streams through once, is rounded on the device, and what is stored is
 * the quantised form alone, as a model folder of its own, so that the next load reads the small one.
 */

import { convert } from '../pkg/selvedge.js';
import { foundRight, placeOn } from './core.js';
import { chooseDevice, withDevice } from './device.js';
import { SelvedgeError, aborted, asSelvedgeError } from './errors.js';
import type { RemoteSource } from './sources/remote.js';
import { CHUNK, type ModelStore } from './store/models.js';
import type { LoadOptions, LoadProgress, Source } from './types.js';

/** Bytes of a file of weights: what an interrupted conversion may have to do again. */
const SHARD = 64 << 20;

/** Takes the files of a model one after the other; `FileSink` of the module. */
export interface PackedSink {
  has(name: string, size: number, head: Uint8Array): Promise<boolean>;
  begin(name: string, size: number): Promise<void>;
  append(bytes: Uint8Array): Promise<void>;
  finish(): Promise<void>;
}

/**
 * The quantised model as a source, made first where it is not there or is of another original. `undefined` when it
 * cannot be stored. The module must have been started.
 */
export async function packedSource(
  original: RemoteSource,
  store: ModelStore,
  options: LoadOptions,
  progress: (at: Omit<LoadProgress, 'downloaded'>) => void,
): Promise<Source | undefined> {
  const { signal } = options;
  const known = store.origin;
  const same = known !== undefined && (await original.stillIs(known));
  if (!same) await store.clear();
  if (!same || !store.complete) {
    if (!store.writable) return undefined;
    try {
      progress({ stage: 'device', done: 0, total: 0 });
      // Notices about the device come when the model is loaded.
      const device = await chooseDevice(options.device ?? 'auto', () => {});
      const place = placeOn(device, options);
      const request = JSON.stringify({ ...place, weights: options.weights, shard: SHARD });
      const sink = new StoreSink(original, store);
      const told = (done: number, total: number, tensor: string) => progress({ stage: 'weights', done, total, tensor });
      const work = () => convert(original.stoppable(signal), request, sink, told);
      const [right, opened] = await withDevice(device, work);
      opened?.destroy();
      foundRight(device, place, right);
      await store.finish(original.identities());
    } catch (thrown) {
      if (signal?.aborted) throw aborted(signal);
      // A store that is full takes nothing of this model: half of it helps nobody.
      if (store.writable) throw asSelvedgeError(thrown);
      await store.wipe();
      return undefined;
    }
  }
  return storedSource(original.describe(''), store);
}

/** Reads a model that is in the store and nowhere else. */
function storedSource(place: string, store: ModelStore): Source {
  const held = new Map<number, Promise<Uint8Array>>();
  let heldOf = '';
  const chunk = (name: string, index: number): Promise<Uint8Array> => {
    // Weights are read in the order of the file, and a chunk more than once: the last few are enough.
    if (heldOf !== name || held.size > 4) held.clear();
    heldOf = name;
    const read = held.get(index) ?? readChunk(name, index);
    held.set(index, read);
    return read;
  };
  const readChunk = async (name: string, index: number) => {
    const bytes = await store.read(name, index);
    if (bytes instanceof Uint8Array) return bytes;
    throw new DamagedError(`a stored piece of ${name} is damaged`);
  };
  return {
    describe: (name) => place + name,
    size: async (name) => store.file(name)?.size ?? null,
    async read(name, start, end) {
      const bytes = new Uint8Array(end - start);
      for (let index = Math.floor(start / CHUNK); index * CHUNK < end; index += 1) {
        const at = index * CHUNK;
        const found = await chunk(name, index);
        const [from, to] = [Math.max(start, at), Math.min(end, at + found.length)];
        bytes.set(found.subarray(from - at, to - at), from - start);
      }
      return bytes;
    },
  };
}

/** A piece of a quantised model that no server can replace: the model has to be made again. */
export class DamagedError extends SelvedgeError {
  constructor(message: string) {
    super('corrupt-weights', message);
  }
}

/** Cuts what comes into chunks of the store. */
class StoreSink implements PackedSink {
  readonly #original: RemoteSource;
  readonly #store: ModelStore;
  #name = '';
  #size = 0;
  #chunk = new Uint8Array();
  #filled = 0;
  #index = 0;

  constructor(original: RemoteSource, store: ModelStore) {
    this.#original = original;
    this.#store = store;
  }

  async has(name: string, size: number, head: Uint8Array): Promise<boolean> {
    if (this.#store.file(name)?.size !== size || !this.#store.isWhole(name)) return false;
    const source = storedSource('', this.#store);
    const found = await source.read(name, 0, head.length).catch(() => undefined);
    return found !== undefined && found.every((byte, at) => byte === head[at]);
  }

  async begin(name: string, size: number): Promise<void> {
    [this.#name, this.#size, this.#index, this.#filled] = [name, size, 0, 0];
    // The stored files belong to the original as it is now, also when the conversion ends here.
    this.#store.setOrigin(this.#original.identities());
    await this.#store.setFile(name, { size, validator: '' });
    this.#chunk = new Uint8Array(Math.min(CHUNK, size));
    this.#mustBeStored();
  }

  async append(bytes: Uint8Array): Promise<void> {
    for (let used = 0; used < bytes.length; ) {
      const part = bytes.subarray(used, used + this.#chunk.length - this.#filled);
      this.#chunk.set(part, this.#filled);
      this.#filled += part.length;
      used += part.length;
      if (this.#filled === this.#chunk.length) await this.#flush();
    }
  }

  async finish(): Promise<void> {
    if (this.#filled > 0) await this.#flush();
    await this.#store.save();
    this.#mustBeStored();
  }

  async #flush(): Promise<void> {
    await this.#store.write(this.#name, this.#index, this.#chunk);
    this.#mustBeStored();
    this.#index += 1;
    this.#filled = 0;
    this.#chunk = new Uint8Array(Math.max(0, Math.min(CHUNK, this.#size - this.#index * CHUNK)));
  }

  #mustBeStored(): void {
    if (!this.#store.writable) throw new SelvedgeError('out-of-memory', 'the quantised model cannot be stored');
  }
}
