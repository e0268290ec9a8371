/**
 * The memory of conversations in the browser's store, of all models in one folder:
 *
 * ```text
 * selvedge/states/<hash of model and text>.state     a snapshot, see `src/state/snapshot` of the library
 * selvedge/forms/forms.json                          choices of kernels, see `src/backend/webgpu/kept.rs`
 * ```
 *
 * A state has a checksum over all its bytes, and the module checks it. Tabs share the folders.
 */

import { entries, folder, locked, removeEntry, rootFolder, storingFails, writeFile, type Folder } from './opfs.js';

const STATES = 'states';
const NAME = /^[0-9a-f]{32}\.state$/;
/** Most bytes of all states where nobody says otherwise, and most of what the browser gives. */
const MOST = 2 * 2 ** 30;
const SHARE = 1 / 4;

/** Bytes of the browser's storage that states may take. */
export async function stateLimit(asked: number | undefined): Promise<number> {
  if (asked !== undefined) return asked;
  const { quota } = await navigator.storage.estimate();
  return Math.min(MOST, Math.floor((quota ?? Infinity) * SHARE));
}

/** A store as the module wants it (`src/wasm/states.rs`). */
export class StateFolder {
  readonly #folder: Folder;

  private constructor(folder: Folder) {
    this.#folder = folder;
  }

  /** `undefined` where a page has no storage. */
  static async open(name = STATES): Promise<StateFolder | undefined> {
    const root = await rootFolder();
    return root && new StateFolder(await folder(root, name));
  }

  /** Names and sizes as JSON, the one written longest ago first. */
  list(): Promise<string> {
    return locked(STATES, 'exclusive', async () => {
      const files = await oldestFirst(this.#folder);
      return JSON.stringify(files.map(({ name, size }) => [name, size]));
    });
  }

  read(name: string, start: number, end: number): Promise<Uint8Array> {
    return locked(STATES, 'shared', async () => {
      const file = await (await this.#folder.getFileHandle(name)).getFile();
      return new Uint8Array(await file.slice(start, Math.min(end, file.size)).arrayBuffer());
    });
  }

  write(name: string, bytes: Uint8Array): Promise<void> {
    return locked(STATES, 'exclusive', async () => {
      try {
        await writeFile(this.#folder, name, bytes);
      } catch (error) {
        await removeEntry(this.#folder, name).catch(() => false);
        throw new Error(storingFails(error), { cause: error });
      }
    });
  }

  async remove(name: string): Promise<void> {
    await locked(STATES, 'exclusive', () => removeEntry(this.#folder, name));
  }

  /** The time of a file is that of its writing. States that others go on from stay as long as those do. */
  async touch(_name: string): Promise<void> {}
}

/** The states of a folder that is locked, the one written longest ago first. */
async function oldestFirst(at: Folder): Promise<File[]> {
  const files: File[] = [];
  for (const entry of await entries(at)) {
    const file = NAME.test(entry.name) && (await (entry as FileSystemFileHandle).getFile());
    // What a tab left that was closed amid writing: while the folder is locked, nobody writes.
    if (!file || file.size === 0) await removeEntry(at, entry.name).catch(() => false);
    else files.push(file);
  }
  return files.sort((a, b) => a.lastModified - b.lastModified);
}

/** Removes the state written longest ago, to make room for what cannot be computed again; false where there is none. */
export async function dropOldestState(): Promise<boolean> {
  const root = await rootFolder();
  if (!root) return false;
  const at = await folder(root, STATES);
  return locked(STATES, 'exclusive', async () => {
    const [oldest] = await oldestFirst(at);
    return oldest !== undefined && removeEntry(at, oldest.name);
  });
}

/** Removes all states. */
export async function forgetStates(): Promise<void> {
  const root = await rootFolder().catch(() => undefined);
  if (!root) return;
  const at = await folder(root, STATES);
  await locked(STATES, 'exclusive', async () => {
    for (const { name } of await entries(at)) await removeEntry(at, name);
  });
}
