/** The browser's private file system: whole small files in folders, all of this package in one of its own. */

export type Folder = FileSystemDirectoryHandle;

/** Only in workers, and so not among the types of a page. */
interface SyncAccessHandle {
  truncate(size: number): void;
  write(bytes: Uint8Array, options: { at: number }): number;
  flush(): void;
  close(): void;
}

/** What workers of browsers without `createWritable` have, which is not among the types of a page. */
interface OlderFileHandle extends FileSystemFileHandle {
  createSyncAccessHandle?: () => Promise<SyncAccessHandle>;
  move?: (name: string) => Promise<void>;
}

const ROOT = 'selvedge';
/** End of the name of a file that is being written. */
const PART = '.part';
/** Times that a file is opened which is replaced meanwhile. */
const MOST_TRIES = 8;

/** Why there is no store, for people. */
export const NO_STORAGE = 'this browser gives the page no storage of its own';

/** The folder of this package; `undefined` where a page has no storage. */
export async function rootFolder(): Promise<Folder | undefined> {
  const { storage, locks } = (globalThis.navigator ?? {}) as Partial<Navigator>;
  if (typeof storage?.getDirectory !== 'function' || !locks || !globalThis.crypto?.subtle) return undefined;
  // Without this a browser may throw the store away when its disk fills up. Not known to workers.
  void storage.persist?.().catch(() => {});
  return folder(await storage.getDirectory(), ROOT);
}

/** Takes something of the store for this tab alone; gives what gives it back, `undefined` when another has it. */
export function lock(id: string): Promise<(() => void) | undefined> {
  return new Promise((resolve, reject) => {
    const held = navigator.locks.request(`${ROOT}/${id}`, { ifAvailable: true }, (lock) => {
      if (!lock) return resolve(undefined);
      return new Promise<void>((release) => resolve(release));
    });
    held.catch(reject);
  });
}

/** Does something while no other tab does anything with `id`, unless all of them share it. */
export function locked<T>(id: string, mode: LockMode, act: () => Promise<T>): Promise<T> {
  return navigator.locks.request(`${ROOT}/${id}`, { mode }, act) as Promise<T>;
}

/** A name of any text as the name of a file. */
export async function idOf(name: string): Promise<string> {
  return (await sha256(new TextEncoder().encode(name))).slice(0, 32);
}

export async function sha256(bytes: Uint8Array): Promise<string> {
  const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', bytes as Uint8Array<ArrayBuffer>));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, '0')).join('');
}

/** Why storing fails, for people. */
export function storingFails(error: unknown): string {
  const full = error instanceof DOMException && error.name === 'QuotaExceededError';
  return full ? 'the browser gives the page no more storage' : `storing fails (${error})`;
}

/** A folder in a folder, made where there is none. */
export function folder(parent: Folder, name: string): Promise<Folder> {
  return parent.getDirectoryHandle(name, { create: true });
}

export async function entries(at: Folder): Promise<FileSystemHandle[]> {
  const found: FileSystemHandle[] = [];
  for await (const entry of at.values()) found.push(entry);
  return found;
}

/** Removes a file, or a folder with all that is in it; false when it is not there. */
export async function removeEntry(parent: Folder, name: string): Promise<boolean> {
  try {
    await parent.removeEntry(name, { recursive: true });
    return true;
  } catch (error) {
    if (error instanceof DOMException && error.name === 'NotFoundError') return false;
    throw error;
  }
}

/** Reads a whole file, as it was before or after what is written to it meanwhile. */
export async function readFile(at: Folder, name: string): Promise<Uint8Array> {
  for (let tries = 1; ; tries += 1) {
    try {
      const file = await (await at.getFileHandle(name)).getFile();
      return new Uint8Array(await file.arrayBuffer());
    } catch (error) {
      // While a file is replaced it cannot be read, and for a moment not be found.
      const replaced = error instanceof DOMException && /^Not(Readable|Found)Error$/.test(error.name);
      if (!replaced || tries === MOST_TRIES) throw error;
    }
  }
}

/** Writes a whole file: all or nothing where the browser can. */
export async function writeFile(at: Folder, name: string, bytes: Uint8Array): Promise<void> {
  if (typeof FileSystemFileHandle.prototype.createWritable === 'function') {
    const handle = await at.getFileHandle(name, { create: true });
    const stream = await handle.createWritable();
    try {
      await stream.write(bytes as Uint8Array<ArrayBuffer>);
    } catch (error) {
      await stream.abort().catch(() => {});
      throw error;
    }
    await stream.close();
    return;
  }
  // Older browsers write in place: under another name first, so that what was there stays until all is written.
  const part = (await at.getFileHandle(`${name}${PART}`, { create: true })) as OlderFileHandle;
  if (!part.createSyncAccessHandle || !part.move) throw new Error('this browser writes files in workers only');
  const access = await part.createSyncAccessHandle();
  try {
    access.truncate(0);
    if (access.write(bytes, { at: 0 }) < bytes.length) throw new DOMException('no space left', 'QuotaExceededError');
    access.flush();
  } finally {
    access.close();
  }
  await part.move(name);
}
