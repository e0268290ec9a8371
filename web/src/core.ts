/** A model on a device: the module's engine, with words of this package instead of JSON. */

import { Cancel, Engine as WasmEngine, type InitOutput } from '../pkg/selvedge.js';
import { chooseDevice, withDevice, type Device } from './device.js';
import type { Embedded, EmbeddingInput } from './embeddings.js';
import { SelvedgeError, asSelvedgeError, throwIfAborted } from './errors.js';
import type { ChatCompletionToolChoice } from './openai.js';
import { Politeness } from './politeness.js';
import type { Pooling } from './pooling.js';
import type { TemplateOptions } from './reply.js';
import { startRuntime } from './runtime.js';
import { StateFolder } from './store/states.js';
import type { EngineStats, Grammar, LoadOptions, LoadProgress, Message, Notice, Remembered, Source } from './types.js';

/** A request for a reply; the names are those of `src/wasm/requests.rs`. */
export interface ReplyRequest {
  messages: readonly Message[];
  maxTokens?: number;
  temperature?: number;
  topK?: number;
  topP?: number;
  minP?: number;
  repetitionPenalty?: number;
  frequencyPenalty?: number;
  presencePenalty?: number;
  seed?: number;
  chance: number;
  stop: readonly string[];
  grammar?: Grammar;
  biases?: readonly (readonly [number, number])[];
  /** Absent: as the model's template decides. */
  thinking?: boolean;
  tools?: readonly object[];
  toolChoice?: ChatCompletionToolChoice;
  parallelToolCalls?: boolean;
  logprobs?: number;
  documents?: readonly object[];
  templateKwargs?: Readonly<Record<string, unknown>>;
  emitted: readonly number[];
  number?: number;
  keep?: boolean;
}

export interface ReplyReport {
  finishReason: 'stop' | 'length' | 'context' | 'cancelled';
  promptTokens: number;
  readTokens: number;
  readAgain: string | null;
  completionTokens: number;
  /** What went wrong with the memory of conversations. */
  notices: readonly string[];
}

/** What a snapshot held. */
export interface Restored {
  messages: readonly Message[];
  tokens: number;
  /** Keys and values were converted. */
  notice: string | null;
}

interface ModuleStats {
  model: { type: string; parameters: number; layers: number };
  device: { backend: 'webgpu' | 'cpu'; adapter: string; software: boolean; subgroups: boolean; forms: string | null; formsFrom: EngineStats['device']['formsFrom']; f16: boolean };
  contextLength: number;
  weights: number;
  memory: number;
  state: { tokens: number; fixed: number; perToken: number; transformerPerToken: number };
  cache: EngineStats['cache'];
  foundRight: boolean;
  notices: readonly string[];
}

/**
 * Called with a token and the new text of thinking and answer; no id at the end of a reply. `more` is what else there is, as
 * JSON (`web/src/said.ts` reads it).
 */
export type Told = (
  token: number | undefined,
  thinking: string,
  answer: string,
  more: string | undefined,
) => Promise<void> | undefined;

/** Bytes of memory that the module may take in a page of its own: its addresses have 32 bits. */
const MOST_HEAP = 3.5 * 2 ** 30;

/** Adapters on which all kernels were found right. */
const tested = new Set<string>();

/** `Place` of `src/wasm/requests.rs`: what the module is told of a device. */
interface Place {
  device: 'gpu' | 'cpu';
  adapter: string;
  subgroups: readonly [number, number] | null;
  selfTest: boolean;
}

export function placeOn(device: Device, options: LoadOptions): Place {
  const selfTest = (options.selfTest ?? true) && !tested.has(device.adapter);
  return { device: device.kind, adapter: device.adapter, subgroups: device.subgroups, selfTest };
}

/** Once the module has opened the place and found its kernels right: they are tested no more. */
export function foundRight(device: Device, place: Place, right: boolean): void {
  if (place.selfTest && right) tested.add(device.adapter);
}

export class Core {
  readonly #engine: WasmEngine;
  readonly #memory: InitOutput['memory'];
  /** Calls in progress: the module's engine must not be freed meanwhile. */
  readonly #working = new Set<Promise<unknown>>();
  #freed = false;
  readonly device: Device;
  /** Resolves, with the browser's words, when the device is gone. Never on the CPU. */
  readonly lost: Promise<string>;

  private constructor(engine: WasmEngine, memory: InitOutput['memory'], device: Device, opened: GPUDevice | undefined) {
    this.#engine = engine;
    this.#memory = memory;
    this.device = device;
    this.lost = opened ? opened.lost.then((info) => info.message || info.reason) : new Promise(() => {});
  }

  static async load(
    sources: readonly Source[],
    options: LoadOptions,
    progress: (progress: Omit<LoadProgress, 'downloaded'>) => void,
    notice: (notice: Notice) => void,
  ): Promise<Core> {
    progress({ stage: 'runtime', done: 0, total: 0 });
    const { memory } = await startRuntime(options.wasm);
    throwIfAborted(options.signal);
    const device = await chooseDevice(options.device ?? 'auto', notice);
    const place = placeOn(device, options);
    const budget = Math.min(options.memoryBudget ?? Infinity, device.kind === 'cpu' ? MOST_HEAP : Infinity);
    const request = {
      ...place,
      weights: options.weights,
      kv: options.kv,
      contextLength: options.contextLength,
      conversations: options.conversations ?? 1,
      memoryBudget: Number.isFinite(budget) ? Math.floor(budget) : undefined,
      hymbaWindow: options.hymbaWindow,
    };
    const told = (stage: LoadProgress['stage'], done: number, total: number, tensor: string) =>
      progress(tensor === '' ? { stage, done, total } : { stage, done, total, tensor });
    const forms = place.device === 'gpu' && options.store !== false
      ? await StateFolder.open('forms').catch(() => undefined)
      : undefined;
    const [model, ...adapters] = sources.map((source) => polite(source, options.signal));
    const load = () => WasmEngine.load({ ...model!, adapters }, JSON.stringify(request), told, forms);
    const [engine, opened] = await withDevice(device, load).catch((error: unknown) => {
      throw asSelvedgeError(error);
    });
    if (options.signal?.aborted) engine.free();
    throwIfAborted(options.signal);
    const core = new Core(engine, memory, device, opened);
    foundRight(device, place, core.stats().foundRight);
    return core;
  }

  /** Makes a reply; aborting `cancelled` ends it soon. */
  async reply(request: ReplyRequest, cancelled: AbortSignal, told: Told): Promise<ReplyReport> {
    const cancel = new Cancel();
    const stop = () => cancel.cancel();
    if (cancelled.aborted) stop();
    cancelled.addEventListener('abort', stop, { once: true });
    try {
      const report = await this.#work(() => this.#engine.reply(JSON.stringify(request), cancel, told));
      return JSON.parse(report) as ReplyReport;
    } finally {
      cancelled.removeEventListener('abort', stop);
      cancel.free();
    }
  }

  /** Also while a reply is made. */
  stats(): ModuleStats & { heap: number } {
    const stats = JSON.parse(this.#engine.stats()) as ModuleStats;
    return { ...stats, heap: this.#memory.buffer.byteLength };
  }

  snapshot(messages: readonly Message[], told: TemplateOptions): Promise<Uint8Array<ArrayBuffer> | undefined> {
    const bytes = this.#work(() => this.#engine.snapshot(JSON.stringify({ ...told, messages })));
    return bytes as Promise<Uint8Array<ArrayBuffer> | undefined>;
  }

  async restore(snapshot: Uint8Array): Promise<Restored> {
    return JSON.parse(await this.#work(() => this.#engine.restore(snapshot))) as Restored;
  }

  async remembered(messages: readonly Message[], told: TemplateOptions): Promise<Remembered> {
    return JSON.parse(await this.#work(() => this.#engine.remembered(JSON.stringify({ ...told, messages })))) as Remembered;
  }

  /** Keeps the memory of conversations that ask for it in a store too; gives what went wrong. */
  keepIn(store: StateFolder, limit: number): Promise<string[]> {
    return this.#work(() => this.#engine.keepIn(store, limit));
  }

  logits(ids: Uint32Array): Promise<Float32Array> {
    return this.#work(() => this.#engine.logits(ids));
  }

  async embed(inputs: readonly EmbeddingInput[], pooling: Pooling): Promise<Embedded> {
    const embedded = await this.#work(() => this.#engine.embed(JSON.stringify({ inputs, pooling })));
    try {
      return { vectors: embedded.vectors, tokens: embedded.tokens };
    } finally {
      embedded.free();
    }
  }

  greedy(ids: Uint32Array, count: number): Promise<Uint32Array> {
    return this.#work(() => this.#engine.generate(ids, count));
  }

  /** Frees the device's memory, when all that is under way has ended. */
  async free(): Promise<void> {
    this.#freed = true;
    await Promise.allSettled(this.#working);
    this.#engine.free();
  }

  async #work<T>(call: () => Promise<T>): Promise<T> {
    // Whoever waited for something else meanwhile asks a model that is gone.
    if (this.#freed) throw new SelvedgeError('device-lost', 'the model was taken off its device');
    const working = call();
    this.#working.add(working);
    try {
      return await working;
    } catch (error) {
      throw asSelvedgeError(error);
    } finally {
      this.#working.delete(working);
    }
  }
}

/** A source that stops when it is asked to, and lets the page breathe where all bytes are at hand. */
function polite(source: Source, signal: AbortSignal | undefined): Source {
  const turn = new Politeness();
  const between = async () => {
    await turn.pause();
    throwIfAborted(signal);
  };
  return {
    gguf: source.gguf,
    files: source.files,
    describe: (name) => source.describe(name),
    async size(name) {
      await between();
      return source.size(name);
    },
    async read(name, start, end) {
      await between();
      const bytes = await source.read(name, start, end);
      throwIfAborted(signal);
      return bytes;
    },
  };
}
