/**
 * The browser's store of models, in its private file system:
 *
 * ```text
 * selvedge/<hash of the model's name>/manifest.json          the name, and what each file is
 * selvedge/<hash of the model's name>/<file>/<n>-<sha-256>   chunk n of the file
 * ```
 *
 * A chunk's own name says what it must hold, so that there is nothing that could disagree with it: a write that was
 * cut short is a chunk that fails its check, and is fetched again.
 */

import { SelvedgeError } from '../errors.js';
import type { FileIdentity } from '../sources/http.js';
import type { Notice, StoredModel, WeightChoice } from '../types.js';
import {
  NO_STORAGE,
  entries,
  folder,
  idOf,
  lock,
  readFile,
  removeEntry,
  rootFolder,
  sha256,
  storingFails,
  writeFile,
  type Folder,
} from './opfs.js';

/** Bytes of a chunk; the last one of a file is shorter. */
export const CHUNK = 4 << 20;

/** Formats that are stored in place of the original. */
export const PACKED: readonly WeightChoice[] = ['q8', 'q4', 'q4m'];

const MANIFEST = 'manifest.json';
const VERSION = 1;

/** Identities of files; `null`: there was none. */
export type Identities = Record<string, FileIdentity | null>;

interface Manifest {
  version: number;
  chunk: number;
  name: string;
  /** The commit, for models of the hub. */
  revision?: string;
  /** Path of the GGUF file there that was chosen by its tag. */
  gguf?: string | undefined;
  /** Of a quantised model: what the original's files were, and whether all of it is here. */
  origin?: Identities;
  complete?: boolean;
  /** Milliseconds since 1970. */
  used: number;
  /** `null`: there was no such file. */
  files: Identities;
}

/** Looks for a store and opens a model in it; without one, says so. */
export async function openStore(name: string, notice: (notice: Notice) => void): Promise<ModelStore | undefined> {
  const without = (why: string) => {
    notice({ code: 'no-store', message: `${why}: what is downloaded is not kept, and the next load fetches it again` });
    return undefined;
  };
  try {
    const root = await rootFolder();
    if (!root) return without(NO_STORAGE);
    const id = await idOf(name);
    const unlock = await lock(id);
    if (!unlock) notice({ code: 'no-store', message: 'another tab is loading this model: this one keeps nothing of it' });
    try {
      return await ModelStore.open(root, id, name, notice, unlock);
    } catch (error) {
      unlock?.();
      throw error;
    }
  } catch (error) {
    return without(`the browser's storage cannot be used (${error})`);
  }
}

/** Every model of the store, the one used last first. */
export async function listModels(): Promise<StoredModel[]> {
  const root = await rootFolder().catch(() => undefined);
  const models: StoredModel[] = [];
  for (const entry of root ? await entries(root) : []) {
    if (entry.kind !== 'directory') continue;
    const manifest = await readManifest(entry as Folder);
    if (!manifest) continue;
    let [bytes, total] = [0, 0];
    for (const [name, file] of Object.entries(manifest.files)) {
      if (!file) continue;
      total += file.size;
      const chunks = await chunksOf(entry as Folder, name);
      for (const index of chunks.keys()) bytes += Math.min(CHUNK, file.size - index * CHUNK);
    }
    const [name = '', weights] = manifest.name.split('#') as [string?, WeightChoice?];
    const model = { name, bytes, total, used: manifest.used };
    models.push(weights === undefined ? model : { ...model, weights });
  }
  return models.sort((a, b) => b.used - a.used);
}

/** Removes a model, in whatever form it is there; false when it is not. */
export async function removeModel(name: string): Promise<boolean> {
  const root = await rootFolder().catch(() => undefined);
  if (!root) return false;
  const forms = [undefined, ...PACKED].map((weights) => idOf(storedName(name, weights)));
  let removed = false;
  for (const id of await Promise.all(forms)) {
    const unlock = await lock(id);
    if (!unlock) throw new SelvedgeError('bad-request', `${name} is being loaded: remove it when that is done`);
    try {
      removed = (await removeEntry(root, id)) || removed;
    } finally {
      unlock();
    }
  }
  return removed;
}

/** The stored part of one model, while it is loaded. */
export class ModelStore {
  readonly #folder: Folder;
  readonly #manifest: Manifest;
  readonly #notice: (notice: Notice) => void;
  readonly #unlock: (() => void) | undefined;
  /** The sha-256 of each chunk that is there, by file. */
  readonly #chunks = new Map<string, Map<number, string>>();
  #writable: boolean;
  #saving: Promise<void> = Promise.resolve();

  private constructor(
    folder: Folder,
    manifest: Manifest,
    notice: (notice: Notice) => void,
    unlock: (() => void) | undefined,
  ) {
    this.#folder = folder;
    this.#manifest = manifest;
    this.#notice = notice;
    this.#unlock = unlock;
    this.#writable = unlock !== undefined;
  }

  static async open(
    root: Folder,
    id: string,
    name: string,
    notice: (notice: Notice) => void,
    unlock: (() => void) | undefined,
  ): Promise<ModelStore> {
    let at = await folder(root, id);
    let manifest = await readManifest(at);
    if (!manifest) {
      // Chunks of nobody knows what.
      if (unlock && (await removeEntry(root, id))) at = await folder(root, id);
      manifest = { version: VERSION, chunk: CHUNK, name, used: 0, files: {} };
    }
    manifest.used = Date.now();
    const store = new ModelStore(at, manifest, notice, unlock);
    for (const file of Object.keys(manifest.files)) store.#chunks.set(file, await chunksOf(at, file));
    await store.#save();
    return store;
  }

  /** The commit that the files are of. */
  get revision(): string | undefined {
    return this.#manifest.revision;
  }

  get gguf(): string | undefined {
    return this.#manifest.gguf;
  }

  /** Says which commit the files are of now. What another one lacked, this one may have. */
  setRevision(revision: string, gguf?: string): void {
    const { files } = this.#manifest;
    for (const [name, file] of Object.entries(files)) {
      if (file === null && revision !== this.#manifest.revision) delete files[name];
    }
    Object.assign(this.#manifest, { revision, gguf });
  }

  /** True while chunks can be stored; false after a first failure. */
  get writable(): boolean {
    return this.#writable;
  }

  /** Of a quantised model: what its original was. */
  get origin(): Identities | undefined {
    return this.#manifest.origin;
  }

  /** Of a quantised model: whether all of it is there. */
  get complete(): boolean {
    return this.#manifest.complete === true;
  }

  /** Says what the original of a quantised model is; saved with the next file. */
  setOrigin(origin: Identities): void {
    this.#manifest.origin = origin;
  }

  /** A quantised model is there as a whole. */
  async finish(origin: Identities): Promise<void> {
    this.#manifest.origin = origin;
    this.#manifest.complete = true;
    await this.save();
  }

  /** True if all chunks of a file are there. */
  isWhole(name: string): boolean {
    const file = this.#manifest.files[name];
    return file ? this.#chunks.get(name)?.size === Math.ceil(file.size / CHUNK) : false;
  }

  /** Forgets everything, as far as it may. */
  async clear(): Promise<void> {
    const names = Object.keys(this.#manifest.files);
    this.#manifest.files = {};
    delete this.#manifest.origin;
    delete this.#manifest.complete;
    this.#chunks.clear();
    await this.#try(async () => {
      await this.#save();
      for (const name of names) await removeEntry(this.#folder, encodeURIComponent(name));
    });
  }

  /** Removes the files of a model that could not be stored as a whole. */
  async wipe(): Promise<void> {
    for (const name of Object.keys(this.#manifest.files)) {
      await removeEntry(this.#folder, encodeURIComponent(name)).catch(() => {});
    }
    await removeEntry(this.#folder, MANIFEST).catch(() => {});
  }

  /** Saves the identities of the files. */
  async save(): Promise<void> {
    await this.#try(() => this.#save());
  }

  /** Identity of a file when it was stored; `null`: there was none; `undefined`: never asked for. */
  file(name: string): FileIdentity | null | undefined {
    return this.#manifest.files[name];
  }

  /** Says what a file is now. Chunks of anything else are removed. */
  async setFile(name: string, file: FileIdentity | null): Promise<void> {
    const before = this.#manifest.files[name];
    const same = file && before && before.size === file.size && before.validator === file.validator;
    // A file that no server can vouch for is as good as another.
    if (same && file.validator !== '') return;
    this.#chunks.set(name, new Map());
    this.#manifest.files[name] = file;
    await this.#try(async () => {
      await removeEntry(this.#folder, encodeURIComponent(name));
      if (file) await this.#mustFit(file.size);
      await this.#save();
    });
  }

  /** A chunk, if it is there and is what was stored. */
  async read(name: string, index: number): Promise<Uint8Array | 'damaged' | undefined> {
    const hash = this.#chunks.get(name)?.get(index);
    if (hash === undefined) return undefined;
    const bytes = await this.#chunkFolder(name)
      .then((at) => readFile(at, `${index}-${hash}`))
      .catch(() => undefined);
    if (bytes && (await sha256(bytes)) === hash) return bytes;
    this.#chunks.get(name)?.delete(index);
    // In another tab's hands it may only be unfinished.
    if (!this.#writable) return undefined;
    await this.#try(async () => void (await removeEntry(await this.#chunkFolder(name), `${index}-${hash}`)));
    return 'damaged';
  }

  /** Keeps a chunk, if that can be. */
  async write(name: string, index: number, bytes: Uint8Array): Promise<void> {
    if (!this.#writable) return;
    const file = `${index}-${await sha256(bytes)}`;
    await this.#try(async () => {
      const at = await this.#chunkFolder(name);
      try {
        await writeFile(at, file, bytes);
      } catch (error) {
        await removeEntry(at, file).catch(() => {});
        throw error;
      }
      this.#chunks.get(name)?.set(index, file.slice(file.indexOf('-') + 1));
    });
  }

  async close(): Promise<void> {
    await this.save();
    this.#unlock?.();
  }

  #chunkFolder(name: string): Promise<Folder> {
    return folder(this.#folder, encodeURIComponent(name));
  }

  /** Saves the manifest after those that are being saved. */
  #save(): Promise<void> {
    if (!this.#writable) return Promise.resolve();
    const text = new TextEncoder().encode(JSON.stringify(this.#manifest));
    const saved = this.#saving.then(() => writeFile(this.#folder, MANIFEST, text));
    this.#saving = saved.catch(() => {});
    return saved;
  }

  async #mustFit(bytes: number): Promise<void> {
    const { quota, usage } = await navigator.storage.estimate();
    if (quota !== undefined && usage !== undefined && bytes > quota - usage) {
      throw new Error(`${bytes} bytes do not fit into the ${quota - usage} that the browser still gives`);
    }
  }

  /** A store that fails is not written to any more; the load goes on without it. */
  async #try(change: () => Promise<void>): Promise<void> {
    if (!this.#writable) return;
    try {
      await change();
    } catch (error) {
      // Another write may have said it already.
      if (!this.#writable) return;
      this.#writable = false;
      this.#notice({ code: 'no-store', message: `${storingFails(error)}: the rest of the download is not kept` });
    }
  }
}

/** Names a model in the store; a quantised form of it is another model. */
export function storedName(name: string, weights?: WeightChoice): string {
  return weights === undefined ? name : `${name}#${weights}`;
}

async function readManifest(at: Folder): Promise<Manifest | undefined> {
  try {
    const bytes = await readFile(at, MANIFEST);
    const manifest = JSON.parse(new TextDecoder().decode(bytes)) as Manifest;
    return manifest.version === VERSION && manifest.chunk === CHUNK ? manifest : undefined;
  } catch {
    return undefined;
  }
}

/** The chunks of a file that are there. */
async function chunksOf(model: Folder, file: string): Promise<Map<number, string>> {
  const chunks = new Map<number, string>();
  const at = await model.getDirectoryHandle(encodeURIComponent(file)).catch(() => undefined);
  for (const { name } of at ? await entries(at) : []) {
    const [, index, hash] = /^(\d+)-([0-9a-f]{64})$/.exec(name) ?? [];
    if (index !== undefined && hash !== undefined) chunks.set(Number(index), hash);
  }
  return chunks;
}
