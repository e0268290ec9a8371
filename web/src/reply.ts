/** A reply under way: parts that come, iterators that wait for them, and the whole at the end. */

import { aborted, asSelvedgeError } from './errors.js';
import type { GenerateOptions, Message, Reply, ReplyPart, ReplyResult } from './types.js';

/** Makes replies. An engine in this thread and one in a worker are both one; sessions and chats need no more. */
export interface Replier {
  /** As `engine.stats()` names the model. */
  readonly modelName: string;
  reply(messages: readonly Message[], options: GenerateOptions): Reply;
  /** What is remembered of a conversation; `undefined` where nothing is. */
  snapshot(messages: readonly Message[], told: TemplateOptions): Promise<Uint8Array<ArrayBuffer> | undefined>;
}

/** Options that change what a template makes of messages. */
export interface TemplateOptions {
  readonly tools?: readonly object[] | undefined;
  readonly documents?: readonly object[] | undefined;
  readonly thinking?: boolean | undefined;
  readonly templateKwargs?: Readonly<Record<string, unknown>> | undefined;
}

/** Works on a reply: tells its parts, and ends soon after `cancelled` says so. */
export type Work = (tell: (part: ReplyPart) => void, cancelled: AbortSignal) => Promise<ReplyResult>;

export class RunningReply implements Reply {
  readonly #parts: ReplyPart[] = [];
  readonly #result: Promise<ReplyResult>;
  readonly #cancel = new AbortController();
  /** Waken when a part came or the end did. */
  #waiting: (() => void)[] = [];
  #ended = false;

  constructor(work: Work, signal?: AbortSignal) {
    const stop = () => this.#cancel.abort();
    const tell = (part: ReplyPart) => {
      this.#parts.push(part);
      this.#wake();
    };
    const run = async () => {
      if (signal?.aborted) throw aborted(signal);
      signal?.addEventListener('abort', stop, { once: true });
      try {
        const result = await work(tell, this.#cancel.signal);
        if (signal?.aborted) throw aborted(signal);
        return result;
      } catch (error) {
        throw asSelvedgeError(error);
      } finally {
        signal?.removeEventListener('abort', stop);
        this.#ended = true;
        this.#wake();
      }
    };
    this.#result = run();
    // Whoever iterates hears of a failure there; nobody need await the whole.
    this.#result.catch(() => {});
  }

  stop(): void {
    this.#cancel.abort();
  }

  // A reply is a promise of its whole and can be awaited.
  then<A = ReplyResult, B = never>(
    fulfilled?: ((result: ReplyResult) => A | PromiseLike<A>) | null,
    rejected?: ((reason: unknown) => B | PromiseLike<B>) | null,
  ): Promise<A | B> {
    return this.#result.then(fulfilled, rejected);
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<ReplyPart, void, undefined> {
    for (let next = 0; ; ) {
      const part = this.#parts[next];
      if (part) {
        next += 1;
        yield part;
      } else if (this.#ended) {
        await this.#result;
        return;
      } else {
        await new Promise<void>((resolve) => this.#waiting.push(resolve));
      }
    }
  }

  #wake(): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const resolve of waiting) resolve();
  }
}
