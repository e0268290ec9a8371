/** Requests to a server with OpenAI's interface, and its refusals as errors of this package. */

import { SelvedgeError, throwIfAborted, type ErrorCode } from '../errors.js';
import { pause } from '../pause.js';
import type { ConnectOptions } from '../types.js';

/** Milliseconds before the second attempt; twice as many before each one after. */
const FIRST_WAIT = 500;
/** Most seconds for which a server may put an attempt off; one that asks for more is busy. */
const LONGEST_WAIT = 20;
/** Most characters of a refusal's text that are told. */
const MOST_WORDS = 2000;

/** An error as OpenAI's interface has it. */
interface ErrorBody {
  error?: { message?: unknown; code?: unknown } | string;
}

export class Client {
  /** Address of the interface, without a slash at its end: `https://example.com/v1`. */
  readonly address: string;
  readonly #headers: Readonly<Record<string, string>>;
  readonly #retries: number;

  constructor(url: string | URL, { apiKey, headers, retries = 2 }: ConnectOptions) {
    this.address = base(url);
    this.#headers = { ...(apiKey === undefined ? {} : { authorization: `Bearer ${apiKey}` }), ...headers };
    this.#retries = retries;
  }

  /** An answer with a status of success; anything else is an error. */
  async request(path: string, body: object | undefined, signal: AbortSignal | undefined): Promise<Response> {
    for (let attempt = 0; ; attempt += 1) {
      const refused = await this.#attempt(path, body, signal);
      if (refused instanceof Response) return refused;
      const wait = refused.retryAfter ?? (FIRST_WAIT / 1000) * 2 ** attempt;
      if (attempt >= this.#retries || !worthAnother(refused) || wait > LONGEST_WAIT) throw refused;
      await pause(wait * 1000, signal);
    }
  }

  async #attempt(path: string, body: object | undefined, signal: AbortSignal | undefined): Promise<Response | SelvedgeError> {
    throwIfAborted(signal);
    const sent = body && { method: 'POST', body: JSON.stringify(body) };
    const headers = { ...(body && { 'content-type': 'application/json' }), ...this.#headers };
    let response: Response;
    try {
      response = await fetch(this.address + path, { ...sent, headers, signal: signal ?? null });
    } catch (cause) {
      throwIfAborted(signal);
      const hint = 'is it running, and does it let this page ask (CORS)?';
      return new SelvedgeError('network', `the server at ${this.address} cannot be reached (${words(cause)}); ${hint}`, { cause });
    }
    if (response.ok) return response;
    const text = await response.text().catch(() => '');
    throwIfAborted(signal);
    return refusal(this.address, response, text);
  }

  /** The JSON of an answer. */
  async json<T>(path: string, body: object | undefined, signal: AbortSignal | undefined): Promise<T> {
    const response = await this.request(path, body, signal);
    let text: string;
    try {
      text = await response.text();
    } catch (cause) {
      throwIfAborted(signal);
      throw new SelvedgeError('interrupted', `the answer of ${this.address} broke off (${words(cause)})`, { cause });
    }
    try {
      return JSON.parse(text) as T;
    } catch (cause) {
      throw notTheInterface(this.address + path, text, cause);
    }
  }
}

/** An answer that is not of OpenAI's interface. */
export function notTheInterface(address: string, text: string, cause?: unknown): SelvedgeError {
  const start = text.slice(0, 80).replace(/\s+/g, ' ');
  return new SelvedgeError('network', `${address} does not answer as OpenAI's interface does: ${start}`, { cause });
}

/** The error that a server put into its answer, or into a stream. */
export function told(body: unknown): { message: string; code: string | undefined } | undefined {
  const { error } = (typeof body === 'object' && body !== null ? body : {}) as ErrorBody;
  if (error === undefined || error === null) return undefined;
  const { message, code } = typeof error === 'object' ? error : { message: error, code: undefined };
  return { message: String(message).slice(0, MOST_WORDS), code: typeof code === 'string' ? code : undefined };
}

/** The code for the words of a server that took a request, or refused it as one that cannot be. */
export function codeOf(status: number, code: string | undefined): ErrorCode {
  if (code === 'context_length_exceeded') return 'context-full';
  if (status === 401 || status === 403) return 'unauthorized';
  if (status === 404) return 'not-found';
  if (status === 429 || status === 503) return 'busy';
  return status >= 400 && status < 500 && status !== 408 ? 'bad-request' : 'network';
}

function refusal(address: string, response: Response, text: string): SelvedgeError {
  const { status, statusText, headers } = response;
  let body: unknown;
  try {
    body = JSON.parse(text);
  } catch {
    // A proxy's page, or nothing.
  }
  const said = told(body);
  const message = said?.message ?? `${status} ${statusText}`.trim();
  return new SelvedgeError(codeOf(status, said?.code), `the server at ${address} answers: ${message}`, {
    status,
    retryAfter: seconds(headers.get('retry-after')),
  });
}

/** `Retry-After`, which is seconds or a date. */
function seconds(header: string | null): number | undefined {
  if (header === null) return undefined;
  const given = /^\d+$/.test(header) ? Number(header) : (Date.parse(header) - Date.now()) / 1000;
  return Number.isFinite(given) ? Math.max(0, given) : undefined;
}

function worthAnother({ code }: SelvedgeError): boolean {
  return code === 'busy' || code === 'network';
}

/** The interface below a server's root, or where the address says. */
function base(url: string | URL): string {
  const here = (globalThis as { document?: { baseURI: string } }).document?.baseURI ?? globalThis.location?.href;
  let at: URL;
  try {
    at = new URL(url, here);
  } catch (cause) {
    throw new SelvedgeError('bad-request', `\`${url}\` is no address of a server`, { cause });
  }
  if (at.protocol !== 'http:' && at.protocol !== 'https:') {
    throw new SelvedgeError('bad-request', `\`${url}\` is no address of a server: it must begin with http: or https:`);
  }
  if (at.username !== '' || at.search !== '') {
    const instead = 'use `apiKey` and `headers`';
    throw new SelvedgeError('bad-request', `the address of the server at ${at.origin} may have no name, password or query: ${instead}`);
  }
  const path = at.pathname.replace(/\/+$/, '');
  return at.origin + (path === '' ? '/v1' : path);
}

/** What was thrown, in words; a browser's `fetch` hides the cause, Node.js has it. */
export function words(thrown: unknown): string {
  const { message, cause } = thrown as Error;
  return cause instanceof Error ? cause.message || String((cause as { code?: unknown }).code) : (message ?? String(thrown));
}
