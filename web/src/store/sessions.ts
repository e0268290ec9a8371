/**
 * Conversations in the browser's store:
 *
 * ```text
 * selvedge/sessions/<hash of the id>.json     id, model, messages
 * ```
 */

import { SelvedgeError } from '../errors.js';
import type { OpenedSession, Said } from '../reply.js';
import type { Notice, StoredSession } from '../types.js';
import { dropOldestState } from './states.js';
import {
  NO_STORAGE,
  entries,
  folder,
  idOf,
  lock,
  readFile,
  removeEntry,
  rootFolder,
  storingFails,
  writeFile,
  type Folder,
} from './opfs.js';

const SESSIONS = 'sessions';
const VERSION = 1;

/** Names of conversations' files. What a browser writes lies beside them under other names until it is whole. */
const NAME = /^[0-9a-f]{32}\.json$/;

interface Stored extends StoredSession, Said {
  version: number;
}

/** Times that a state makes room for a conversation, until the storage is full for good. */
const MOST_DROPPED = 8;

/** Every conversation, the one changed last first. */
export async function listSessions(): Promise<StoredSession[]> {
  const at = await sessionFolder().catch(() => undefined);
  const found: StoredSession[] = [];
  for (const { name } of at ? await entries(at) : []) {
    const stored = at && NAME.test(name) && (await read(at, name).catch(() => undefined));
    if (stored) found.push({ id: stored.id, model: stored.model, messages: stored.messages, used: stored.used });
  }
  return found.sort((a, b) => b.used - a.used);
}

/** Removes a conversation; false when it is not there. */
export async function removeSession(id: string): Promise<boolean> {
  const at = await sessionFolder().catch(() => undefined);
  if (!at) return false;
  const name = await fileOf(id);
  const unlock = await lock(lockOf(name));
  if (!unlock) throw new SelvedgeError('bad-request', `the conversation \`${id}\` is open: close() it first`);
  try {
    return await removeEntry(at, name);
  } finally {
    unlock();
  }
}

/** One conversation of the store, while it is open. */
export class SessionFile implements OpenedSession {
  /** What was there when it was opened. */
  readonly stored: Said | undefined;
  readonly #at: Folder | undefined;
  readonly #name: string;
  readonly #head: { id: string; model: string };
  readonly #notice: (notice: Notice) => void;
  readonly #unlock: (() => void) | undefined;
  #open: boolean;
  #elsewhere = false;
  /** A write failed, and that was told. */
  #told = false;
  /** The last write, and what is still to be written. */
  #writing: Promise<void> = Promise.resolve();
  #next: Said | undefined;

  private constructor(
    at: Folder | undefined,
    name: string,
    head: { id: string; model: string },
    stored: Said | undefined,
    notice: (notice: Notice) => void,
    unlock: (() => void) | undefined,
  ) {
    this.#at = at;
    this.#name = name;
    this.#head = head;
    this.stored = stored;
    this.#notice = notice;
    this.#unlock = unlock;
    this.#open = unlock !== undefined;
  }

  /** Takes a conversation for this tab alone. Where that cannot be, a notice says that it is not kept. */
  static async open(id: string, model: string, notice: (notice: Notice) => void): Promise<SessionFile> {
    const head = { id, model };
    const without = (why: string, stored?: Said) => {
      notice({ code: 'not-kept', message: `${why}: what is said in the conversation \`${id}\` is not kept` });
      return new SessionFile(undefined, '', head, stored, notice, undefined);
    };
    try {
      const at = await sessionFolder();
      if (!at) return without(NO_STORAGE);
      const name = await fileOf(id);
      const unlock = await lock(lockOf(name));
      try {
        const stored = await read(at, name);
        if (!unlock) {
          const file = without('it is open elsewhere, in another tab or another engine', stored);
          file.#elsewhere = true;
          return file;
        }
        return new SessionFile(at, name, head, stored, notice, unlock);
      } catch (error) {
        // It is not written over.
        unlock?.();
        throw error;
      }
    } catch (error) {
      return without(`the browser's storage cannot be used (${error})`);
    }
  }

  get kept(): boolean | 'elsewhere' {
    return this.#open || (this.#elsewhere && 'elsewhere');
  }

  /** Writes the conversation as it is now; of several while a write is under way, the last. */
  save(said: Said): Promise<void> {
    this.#next = said;
    this.#writing = this.#writing.then(() => this.#write());
    return this.#writing;
  }

  async close(): Promise<void> {
    await this.#writing;
    this.#open = false;
    this.#unlock?.();
  }

  /** Writes the file; where the storage is full, at the cost of what is remembered. */
  async #put(at: Folder, bytes: Uint8Array): Promise<void> {
    for (let dropped = 0; ; dropped += 1) {
      try {
        return await writeFile(at, this.#name, bytes);
      } catch (error) {
        const full = error instanceof DOMException && error.name === 'QuotaExceededError';
        if (!full || dropped === MOST_DROPPED || !(await dropOldestState())) throw error;
      }
    }
  }

  async #write(): Promise<void> {
    const said = this.#next;
    this.#next = undefined;
    if (!said || !this.#at || !this.#open) return;
    const stored: Stored = { version: VERSION, ...this.#head, ...said, used: Date.now() };
    try {
      await this.#put(this.#at, new TextEncoder().encode(JSON.stringify(stored)));
      this.#told = false;
    } catch (error) {
      // What was stored before is there still; the next message may find room.
      if (this.#told) return;
      this.#told = true;
      const message = `${storingFails(error)}: what is said in the conversation \`${this.#head.id}\` is not kept`;
      this.#notice({ code: 'not-kept', message });
    }
  }
}

/** The conversations of the store that an engine has open. */
export class SessionFiles {
  readonly #model: string;
  readonly #notice: (notice: Notice) => void;
  readonly #files = new Map<string, Promise<SessionFile>>();

  constructor(model: string, notice: (notice: Notice) => void) {
    this.#model = model;
    this.#notice = notice;
  }

  async open(id: string): Promise<OpenedSession> {
    const opening = SessionFile.open(id, this.#model, this.#notice);
    this.#files.set(id, opening);
    const { stored, kept } = await opening;
    return { stored, kept };
  }

  async save(id: string, said: Said): Promise<void> {
    const file = await this.#files.get(id);
    await file?.save(said);
  }

  async close(id: string): Promise<void> {
    const file = await this.#files.get(id);
    this.#files.delete(id);
    await file?.close();
  }

  async closeAll(): Promise<void> {
    for (const file of this.#files.values()) await (await file).close();
  }
}

async function sessionFolder(): Promise<Folder | undefined> {
  const root = await rootFolder();
  return root && folder(root, SESSIONS);
}

async function fileOf(id: string): Promise<string> {
  return `${await idOf(id)}.json`;
}

function lockOf(name: string): string {
  return `${SESSIONS}/${name}`;
}

/** A conversation; `undefined` where there is none. Throws where there is one that cannot be read. */
async function read(at: Folder, name: string): Promise<Stored | undefined> {
  let bytes: Uint8Array;
  try {
    bytes = await readFile(at, name);
  } catch (error) {
    if (error instanceof DOMException && error.name === 'NotFoundError') return undefined;
    throw error;
  }
  // The first write of it was cut short.
  if (bytes.length === 0) return undefined;
  const stored = JSON.parse(new TextDecoder().decode(bytes)) as Stored;
  if (stored.version > VERSION) throw new Error('a later version of this package stored the conversation');
  const sound = stored.version === VERSION && typeof stored.id === 'string' && Array.isArray(stored.messages);
  if (!sound) throw new Error('what is stored is no conversation');
  return { ...stored, told: stored.told ?? {} };
}
