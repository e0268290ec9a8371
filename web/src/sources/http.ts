/**
 * Files in a folder on a server, by range requests. What is cut goes on where it ended; servers that know no ranges
 * are read through; pages in place of files are no files.
 */

import { SelvedgeError, throwIfAborted } from '../errors.js';
import { pause } from '../pause.js';

/** Data that tells one version of a file from another. */
export interface FileIdentity {
  readonly size: number;
  /** The server's `ETag`, or else its `Last-Modified`; empty where the browser is shown neither. */
  readonly validator: string;
}

/** Facts about a file, from a request for its beginning. */
export interface Found {
  readonly identity: FileIdentity;
  /** True if the server gives ranges of it. */
  readonly ranges: boolean;
  /** All of it, where it is small. */
  readonly whole?: Uint8Array;
}

/** Origin of files on the network. */
export interface Origin {
  /** The GGUF file that is the model, where one was named. */
  readonly gguf?: string | undefined;
  describe(name: string): string;
  /** Looks for a file; `null` when there is none. `stored`: there is one in the store, so little patience is needed. */
  find(name: string, stored: boolean): Promise<Found | null>;
  /**
   * The bytes from `start` up to `end`, in whatever pieces they come. Of a server that knows no ranges, more than that
   * may be given: the pieces say where they lie.
   */
  fetch(name: string, file: FileIdentity, start: number, end: number): AsyncIterable<Piece>;
}

/** Consecutive bytes of a file. */
export interface Piece {
  readonly at: number;
  readonly bytes: Uint8Array;
}

export interface HttpOptions {
  readonly signal?: AbortSignal | undefined;
  readonly headers?: Record<string, string>;
  readonly gguf?: string | undefined;
  /** Ends every address. */
  readonly query?: string;
  /** Told how many bytes came. */
  readonly came: (bytes: number) => void;
}

/** File in which sentence-transformers keeps how embeddings are pooled: the only one in a folder of its own. */
export const POOLING = '1_Pooling/config.json';
/** Failures in a row, without a byte in between, after which a server is given up. */
const MOST_FAILURES = 6;
/** Milliseconds before the second attempt; twice as many before each one after. */
const FIRST_WAIT = 250;
/** Bytes asked for when a file is looked for. */
const PROBE = 64 << 10;
/** Bytes up to which a file is read at once when the server gives no parts of it. */
const SMALL = 32 << 20;
/** Milliseconds without a byte after which a connection counts as dead. */
const SILENCE = 30_000;

/** A failure that is worth another attempt. */
class Interrupted extends Error {}

export class HttpOrigin implements Origin {
  readonly gguf: string | undefined;
  readonly #base: string;
  readonly #options: HttpOptions;

  constructor(base: string, options: HttpOptions) {
    this.#base = base;
    this.#options = options;
    this.gguf = options.gguf;
  }

  describe(name: string): string {
    return this.#base + name;
  }

  find(name: string, stored: boolean): Promise<Found | null> {
    return this.#patiently(name, stored ? 2 : MOST_FAILURES, async () => {
      const response = await this.#request(name, `bytes=0-${PROBE - 1}`);
      const about = validator(response);
      try {
        if (isMissing(response)) return null;
        if (response.status === 416) return empty(about);
        mustBeSent(response);
        if (isPage(response)) return null;
        const ranges = response.status === 206;
        const said = totalSize(response);
        const size = said ?? (ranges ? await this.#sizeByHead(name) : undefined);
        // Of a compressed body the length is known when it is there: such files are small.
        const read = size === undefined || size <= (ranges ? PROBE : SMALL);
        if (!read) return { identity: { size, validator: about }, ranges };
        const whole = await collect(body(response), this.#options.came);
        if (said !== undefined && whole.length < said) throw new Interrupted('the connection ended early');
        return { identity: { size: whole.length, validator: about }, ranges, whole };
      } finally {
        await response.body?.cancel().catch(() => {});
      }
    });
  }

  async *fetch(name: string, file: FileIdentity, start: number, end: number): AsyncGenerator<Piece> {
    let at = start;
    let failures = 0;
    while (at < end) {
      try {
        for await (const piece of this.#attempt(name, file, at, end)) {
          failures = 0;
          at = Math.max(at, piece.at + piece.bytes.length);
          yield piece;
        }
        if (at < end) throw new Interrupted(`the connection ended ${end - at} bytes early`);
      } catch (error) {
        failures = await this.#after(error, failures, name);
      }
    }
  }

  /** One request's bytes, as far as they come. */
  async *#attempt(name: string, file: FileIdentity, start: number, end: number): AsyncGenerator<Piece> {
    const response = await this.#request(name, `bytes=${start}-${end - 1}`);
    try {
      mustBeSent(response);
      if (isPage(response)) throw new Interrupted('the server sends a page in place of the file');
      this.#mustBeTheSame(name, file, response);
      // A server that knows no ranges sends all of it.
      let at = response.status === 206 ? (rangeStart(response) ?? start) : 0;
      const whole = response.status === 206 ? end : file.size;
      for await (const bytes of body(response)) {
        this.#options.came(bytes.length);
        if (at + bytes.length > whole) throw this.#changed(name, `it sends more than ${whole} bytes`);
        yield { at, bytes };
        at += bytes.length;
      }
    } finally {
      await response.body?.cancel().catch(() => {});
    }
  }

  async #request(name: string, range: string | null, method = 'GET'): Promise<Response> {
    const { signal, headers, query = '' } = this.#options;
    // A slash in any other name is escaped: none that a checkpoint mentions leads out of its folder.
    const path = name === POOLING ? name : encodeURIComponent(name);
    const silence = new AbortController();
    const timer = setTimeout(() => silence.abort(), SILENCE);
    try {
      return await fetch(this.#base + path + query, {
        method,
        headers: range === null ? { ...headers } : { ...headers, range },
        // The store keeps what is worth keeping, with checks that the browser's cache does not make.
        cache: 'no-store',
        signal: signal ? AbortSignal.any([signal, silence.signal]) : silence.signal,
      });
    } catch (error) {
      throwIfAborted(signal);
      throw new Interrupted(silence.signal.aborted ? 'no answer' : String(error));
    } finally {
      clearTimeout(timer);
    }
  }

  async #sizeByHead(name: string): Promise<number> {
    const response = await this.#request(name, null, 'HEAD');
    mustBeSent(response);
    const length = response.headers.get('content-length');
    if (length !== null) return Number(length);
    throw new SelvedgeError(
      'network',
      `${this.describe(name)}: the server tells no size; let it send (and expose) Content-Length or Content-Range`,
    );
  }

  #mustBeTheSame(name: string, file: FileIdentity, response: Response): void {
    const [size, now] = [totalSize(response), validator(response)];
    if (response.status === 206 && size !== undefined && size !== file.size) {
      throw this.#changed(name, `it had ${file.size} bytes and has ${size}`);
    }
    if (now !== '' && file.validator !== '' && now !== file.validator) {
      throw this.#changed(name, `it was ${file.validator} and is ${now}`);
    }
  }

  #changed(name: string, how: string): ChangedError {
    return new ChangedError(`${this.describe(name)} changed on the server while it was read (${how}); load it again`);
  }

  async #patiently<T>(name: string, most: number, attempt: () => Promise<T>): Promise<T> {
    for (let failures = 0; ; ) {
      try {
        return await attempt();
      } catch (error) {
        failures = await this.#after(error, failures, name, most);
      }
    }
  }

  /** Waits after a failure; throws what is not worth another attempt. */
  async #after(error: unknown, failures: number, name: string, most = MOST_FAILURES): Promise<number> {
    if (!(error instanceof Interrupted)) throw error;
    if (failures + 1 >= most) {
      const text = `${this.describe(name)} cannot be fetched: ${error.message} (asked ${most} times)`;
      throw new SelvedgeError('network', text, { cause: error });
    }
    await pause(FIRST_WAIT * 2 ** failures, this.#options.signal);
    return failures + 1;
  }
}

function empty(validator: string): Found {
  return { identity: { size: 0, validator }, ranges: true, whole: new Uint8Array() };
}

async function collect(pieces: AsyncIterable<Uint8Array>, came: (bytes: number) => void): Promise<Uint8Array> {
  const held: Uint8Array<ArrayBuffer>[] = [];
  for await (const piece of pieces) {
    came(piece.length);
    held.push(piece as Uint8Array<ArrayBuffer>);
  }
  return new Uint8Array(await new Blob(held).arrayBuffer());
}

/** A file that is not what it was when the load began. */
export class ChangedError extends SelvedgeError {
  constructor(message: string) {
    super('network', message);
  }
}

function isMissing({ status }: Response): boolean {
  // Stores of objects that may not be listed say 403 for what is not there.
  return status === 404 || status === 410 || status === 403;
}

/** Servers of one-page applications answer with their page when there is no such file. */
function isPage(response: Response): boolean {
  return /^text\/html\b/i.test(response.headers.get('content-type') ?? '');
}

function mustBeSent({ ok, status, statusText, url }: Response): void {
  if (ok) return;
  const words = `the server answers ${status} ${statusText}`.trim();
  if (status === 408 || status === 425 || status === 429 || status >= 500) throw new Interrupted(words);
  throw new SelvedgeError(status === 404 || status === 410 ? 'not-found' : 'network', `${url}: ${words}`);
}

/** Weak and strong tags differ in front only; both change with the file. */
function validator({ headers }: Response): string {
  return headers.get('etag')?.replace(/^W\//, '') ?? headers.get('last-modified') ?? '';
}

function totalSize(response: Response): number | undefined {
  const { headers, status } = response;
  const total = status === 206 ? headers.get('content-range')?.split('/')[1] : headers.get('content-length');
  // A compressed body is longer than its header says.
  if (total === undefined || total === null || headers.has('content-encoding')) return undefined;
  return /^\d+$/.test(total) ? Number(total) : undefined;
}

function rangeStart({ headers }: Response): number | undefined {
  const start = /^bytes (\d+)-/.exec(headers.get('content-range') ?? '')?.[1];
  return start === undefined ? undefined : Number(start);
}

/** The pieces of a body; a cut or a long silence is an {@link Interrupted}. */
async function* body(response: Response): AsyncGenerator<Uint8Array> {
  const reader = response.body?.getReader();
  if (!reader) return;
  try {
    for (;;) {
      let timer: ReturnType<typeof setTimeout> | undefined;
      const silence = new Promise<never>((_, reject) => {
        timer = setTimeout(() => reject(new Interrupted('the connection went silent')), SILENCE);
      });
      const { done, value } = await Promise.race([reader.read(), silence])
        .catch((error: unknown) => {
          throw error instanceof Interrupted ? error : new Interrupted(String(error));
        })
        .finally(() => clearTimeout(timer));
      if (done) return;
      yield value;
    }
  } finally {
    reader.cancel().catch(() => {});
    reader.releaseLock();
  }
}
