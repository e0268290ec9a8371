/** An engine in this thread: loading, replies, and coming back from a lost device. */

import { completions } from './chat.js';
import { Core, type ReplyRequest, type Told } from './core.js';
import { embeddings, type Embedded, type Embedder, type EmbeddingInput } from './embeddings.js';
import { SelvedgeError, asSelvedgeError, disposed, throwIfAborted } from './errors.js';
import { Emitter, reportError } from './events.js';
import { connectWithoutGpu } from './fallback.js';
import { openModel, type OpenedModel } from './model.js';
import type { Chat, Embeddings } from './openai.js';
import { DamagedError, packedSource } from './packed.js';
import { Politeness } from './politeness.js';
import { ownPooling, type Pooling } from './pooling.js';
import {
  RunningReply,
  type Conversation,
  type OpenedSession,
  type Replier,
  type Said,
  type TemplateOptions,
} from './reply.js';
import { startRuntime } from './runtime.js';
import { SaidSoFar } from './said.js';
import { ChatSession, Sessions } from './session.js';
import { NO_STORAGE } from './store/opfs.js';
import { SessionFiles } from './store/sessions.js';
import { StateFolder, stateLimit } from './store/states.js';
import { StoreStatics } from './store/statics.js';
import type {
  EngineEvents,
  EngineInterface,
  EngineStats,
  FallbackOptions,
  GenerateOptions,
  LoadOptions,
  LoadProgress,
  Message,
  ModelReference,
  Notice,
  Remembered,
  Reply,
  ReplyResult,
  ReplyUsage,
  Session,
  SessionOptions,
  StoredSessionOptions,
  TokenInterface,
} from './types.js';

/** Most losses of the device in one reply before it is given up. */
const MOST_LOSSES = 3;

export class Engine extends StoreStatics implements EngineInterface, Replier, Embedder {
  readonly modelName: string;
  readonly remote = null;
  readonly chat: Chat;
  readonly embeddings: Embeddings = embeddings(this);
  readonly tokens: TokenInterface;
  readonly #reference: ModelReference;
  readonly #options: LoadOptions;
  readonly #events: Emitter<EngineEvents>;
  readonly #disposal = new AbortController();
  /** The model on its device; another one after a loss, rejected when there is none to be had. */
  #core: Promise<Core>;
  #last: ReplyUsage | null = null;
  readonly #sessions = new Sessions(this);
  #disposed = false;
  #pooling: Promise<Pooling> | undefined;
  readonly #files: SessionFiles;
  /** Cores whose memory of conversations goes into the browser's store, or was found not to. */
  readonly #kept = new WeakMap<Core, Promise<void>>();

  private constructor(reference: ModelReference, name: string, options: LoadOptions, core: Core, events: Emitter<EngineEvents>) {
    super();
    this.modelName = name;
    this.#reference = reference;
    // Progress is reported for the first load only.
    const { onProgress: _progress, onNotice: _notice, signal: _signal, ...rest } = options;
    this.#options = rest;
    this.#events = events;
    this.#files = new SessionFiles(name, (notice) => events.emit('notice', notice));
    this.#core = Promise.resolve(core);
    this.#watch(core);
    this.chat = completions(this);
    this.tokens = {
      logits: async (ids) => (await this.#ready()).logits(Uint32Array.from(ids)),
      greedy: async (ids, count) => (await this.#ready()).greedy(Uint32Array.from(ids), count),
    };
  }

  /** Loads a model. Rejected with a {@link SelvedgeError}. */
  static load(model: ModelReference, options: FallbackOptions): Promise<EngineInterface>;
  static load(model: ModelReference, options?: LoadOptions): Promise<Engine>;
  static async load(model: ModelReference, options: LoadOptions | FallbackOptions = {}): Promise<EngineInterface> {
    const remote = await connectWithoutGpu(model, options);
    if (remote) return remote;
    const events = new Emitter<EngineEvents>();
    if (options.onNotice) events.on('notice', options.onNotice);
    const { core, name, reference } = await loadCore(model, options, (notice) => events.emit('notice', notice));
    return new Engine(reference, name, options, core, events);
  }

  /** Vectors of texts, of length 1. `embeddings.create` is for pages. */
  async embed(inputs: readonly EmbeddingInput[], pooling?: Pooling): Promise<Embedded> {
    const chosen = pooling ?? (await this.#ownPooling());
    return (await this.#ready()).embed(inputs, chosen);
  }

  session(options: StoredSessionOptions): Promise<Session>;
  session(options?: SessionOptions): Session;
  session(options: SessionOptions | StoredSessionOptions = {}): Session | Promise<Session> {
    return this.#sessions.open(options);
  }

  async openSession(id: string): Promise<OpenedSession> {
    if (this.#disposal.signal.aborted) throw disposed();
    return this.#files.open(id);
  }

  saveSession(id: string, said: Said): Promise<void> {
    return this.#files.save(id, said);
  }

  closeSession(id: string): Promise<void> {
    return this.#files.close(id);
  }

  async remembered(messages: readonly Message[], told: TemplateOptions, keep: boolean): Promise<Remembered> {
    const core = await this.#ready();
    if (keep) await this.#keepIn(core);
    return core.remembered(messages, told);
  }

  async restore(snapshot: Uint8Array): Promise<Session> {
    return new ChatSession(this, this.#sessions, { messages: await this.remember(snapshot) });
  }

  async snapshot(messages: readonly Message[], told: TemplateOptions): Promise<Uint8Array<ArrayBuffer> | undefined> {
    return (await this.#ready()).snapshot(messages, told);
  }

  /** Remembers what a snapshot holds, and gives its messages. */
  async remember(snapshot: Uint8Array): Promise<readonly Message[]> {
    const { messages, notice } = await (await this.#ready()).restore(snapshot);
    if (notice !== null) this.#events.emit('notice', { code: 'model', message: notice });
    return messages;
  }

  reply(messages: readonly Message[], options: GenerateOptions, conversation?: Conversation): Reply {
    const { signal } = options;
    const asked = { ...request(messages, options), ...conversation };
    return new RunningReply((tell, cancelled) => this.#reply(asked, tell, cancelled), signal);
  }

  async stats(): Promise<EngineStats> {
    const core = await this.#ready();
    const { model, device, contextLength, weights, memory, heap, state, cache, notices } = core.stats();
    const { tokens, fixed, perToken, transformerPerToken } = state;
    const { adapter, software } = core.device;
    return {
      model: { name: this.modelName, ...model },
      device: { ...device, adapter, software },
      contextLength,
      memory: { weights, state: memory, heap },
      state: {
        ...state,
        bytes: fixed + perToken * tokens,
        transformerBytes: transformerPerToken * tokens,
      },
      cache,
      notices,
      last: this.#last,
    };
  }

  on<Name extends keyof EngineEvents>(name: Name, listener: (event: EngineEvents[Name]) => void): () => void {
    return this.#events.on(name, listener);
  }

  async dispose(): Promise<void> {
    if (this.#disposed) return;
    this.#disposed = true;
    await this.stop();
    const core = await this.#core.catch(() => undefined);
    await core?.free();
    await this.#files.closeAll();
  }

  /** Ends what is under way: replies are rejected with `disposed`, and what was said of them is stored. */
  async stop(): Promise<void> {
    this.#disposal.abort();
    await this.#sessions.quiet();
  }

  /** Lets a core keep the memory of conversations in the browser's store; once, and with a notice where that cannot be. */
  #keepIn(core: Core): Promise<void> {
    const keep = async () => {
      const without = (why: string) =>
        this.#events.emit('notice', { code: 'not-kept', message: `${why}: the memory of conversations is not kept` });
      try {
        const folder = await StateFolder.open();
        if (!folder) return void without(NO_STORAGE);
        this.#tell(await core.keepIn(folder, await stateLimit(this.#options.stateBytes)));
      } catch (thrown) {
        const { code, message } = asSelvedgeError(thrown);
        // The call that this was for fails of it, or is made again.
        if (code !== 'device-lost') without(`the browser's storage cannot be used (${message})`);
      }
    };
    const kept = this.#kept.get(core) ?? keep();
    this.#kept.set(core, kept);
    return kept;
  }

  /** The pooling of the model's own file. It is read for the first embedding, since most pages want none. */
  async #ownPooling(): Promise<Pooling> {
    const { signal } = this.#disposal;
    try {
      this.#pooling ??= ownPooling(this.#reference, { ...this.#options, signal }, (notice) => this.#events.emit('notice', notice));
      return await this.#pooling;
    } catch (error) {
      // The next embedding tries again.
      this.#pooling = undefined;
      throw signal.aborted ? disposed() : error;
    }
  }

  /** Tells what went wrong with the memory of conversations. */
  #tell(notices: readonly string[]): void {
    for (const message of notices) this.#events.emit('notice', { code: 'memory', message });
  }

  async #reply(
    asked: Omit<ReplyRequest, 'emitted'>,
    tell: Parameters<ConstructorParameters<typeof RunningReply>[0]>[0],
    cancelled: AbortSignal,
  ): Promise<ReplyResult> {
    const began = performance.now();
    const turn = new Politeness();
    const emitted: number[] = [];
    const said = new SaidSoFar(tell);
    let [first, last] = [0, 0];
    const told: Told = (token, thinking, answer, more) => {
      if (token !== undefined) {
        last = performance.now();
        first ||= last;
        emitted.push(token);
      }
      said.take(thinking, answer, more);
      return turn.pause();
    };
    const stop = AbortSignal.any([cancelled, this.#disposal.signal]);
    for (let losses = 0; ; losses += 1) {
      const core = await this.#ready();
      try {
        if (asked.keep) await this.#keepIn(core);
        const { finishReason, notices, ...counts } = await core.reply({ ...asked, emitted }, stop, told);
        this.#tell(notices);
        if (this.#disposal.signal.aborted) throw disposed();
        const seconds = (last - first) / 1000;
        const tokensPerSecond = emitted.length > 1 && seconds > 0 ? (emitted.length - 1) / seconds : 0;
        const usage = { ...counts, firstTokenMs: first === 0 ? 0 : first - began, tokensPerSecond };
        this.#last = usage;
        return { ...said.end(finishReason), usage };
      } catch (thrown) {
        const error = asSelvedgeError(thrown);
        if (this.#disposal.signal.aborted) throw disposed();
        if (error.code === 'out-of-memory') this.#events.emit('memory', { message: error.message });
        if (error.code !== 'device-lost' || losses >= MOST_LOSSES) throw error;
        await this.#rebuild(core, error.message);
      }
    }
  }

  /** The model on its device, when it is there. */
  async #ready(): Promise<Core> {
    if (this.#disposal.signal.aborted) throw disposed();
    const core = await this.#core;
    if (this.#disposal.signal.aborted) throw disposed();
    return core;
  }

  /** Notices a loss also while nothing is under way. */
  #watch(core: Core): void {
    void core.lost.then((message) => this.#rebuild(core, message)).catch(reportError);
  }

  /** Loads the model again in place of `gone`; once, however many notice. */
  async #rebuild(gone: Core, message: string): Promise<void> {
    if (this.#disposal.signal.aborted) return;
    if (this.#gone.has(gone)) {
      await this.#core;
      return;
    }
    this.#gone.add(gone);
    this.#events.emit('devicelost', { message });
    const notice = (notice: Notice) => {
      // That notice was given at the first load.
      if (notice.code !== 'software-gpu' && notice.code !== 'model') this.#events.emit('notice', notice);
    };
    const again = async () => {
      await gone.free();
      const { core } = await loadCore(this.#reference, { ...this.#options, signal: this.#disposal.signal }, notice);
      this.#watch(core);
      notice({ code: 'restored', message: 'the graphics device was lost; the model is there again' });
      return core;
    };
    this.#core = again();
    // Whoever needs the model hears of a failure.
    this.#core.catch(() => {});
    await this.#core;
  }

  readonly #gone = new WeakSet<Core>();
}

/** Opens a model and puts it on a device. */
async function loadCore(
  reference: ModelReference,
  options: LoadOptions,
  notice: (notice: Notice) => void,
): Promise<{ core: Core; name: string; reference: ModelReference }> {
  throwIfAborted(options.signal);
  let at: Omit<LoadProgress, 'downloaded'> = { stage: 'runtime', done: 0, total: 0 };
  let model: OpenedModel | undefined;
  const adapters: OpenedModel[] = [];
  const opened = () => (model ? [model, ...adapters] : []);
  const tell = () => {
    try {
      options.onProgress?.({ ...at, downloaded: opened().reduce((sum, { downloaded }) => sum + downloaded(), 0) });
    } catch (error) {
      reportError(error);
    }
  };
  const progress = (now: typeof at) => {
    // Bytes stay known from stage to stage.
    at = now.total === 0 ? { ...now, done: at.done, total: at.total } : now;
    tell();
  };
  try {
    model = await openModel(reference, options, notice, tell);
    for (const adapter of options.lora ?? []) {
      adapters.push(await openModel(adapter, { ...options, weights: 'auto' }, notice, tell));
    }
    let core: Core;
    try {
      core = await loadOpened(opened(), options, progress, notice);
    } catch (error) {
      if (!(error instanceof DamagedError)) throw error;
      notice({ code: 'repaired', message: `${error.message}: the model is fetched and quantised again` });
      await model.packed?.store.clear();
      core = await loadOpened(opened(), options, progress, notice);
    }
    for (const message of core.stats().notices) notice({ code: 'model', message });
    progress({ stage: 'ready', done: 0, total: 0 });
    return { core, name: model.name, reference: model.reference };
  } catch (error) {
    throw asSelvedgeError(error);
  } finally {
    await Promise.all(opened().map((model) => model.close()));
  }
}

/** Puts an opened model on a device, with its adapters; one that is wanted quantised, from the store where that can be. */
async function loadOpened(
  [model, ...adapters]: readonly OpenedModel[],
  options: LoadOptions,
  progress: (progress: Omit<LoadProgress, 'downloaded'>) => void,
  notice: (notice: Notice) => void,
): Promise<Core> {
  const sources = [model!, ...adapters].map(({ source }) => source);
  const packed = adapters.length > 0 ? undefined : model!.packed;
  if (!packed) return Core.load(sources, options, progress, notice);
  progress({ stage: 'runtime', done: 0, total: 0 });
  await startRuntime(options.wasm);
  let reached = 0;
  const told = (at: Omit<LoadProgress, 'downloaded'>) => {
    reached = at.total;
    progress(at);
  };
  const stored = await packedSource(packed.original, packed.store, options, told);
  if (!stored) return Core.load(sources, options, progress, notice);
  // Bytes of the original were counted; reading what is stored is quick.
  const after = (at: Omit<LoadProgress, 'downloaded'>) =>
    progress(reached > 0 && at.stage === 'weights' ? { ...at, done: reached, total: reached } : at);
  return Core.load([stored], { ...options, weights: 'auto' }, after, notice);
}

/** Token ids and what is added to their logits. */
function biases(biases: GenerateOptions['logitBias']): (readonly [number, number])[] {
  return Object.entries(biases ?? {}).map(([id, bias]) => {
    if (!/^\d{1,9}$/.test(id) || !(Math.abs(bias) <= 100)) {
      throw new SelvedgeError('bad-request', `\`logitBias\`: ${id} must be a token id, and ${bias} from -100 to 100`);
    }
    return [Number(id), bias] as const;
  });
}

function request(messages: readonly Message[], options: GenerateOptions): Omit<ReplyRequest, 'emitted'> {
  const { signal: _, stop, logitBias, ...overrides } = options;
  return {
    ...overrides,
    messages,
    stop: typeof stop === 'string' ? [stop] : (stop ?? []),
    biases: biases(logitBias),
    chance: Math.floor(Math.random() * 2 ** 32),
  };
}
