/** Errors, with a code that programs can rely on. */

export type ErrorCode =
  /** No such model, file or address. */
  | 'not-found'
  /** The network or the server failed, more often than it was worth asking again. */
  | 'network'
  /** A server does not let this page ask: it wants a key, or another one. */
  | 'unauthorized'
  /** A server has more to do than it takes; `retryAfter` says when to come again, where the server does. */
  | 'busy'
  /** A server's reply broke off in the middle. */
  | 'interrupted'
  /** Only a model in this page can do that, and replies come from a server. */
  | 'not-remote'
  /** A model family, format or feature that there is no code for. */
  | 'unsupported-model'
  /** Files that contradict themselves or that are no model at all. */
  | 'corrupt-weights'
  /** There is no device of the kind that was asked for. */
  | 'no-device'
  /** The device computes wrongly. */
  | 'faulty-device'
  /** The model does not fit, or an allocation failed. */
  | 'out-of-memory'
  /** The device is gone, and could not be had back. */
  | 'device-lost'
  /** The conversation is longer than the context. */
  | 'context-full'
  /** The model's outputs are not finite numbers: something overflowed on the way, or the weights are broken. */
  | 'not-finite'
  /** A saved state that is damaged, or that belongs to another model. */
  | 'bad-state'
  /** Someone asked for it to stop. */
  | 'aborted'
  /** An argument that cannot be meant. */
  | 'bad-request'
  /** The engine was disposed. */
  | 'disposed'
  /** A fault of this package. */
  | 'internal';

/** Answer of a server that refused. */
export interface Refusal {
  /** Status of HTTP. */
  readonly status?: number | undefined;
  /** Seconds after which the server asks to come again. */
  readonly retryAfter?: number | undefined;
}

/** The error of every promise and iterator of this package. */
export class SelvedgeError extends Error implements Refusal {
  override readonly name = 'SelvedgeError';
  declare readonly status?: number;
  declare readonly retryAfter?: number;

  constructor(
    readonly code: ErrorCode,
    message: string,
    options: ErrorOptions & Refusal = {},
  ) {
    super(message, options);
    const { status, retryAfter } = options;
    // Errors that no server gave have neither.
    Object.assign(this, status === undefined ? {} : { status }, retryAfter === undefined ? {} : { retryAfter });
  }
}

/** Anything that was thrown, as an error of this package. The module's own errors bring their code along. */
export function asSelvedgeError(thrown: unknown, otherwise: ErrorCode = 'internal'): SelvedgeError {
  if (thrown instanceof SelvedgeError) return thrown;
  if (!(thrown instanceof Error)) return new SelvedgeError(otherwise, String(thrown));
  const { code } = thrown as Error & { code?: unknown };
  if (thrown.name === 'AbortError') return new SelvedgeError('aborted', thrown.message, { cause: thrown });
  return new SelvedgeError(typeof code === 'string' ? (code as ErrorCode) : otherwise, thrown.message, {
    cause: thrown,
  });
}

/** Throws when someone asked for a stop. */
export function throwIfAborted(signal: AbortSignal | undefined): void {
  if (signal?.aborted) throw aborted(signal);
}

/** The error of a stop that someone asked for. */
export function aborted(signal?: AbortSignal): SelvedgeError {
  return new SelvedgeError('aborted', 'it was stopped on request', { cause: signal?.reason });
}

/** The error of whatever is asked of an engine that is no more. */
export function disposed(): SelvedgeError {
  return new SelvedgeError('disposed', 'the engine was disposed');
}
