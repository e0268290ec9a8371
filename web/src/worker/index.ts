/** An engine in a dedicated worker, so that a page never waits for it. The interface is `Engine`'s. */

import { completions } from '../chat.js';
import { embeddings, type Embedded, type Embedder, type EmbeddingInput } from '../embeddings.js';
import { SelvedgeError, aborted, asSelvedgeError, disposed } from '../errors.js';
import { Emitter, reportError } from '../events.js';
import { connectWithoutGpu, withoutServer } from '../fallback.js';
import type { Chat, Embeddings } from '../openai.js';
import type { Pooling } from '../pooling.js';
import {
  RunningReply,
  type Conversation,
  type OpenedSession,
  type Replier,
  type Said,
  type TemplateOptions,
} from '../reply.js';
import { ChatSession, Sessions } from '../session.js';
import { StoreStatics } from '../store/statics.js';
import type {
  EngineEvents,
  EngineInterface,
  EngineStats,
  FallbackOptions,
  GenerateOptions,
  LoadOptions,
  Message,
  ModelReference,
  Remembered,
  Reply,
  Session,
  SessionOptions,
  Source,
  StoredSessionOptions,
  TokenInterface,
} from '../types.js';
import type { Calls, SourceCall, ToPage, ToWorker } from './protocol.js';

export { SelvedgeError, type ErrorCode } from '../errors.js';
export type * from '../openai.js';
export type * from '../types.js';

/** Options of a load in a worker. */
export interface WorkerLoadOptions extends LoadOptions {
  /** A worker that runs `selvedge/worker/script`, where the bundler does not find it by itself. */
  readonly worker?: Worker;
}

interface Waiting {
  resolve(value: unknown): void;
  reject(error: unknown): void;
  heard(message: ToPage): void;
}

export class WorkerEngine extends StoreStatics implements EngineInterface, Replier, Embedder {
  readonly chat: Chat;
  readonly embeddings: Embeddings = embeddings(this);
  readonly tokens: TokenInterface;
  readonly #line: Line;
  readonly #sessions = new Sessions(this);
  readonly modelName: string;
  readonly remote = null;

  private constructor(line: Line, modelName: string) {
    super();
    this.#line = line;
    this.modelName = modelName;
    this.chat = completions(this);
    this.tokens = {
      logits: (ids) => line.call('logits', Uint32Array.from(ids)),
      greedy: (ids, count) => line.call('greedy', { ids: Uint32Array.from(ids), count }),
    };
  }

  /** Vectors of texts, of length 1. `embeddings.create` is for pages. */
  embed(inputs: readonly EmbeddingInput[], pooling?: Pooling): Promise<Embedded> {
    return this.#line.call('embed', { inputs, pooling });
  }

  /** Starts a worker and loads a model in it. Rejected with a {@link SelvedgeError}. */
  static load(model: ModelReference, options: WorkerLoadOptions & FallbackOptions): Promise<EngineInterface>;
  static load(model: ModelReference, options?: WorkerLoadOptions): Promise<WorkerEngine>;
  static async load(
    model: ModelReference,
    options: WorkerLoadOptions | (WorkerLoadOptions & FallbackOptions) = {},
  ): Promise<EngineInterface> {
    const remote = await connectWithoutGpu(model, options);
    if (remote) return remote;
    const { worker: own, onProgress, onNotice, signal, ...rest } = withoutServer(options);
    if (signal?.aborted) throw aborted(signal);
    const source = isSource(model) ? model : undefined;
    const page = source && { place: source.describe(''), gguf: source.gguf, files: source.files };
    const sent = source ? undefined : sendable(model);
    const lora = rest.lora && { lora: rest.lora.map(sendable) };
    const worker = own ?? new Worker(new URL('./worker.js', import.meta.url), { type: 'module', name: 'selvedge' });
    const line = new Line(worker, source);
    if (onNotice) line.events.on('notice', onNotice);
    // Only a page can ask for storage that is not thrown away.
    if (rest.store !== false) void globalThis.navigator?.storage?.persist?.().catch(() => {});
    try {
      const absolute = typeof rest.wasm === 'string' || rest.wasm instanceof URL;
      const wasm = absolute ? { wasm: new URL(String(rest.wasm), document.baseURI).href } : {};
      const { name } = await line.call('load', { model: sent, page, options: { ...rest, ...wasm, ...lora } }, signal, (message) => {
        if (message.type !== 'progress') return;
        try {
          onProgress?.(message.progress);
        } catch (error) {
          reportError(error);
        }
      });
      return new WorkerEngine(line, name);
    } catch (error) {
      line.end();
      throw error;
    }
  }

  session(options: StoredSessionOptions): Promise<Session>;
  session(options?: SessionOptions): Session;
  session(options: SessionOptions | StoredSessionOptions = {}): Session | Promise<Session> {
    return this.#sessions.open(options);
  }

  openSession(id: string): Promise<OpenedSession> {
    return this.#line.call('openSession', id);
  }

  saveSession(id: string, said: Said): Promise<void> {
    return this.#line.call('saveSession', { id, said });
  }

  closeSession(id: string): Promise<void> {
    return this.#line.call('closeSession', id);
  }

  remembered(messages: readonly Message[], told: TemplateOptions, keep: boolean): Promise<Remembered> {
    return this.#line.call('remembered', { messages, told, keep });
  }

  async restore(snapshot: Uint8Array): Promise<Session> {
    return new ChatSession(this, this.#sessions, { messages: await this.#line.call('remember', snapshot) });
  }

  snapshot(messages: readonly Message[], told: TemplateOptions): Promise<Uint8Array<ArrayBuffer> | undefined> {
    return this.#line.call('snapshot', { messages, told });
  }

  reply(messages: readonly Message[], options: GenerateOptions, conversation?: Conversation): Reply {
    const { signal, ...rest } = options;
    return new RunningReply((tell, cancelled) => {
      const heard = (message: ToPage) => message.type === 'part' && tell(message.part);
      return this.#line.call('reply', { messages, options: rest, conversation }, cancelled, heard);
    }, signal);
  }

  stats(): Promise<EngineStats> {
    return this.#line.call('stats', null);
  }

  on<Name extends keyof EngineEvents>(name: Name, listener: (event: EngineEvents[Name]) => void): () => void {
    return this.#line.events.on(name, listener);
  }

  async dispose(): Promise<void> {
    if (this.#line.ended) return;
    // Replies end first, and what was said of them is stored.
    await this.#line.call('stop', null).catch(() => {});
    await this.#sessions.quiet();
    await this.#line.call('dispose', null).catch(() => {});
    this.#line.end();
  }
}

/** The line to a worker. */
class Line {
  readonly events = new Emitter<EngineEvents>();
  ended = false;
  readonly #worker: Worker;
  readonly #source: Source | undefined;
  readonly #waiting = new Map<number, Waiting>();
  #calls = 0;

  constructor(worker: Worker, source: Source | undefined) {
    this.#worker = worker;
    this.#source = source;
    worker.onmessage = ({ data }: MessageEvent<ToPage>) => this.#hear(data);
    worker.onerror = (event) => {
      const hint = 'is the script there, and allowed by the page’s content security policy?';
      this.#fail(new SelvedgeError('internal', `the worker failed: ${event.message || `it did not start; ${hint}`}`));
    };
  }

  call<Name extends keyof Calls>(
    name: Name,
    takes: Calls[Name]['takes'],
    signal?: AbortSignal,
    heard: (message: ToPage) => void = () => {},
  ): Promise<Calls[Name]['gives']> {
    if (this.ended) return Promise.reject(disposed());
    this.#calls += 1;
    const id = this.#calls;
    const cancel = () => this.#send({ type: 'cancel', id });
    const answer = new Promise<unknown>((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject, heard });
      this.#send({ type: 'call', id, name, takes } as ToWorker);
    });
    if (signal?.aborted) cancel();
    signal?.addEventListener('abort', cancel, { once: true });
    return answer.finally(() => {
      signal?.removeEventListener('abort', cancel);
      this.#waiting.delete(id);
    }) as Promise<Calls[Name]['gives']>;
  }

  end(): void {
    this.#fail(disposed());
    this.#worker.terminate();
  }

  #fail(error: SelvedgeError): void {
    this.ended = true;
    for (const { reject } of this.#waiting.values()) reject(error);
  }

  #send(message: ToWorker): void {
    if (!this.ended) this.#worker.postMessage(message);
  }

  #hear(message: ToPage): void {
    if (message.type === 'event') this.events.emit(message.name, message.event as never);
    else if (message.type === 'source') void this.#answer(message.id, message.call);
    else if (message.type === 'done') this.#waiting.get(message.id)?.resolve(message.value);
    else if (message.type === 'failed') {
      const { code, message: text } = message.error;
      this.#waiting.get(message.id)?.reject(new SelvedgeError(code, text));
    } else this.#waiting.get(message.id)?.heard(message);
  }

  /** Reads for the worker what only the page can. */
  async #answer(id: number, { method, args }: SourceCall): Promise<void> {
    try {
      const ask = this.#source?.[method] as ((...args: unknown[]) => unknown) | undefined;
      this.#send({ type: 'sourceAnswer', id, value: await ask?.apply(this.#source, args) });
    } catch (thrown) {
      const { code, message } = asSelvedgeError(thrown, 'network');
      this.#send({ type: 'sourceAnswer', id, error: { code, message } });
    }
  }
}

function isSource(model: ModelReference): model is Source {
  return typeof model === 'object' && 'read' in model && typeof model.read === 'function';
}

/** The same in a form that can be sent; paths are relative to the page, not to the worker's script. */
function sendable(model: ModelReference): ModelReference {
  if (model instanceof URL) return model.href;
  if (isSource(model)) throw new SelvedgeError('bad-request', 'an adapter that is a Source cannot go into a worker');
  if (typeof model === 'string') return /^\.{0,2}\//.test(model) ? new URL(model, document.baseURI).href : model;
  return 'length' in model && model.length !== undefined ? Array.from(model as ArrayLike<File>) : model;
}
