/** Messages between a page and its worker. Every call has a number, which its answers repeat. */

import type { Embedded, EmbeddingInput } from '../embeddings.js';
import type { ErrorCode } from '../errors.js';
import type { Pooling } from '../pooling.js';
import type { Conversation, OpenedSession, Said, TemplateOptions } from '../reply.js';
import type {
  EngineEvents,
  EngineStats,
  GenerateOptions,
  LoadOptions,
  LoadProgress,
  Message,
  ModelReference,
  Notice,
  Remembered,
  ReplyPart,
  ReplyResult,
  Source,
} from '../types.js';

/** Options that can be sent. */
export type SentLoadOptions = Omit<LoadOptions, 'onProgress' | 'onNotice' | 'signal'>;

/** What is known at once of a source that only the page can read. */
export type PageSource = Pick<Source, 'gguf' | 'files'> & { place: string };

/** Calls of the page: what each takes, and what it gives in the end. */
export interface Calls {
  load: { takes: { model: ModelReference | undefined; page: PageSource | undefined; options: SentLoadOptions }; gives: { name: string } };
  reply: {
    takes: { messages: readonly Message[]; options: Omit<GenerateOptions, 'signal'>; conversation: Conversation | undefined };
    gives: ReplyResult;
  };
  remembered: { takes: { messages: readonly Message[]; told: TemplateOptions; keep: boolean }; gives: Remembered };
  openSession: { takes: string; gives: OpenedSession };
  saveSession: { takes: { id: string; said: Said }; gives: void };
  closeSession: { takes: string; gives: void };
  /** Ends what is under way. */
  stop: { takes: null; gives: null };
  snapshot: { takes: { messages: readonly Message[]; told: TemplateOptions }; gives: Uint8Array<ArrayBuffer> | undefined };
  remember: { takes: Uint8Array; gives: readonly Message[] };
  stats: { takes: null; gives: EngineStats };
  embed: { takes: { inputs: readonly EmbeddingInput[]; pooling: Pooling | undefined }; gives: Embedded };
  logits: { takes: Uint32Array; gives: Float32Array };
  greedy: { takes: { ids: Uint32Array; count: number }; gives: Uint32Array };
  dispose: { takes: null; gives: null };
}

/** Calls of the worker: of a source that only the page can read. */
export interface SourceCall {
  method: 'size' | 'read';
  args: [string] | [string, number, number];
}

/** From the page. */
export type ToWorker =
  | { [Name in keyof Calls]: { type: 'call'; id: number; name: Name; takes: Calls[Name]['takes'] } }[keyof Calls]
  /** The call should end soon. */
  | { type: 'cancel'; id: number }
  | { type: 'sourceAnswer'; id: number; value?: unknown; error?: SentError };

/** From the worker. */
export type ToPage =
  | { type: 'done'; id: number; value: unknown }
  | { type: 'failed'; id: number; error: SentError }
  | { type: 'part'; id: number; part: ReplyPart }
  | { type: 'progress'; id: number; progress: LoadProgress }
  | { type: 'loadNotice'; id: number; notice: Notice }
  | { type: 'source'; id: number; call: SourceCall }
  | { [Name in keyof EngineEvents]: { type: 'event'; name: Name; event: EngineEvents[Name] } }[keyof EngineEvents];

export interface SentError {
  code: ErrorCode;
  message: string;
}
