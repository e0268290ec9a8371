/**
 * Files over the network as a source: in chunks, which the store keeps where there is one, with the next chunk on its
 * way while one is used.
 */

import { SelvedgeError, throwIfAborted } from '../errors.js';
import { CHUNK, type Identities, type ModelStore } from '../store/models.js';
import type { Notice, Source } from '../types.js';
import { ChangedError, type FileIdentity, type Found, type Origin, type Piece } from './http.js';

/** Chunks held in memory. */
const HELD = 10;
/** Chunks fetched ahead of the one that is asked for. */
const AHEAD = 2;

export class RemoteSource implements Source {
  readonly gguf: string | undefined;
  readonly #origin: Origin;
  readonly #store: ModelStore | undefined;
  readonly #notice: (notice: Notice) => void;
  readonly #files = new Map<string, Promise<Found | null>>();
  readonly #known = new Map<string, FileIdentity | null>();
  /** Chunks in memory or on their way, the one used longest ago first. */
  readonly #chunks = new Map<string, Promise<Uint8Array>>();
  /** Files of servers that give no parts of them, read through once; in chunks. */
  readonly #swept = new Map<string, Promise<Blob[]>>();

  constructor(origin: Origin, store: ModelStore | undefined, notice: (notice: Notice) => void) {
    this.gguf = origin.gguf;
    this.#origin = origin;
    this.#store = store;
    this.#notice = notice;
  }

  describe(name: string): string {
    return this.#origin.describe(name);
  }

  async size(name: string): Promise<number | null> {
    return (await this.#file(name))?.size ?? null;
  }

  async read(name: string, start: number, end: number): Promise<Uint8Array> {
    const file = await this.#file(name);
    if (!file || end > file.size) {
      throw new SelvedgeError('corrupt-weights', `${this.describe(name)} has no bytes ${start} to ${end}`);
    }
    const bytes = new Uint8Array(end - start);
    const last = Math.ceil(end / CHUNK);
    for (let index = Math.floor(start / CHUNK); index < last; index += 1) {
      const chunk = await this.#chunk(name, file, index);
      const at = index * CHUNK;
      const [from, to] = [Math.max(start, at), Math.min(end, at + chunk.length)];
      bytes.set(chunk.subarray(from - at, to - at), from - start);
    }
    return bytes;
  }

  /** Identity of every file that was asked for. */
  identities(): Identities {
    return Object.fromEntries(this.#known);
  }

  /** True if files have not changed. Without a network, they count as unchanged. */
  async stillIs(known: Identities): Promise<boolean> {
    for (const [name, before] of Object.entries(known)) {
      try {
        const now = (await this.#origin.find(name, true))?.identity ?? null;
        const same = now && before ? now.size === before.size && now.validator === before.validator : now === before;
        if (!same || now?.validator === '') return false;
      } catch (error) {
        if (!(error instanceof SelvedgeError) || error.code !== 'network') throw error;
      }
    }
    return true;
  }

  /** The same, which stops when it is asked to. */
  stoppable(signal: AbortSignal | undefined): Source {
    const go = <T>(value: T): T => {
      throwIfAborted(signal);
      return value;
    };
    return {
      gguf: this.gguf,
      describe: (name) => this.describe(name),
      size: async (name) => go(await this.size(name)),
      read: async (name, start, end) => go(await this.read(name, start, end)),
    };
  }

  /** The same files, kept in a store from now on. */
  keptIn(store: ModelStore): RemoteSource {
    return new RemoteSource(this.#origin, store, this.#notice);
  }

  async close(): Promise<void> {
    await Promise.allSettled(this.#chunks.values());
    this.#chunks.clear();
  }

  async #file(name: string): Promise<FileIdentity | null> {
    const known = this.#files.get(name) ?? this.#find(name);
    this.#files.set(name, known);
    return (await known)?.identity ?? null;
  }

  /** Holds what the store has to what the server says; without a network, the store is believed. */
  async #find(name: string): Promise<Found | null> {
    const stored = this.#store?.file(name);
    try {
      const found = await this.#origin.find(name, stored !== undefined);
      await this.#store?.setFile(name, found?.identity ?? null);
      this.#known.set(name, found?.identity ?? null);
      return found;
    } catch (error) {
      const unreachable = error instanceof SelvedgeError && error.code === 'network';
      if (!unreachable || stored === undefined) throw error;
      return stored && { identity: stored, ranges: true };
    }
  }

  async #chunk(name: string, file: FileIdentity, index: number): Promise<Uint8Array> {
    const chunk = this.#hold(name, file, index);
    for (let next = index + 1; next <= index + AHEAD && next * CHUNK < file.size; next += 1) {
      this.#hold(name, file, next).catch(() => {});
    }
    return chunk;
  }

  /** A chunk, in memory from now on for a while. */
  #hold(name: string, file: FileIdentity, index: number): Promise<Uint8Array> {
    const key = `${index} ${name}`;
    const held = this.#chunks.get(key);
    if (held) this.#chunks.delete(key);
    const chunk = held ?? this.#get(name, file, index);
    this.#chunks.set(key, chunk);
    if (!held) {
      chunk.catch(() => this.#chunks.delete(key));
      for (const oldest of this.#chunks.keys()) {
        if (this.#chunks.size <= HELD) break;
        this.#chunks.delete(oldest);
      }
    }
    return chunk;
  }

  async #get(name: string, file: FileIdentity, index: number): Promise<Uint8Array> {
    const stored = await this.#store?.read(name, index);
    const start = index * CHUNK;
    const size = Math.min(CHUNK, file.size - start);
    if (stored === 'damaged' || (stored && stored.length !== size)) {
      this.#notice({ code: 'repaired', message: `a damaged piece of ${name} in the store is fetched again` });
    } else if (stored) {
      return stored;
    }
    const found = await this.#files.get(name);
    const bytes = await this.#download(name, file, found, start, size);
    await this.#store?.write(name, index, bytes);
    return bytes;
  }

  async #download(
    name: string,
    file: FileIdentity,
    found: Found | null | undefined,
    start: number,
    size: number,
  ): Promise<Uint8Array> {
    if (found?.whole) return found.whole.slice(start, start + size);
    if (found && !found.ranges) return this.#fromSweep(name, file, start / CHUNK);
    const bytes = new Uint8Array(size);
    for await (const piece of this.#pieces(name, file, start, start + size)) {
      bytes.set(piece.bytes, piece.at - start);
    }
    return bytes;
  }

  /** The pieces of a range, in order and without overlap. */
  async *#pieces(name: string, file: FileIdentity, start: number, end: number): AsyncGenerator<Piece> {
    let at = start;
    try {
      for await (const piece of this.#origin.fetch(name, file, start, end)) {
        const to = Math.min(piece.at + piece.bytes.length, end);
        if (to <= at) continue;
        yield { at, bytes: piece.bytes.subarray(at - piece.at, to - piece.at) };
        at = to;
      }
    } catch (error) {
      // Pieces of two versions must never meet in the store.
      if (error instanceof ChangedError) await this.#store?.setFile(name, null);
      throw error;
    }
  }

  async #fromSweep(name: string, file: FileIdentity, index: number): Promise<Uint8Array> {
    const swept = this.#swept.get(name) ?? this.#sweep(name, file);
    this.#swept.set(name, swept);
    const chunk = (await swept)[index];
    if (!chunk) throw new SelvedgeError('internal', `${this.describe(name)} lost its chunk ${index}`);
    return new Uint8Array(await chunk.arrayBuffer());
  }

  /** Reads a whole file once. Its chunks are blobs, which browsers may put on disk. */
  async #sweep(name: string, file: FileIdentity): Promise<Blob[]> {
    const chunks: Blob[] = [];
    let bytes = new Uint8Array(Math.min(CHUNK, file.size));
    let filled = 0;
    for await (const piece of this.#pieces(name, file, 0, file.size)) {
      for (let used = 0; used < piece.bytes.length; ) {
        const part = piece.bytes.subarray(used, used + bytes.length - filled);
        bytes.set(part, filled);
        filled += part.length;
        used += part.length;
        if (filled < bytes.length) continue;
        chunks.push(new Blob([bytes]));
        bytes = new Uint8Array(Math.min(CHUNK, file.size - chunks.length * CHUNK));
        filled = 0;
      }
    }
    return chunks;
  }
}
