/** A model on a device: the module's engine, with words of this package instead of JSON. */

import { Cancel, Engine as WasmEngine, type InitOutput } from '../pkg/selvedge.js';
import { chooseDevice, withDevice, type Device } from './device.js';
import { asSelvedgeError, throwIfAborted } from './errors.js';
import type { TemplateOptions } from './reply.js';
import { startRuntime } from './runtime.js';
import type { LoadOptions, LoadProgress, Message, Notice, Source } from './types.js';

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
  /** Absent: as the model's template decides. */
  thinking?: boolean;
  tools?: readonly object[];
  documents?: readonly object[];
  templateKwargs?: Readonly<Record<string, unknown>>;
  emitted: readonly number[];
}

export interface ReplyReport {
  finishReason: 'stop' | 'length' | 'context' | 'cancelled';
  promptTokens: number;
  readTokens: number;
  readAgain: string | null;
  completionTokens: number;
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
  device: { backend: 'webgpu' | 'cpu'; adapter: string; software: boolean; subgroups: boolean; f16: boolean };
  contextLength: number;
  weights: number;
  memory: number;
  state: { tokens: number; fixed: number; perToken: number; transformerPerToken: number };
  notices: readonly string[];
}

/** Called with a token and the new text of thinking and answer; no id at the end of a reply. */
export type Told = (token: number | undefined, thinking: string, answer: string) => Promise<void> | undefined;

/** Bytes of memory that the module may take in a page of its own: its addresses have 32 bits. */
const MOST_HEAP = 3.5 * 2 ** 30;

/** Adapters on which all kernels were found right. */
const tested = new Set<string>();

/** `Place` of `src/wasm/requests.rs`: what the module is told of a device. */
interface Place {
  device: 'gpu' | 'cpu';
  subgroups: boolean;
  selfTest: boolean;
}

export function placeOn(device: Device, options: LoadOptions): Place {
  const selfTest = (options.selfTest ?? true) && !tested.has(device.adapter);
  return { device: device.kind, subgroups: device.subgroups, selfTest };
}

/** Once the module has opened the place: its kernels are tested no more. */
export function foundRight(device: Device, place: Place): void {
  if (place.selfTest) tested.add(device.adapter);
}

export class Core {
  readonly #engine: WasmEngine;
  readonly #memory: InitOutput['memory'];
  /** Calls in progress: the module's engine must not be freed meanwhile. */
  readonly #working = new Set<Promise<unknown>>();
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
    source: Source,
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
    const load = () => WasmEngine.load(polite(source, options.signal), JSON.stringify(request), told);
    const [engine, opened] = await withDevice(device, load).catch((error: unknown) => {
      throw asSelvedgeError(error);
    });
    foundRight(device, place);
    if (options.signal?.aborted) engine.free();
    throwIfAborted(options.signal);
    return new Core(engine, memory, device, opened);
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

  logits(ids: Uint32Array): Promise<Float32Array> {
    return this.#work(() => this.#engine.logits(ids));
  }

  greedy(ids: Uint32Array, count: number): Promise<Uint32Array> {
    return this.#work(() => this.#engine.generate(ids, count));
  }

  /** Frees the device's memory, when all that is under way has ended. */
  async free(): Promise<void> {
    await Promise.allSettled(this.#working);
    this.#engine.free();
  }

  async #work<T>(call: () => Promise<T>): Promise<T> {
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

/** Milliseconds of work after which a page is let do its own. */
const SLICE = 30;

/** Gives the page its turn when it has waited long enough; `undefined` when it has not. */
export class Politeness {
  #since = performance.now();

  pause(): Promise<void> | undefined {
    if (performance.now() - this.#since < SLICE) return undefined;
    return new Promise((resolve) => {
      // A message comes after what the page has to do already, and unlike a timer's it is not held back.
      const { port1, port2 } = new MessageChannel();
      port1.onmessage = () => {
        port1.close();
        this.#since = performance.now();
        resolve();
      };
      port2.postMessage(null);
    });
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
