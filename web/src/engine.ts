/** An engine in this thread: loading, replies, and coming back from a lost device. */

import { completions } from './chat.js';
import { Core, Politeness, type ReplyRequest } from './core.js';
import { SelvedgeError, asSelvedgeError, throwIfAborted } from './errors.js';
import { Emitter, reportError } from './events.js';
import { openModel, type OpenedModel } from './model.js';
import type { Chat } from './openai.js';
import { DamagedError, packedSource } from './packed.js';
import { RunningReply, type Replier, type TemplateOptions } from './reply.js';
import { startRuntime } from './runtime.js';
import { ChatSession } from './session.js';
import { listModels, removeModel } from './store/models.js';
import type {
  EngineEvents,
  EngineInterface,
  EngineStats,
  GenerateOptions,
  LoadOptions,
  LoadProgress,
  Message,
  ModelReference,
  Notice,
  Reply,
  ReplyResult,
  ReplyUsage,
  Session,
  SessionOptions,
  StoredModel,
  TokenInterface,
} from './types.js';

/** Most losses of the device in one reply before it is given up. */
const MOST_LOSSES = 3;

export class Engine implements EngineInterface, Replier {
  readonly modelName: string;
  readonly chat: Chat;
  readonly tokens: TokenInterface;
  readonly #reference: ModelReference;
  readonly #options: LoadOptions;
  readonly #events: Emitter<EngineEvents>;
  readonly #disposal = new AbortController();
  /** The model on its device; another one after a loss, rejected when there is none to be had. */
  #core: Promise<Core>;
  #last: ReplyUsage | null = null;

  private constructor(reference: ModelReference, name: string, options: LoadOptions, core: Core, events: Emitter<EngineEvents>) {
    this.modelName = name;
    this.#reference = reference;
    // Progress is reported for the first load only.
    const { onProgress: _progress, onNotice: _notice, signal: _signal, ...rest } = options;
    this.#options = rest;
    this.#events = events;
    this.#core = Promise.resolve(core);
    this.#watch(core);
    this.chat = completions(this);
    this.tokens = {
      logits: async (ids) => (await this.#ready()).logits(Uint32Array.from(ids)),
      greedy: async (ids, count) => (await this.#ready()).greedy(Uint32Array.from(ids), count),
    };
  }

  /** Loads a model. Rejected with a {@link SelvedgeError}. */
  static async load(model: ModelReference, options: LoadOptions = {}): Promise<Engine> {
    const events = new Emitter<EngineEvents>();
    if (options.onNotice) events.on('notice', options.onNotice);
    const { core, name } = await loadCore(model, options, (notice) => events.emit('notice', notice));
    return new Engine(model, name, options, core, events);
  }

  /** Models in the browser's store; empty where there is no store. */
  static models(): Promise<StoredModel[]> {
    return listModels();
  }

  /** Removes a model from the browser's store; false when it was not there. */
  static remove(name: string): Promise<boolean> {
    return removeModel(name);
  }

  session(options: SessionOptions = {}): Session {
    return new ChatSession(this, options);
  }

  async restore(snapshot: Uint8Array): Promise<Session> {
    return new ChatSession(this, { messages: await this.remember(snapshot) });
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

  reply(messages: readonly Message[], options: GenerateOptions): Reply {
    const { signal } = options;
    return new RunningReply((tell, cancelled) => this.#reply(messages, options, tell, cancelled), signal);
  }

  async stats(): Promise<EngineStats> {
    const core = await this.#ready();
    const { model, device, contextLength, weights, memory, heap, state, notices } = core.stats();
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
      notices,
      last: this.#last,
    };
  }

  on<Name extends keyof EngineEvents>(name: Name, listener: (event: EngineEvents[Name]) => void): () => void {
    return this.#events.on(name, listener);
  }

  async dispose(): Promise<void> {
    if (this.#disposal.signal.aborted) return;
    this.#disposal.abort();
    const core = await this.#core.catch(() => undefined);
    await core?.free();
  }

  async #reply(
    messages: readonly Message[],
    options: GenerateOptions,
    tell: Parameters<ConstructorParameters<typeof RunningReply>[0]>[0],
    cancelled: AbortSignal,
  ): Promise<ReplyResult> {
    const began = performance.now();
    const turn = new Politeness();
    const emitted: number[] = [];
    let [text, thought, first, last] = ['', '', 0, 0];
    const told = (token: number | undefined, thinking: string, answer: string) => {
      if (token !== undefined) {
        last = performance.now();
        first ||= last;
        emitted.push(token);
      }
      if (thinking !== '') tell({ type: 'thinking', text: thinking });
      if (answer !== '') tell({ type: 'answer', text: answer });
      thought += thinking;
      text += answer;
      return turn.pause();
    };
    const stop = AbortSignal.any([cancelled, this.#disposal.signal]);
    for (let losses = 0; ; losses += 1) {
      const core = await this.#ready();
      try {
        const { finishReason, ...counts } = await core.reply({ ...request(messages, options), emitted }, stop, told);
        if (this.#disposal.signal.aborted) throw disposed();
        const seconds = (last - first) / 1000;
        const tokensPerSecond = emitted.length > 1 && seconds > 0 ? (emitted.length - 1) / seconds : 0;
        const usage = { ...counts, firstTokenMs: first === 0 ? 0 : first - began, tokensPerSecond };
        this.#last = usage;
        return { text, thinking: thought, finishReason, usage };
      } catch (thrown) {
        const error = asSelvedgeError(thrown);
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

function disposed(): SelvedgeError {
  return new SelvedgeError('disposed', 'the engine was disposed');
}

/** Opens a model and puts it on a device. */
async function loadCore(
  reference: ModelReference,
  options: LoadOptions,
  notice: (notice: Notice) => void,
): Promise<{ core: Core; name: string }> {
  throwIfAborted(options.signal);
  let at: Omit<LoadProgress, 'downloaded'> = { stage: 'runtime', done: 0, total: 0 };
  let model: OpenedModel | undefined;
  const tell = () => {
    try {
      options.onProgress?.({ ...at, downloaded: model?.downloaded() ?? 0 });
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
    let core: Core;
    try {
      core = await loadOpened(model, options, progress, notice);
    } catch (error) {
      if (!(error instanceof DamagedError)) throw error;
      notice({ code: 'repaired', message: `${error.message}: the model is fetched and quantised again` });
      await model.packed?.store.clear();
      core = await loadOpened(model, options, progress, notice);
    }
    for (const message of core.stats().notices) notice({ code: 'model', message });
    progress({ stage: 'ready', done: 0, total: 0 });
    return { core, name: model.name };
  } catch (error) {
    throw asSelvedgeError(error);
  } finally {
    await model?.close();
  }
}

/** Puts an opened model on a device; one that is wanted quantised, from the store where that can be. */
async function loadOpened(
  model: OpenedModel,
  options: LoadOptions,
  progress: (progress: Omit<LoadProgress, 'downloaded'>) => void,
  notice: (notice: Notice) => void,
): Promise<Core> {
  const { packed, source } = model;
  if (!packed) return Core.load(source, options, progress, notice);
  progress({ stage: 'runtime', done: 0, total: 0 });
  await startRuntime(options.wasm);
  let reached = 0;
  const told = (at: Omit<LoadProgress, 'downloaded'>) => {
    reached = at.total;
    progress(at);
  };
  const stored = await packedSource(packed.original, packed.store, options, told);
  if (!stored) return Core.load(source, options, progress, notice);
  // Bytes of the original were counted; reading what is stored is quick.
  const after = (at: Omit<LoadProgress, 'downloaded'>) =>
    progress(reached > 0 && at.stage === 'weights' ? { ...at, done: reached, total: reached } : at);
  return Core.load(stored, { ...options, weights: 'auto' }, after, notice);
}

function request(messages: readonly Message[], options: GenerateOptions): Omit<ReplyRequest, 'emitted'> {
  const { signal: _, stop, ...overrides } = options;
  return {
    ...overrides,
    messages,
    stop: typeof stop === 'string' ? [stop] : (stop ?? []),
    chance: Math.floor(Math.random() * 2 ** 32),
  };
}
