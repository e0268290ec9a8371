/** A reply under way: parts that come, iterators that wait for them, and the whole at the end. */

import { aborted, asSelvedgeError } from './errors.js';
import type { ChatCompletionToolChoice } from './openai.js';
import type { GenerateOptions, Message, Remembered, Reply, ReplyPart, ReplyResult } from './types.js';

/** Makes replies. An engine in this thread and one in a worker are both one; sessions and chats need no more. */
export interface Replier {
  /** As `engine.stats()` names the model. */
  readonly modelName: string;
  reply(messages: readonly Message[], options: GenerateOptions, conversation?: Conversation): Reply;
  /** How much of a conversation is remembered; `keep`: also in the browser's store. */
  remembered(messages: readonly Message[], told: TemplateOptions, keep: boolean): Promise<Remembered>;
  /** Opens a conversation of the browser's store. */
  openSession(id: string): Promise<OpenedSession>;
  /** Writes a conversation that was opened. */
  saveSession(id: string, said: Said): Promise<void>;
  /** Lets others open it. */
  closeSession(id: string): Promise<void>;
  /** What is remembered of a conversation; `undefined` where nothing is. */
  snapshot(messages: readonly Message[], told: TemplateOptions): Promise<Uint8Array<ArrayBuffer> | undefined>;
}

/** A conversation as it is stored. */
export interface Said {
  readonly messages: readonly Message[];
  /** What the model's template was told with the last message. */
  readonly told: TemplateOptions;
}

/** A conversation of the browser's store. */
export interface OpenedSession {
  /** What is there. */
  readonly stored: Said | undefined;
  /** Whether what is said in it is stored; `elsewhere`: not while it is open there. */
  readonly kept: boolean | 'elsewhere';
}

/** What the engine is told of the conversation of a reply. */
export interface Conversation {
  /** No other one of the engine has it: of the conversations with the last turns, the ends are forgotten last. */
  readonly number: number;
  /** Its memory is kept in the browser's store. */
  readonly keep: boolean;
}

/** Options that change what a template makes of messages. */
export interface TemplateOptions {
  readonly tools?: readonly object[] | undefined;
  readonly toolChoice?: ChatCompletionToolChoice | undefined;
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
