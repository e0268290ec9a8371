/** An engine whose replies come from a server: what `Engine` is, as far as a server can. */

import { SelvedgeError, disposed, throwIfAborted } from '../errors.js';
import { Emitter } from '../events.js';
import type { Chat, CompletionUsage, Embeddings } from '../openai.js';
import { RunningReply, type Conversation, type OpenedSession, type Replier, type Said } from '../reply.js';
import { SaidSoFar } from '../said.js';
import { Sessions } from '../session.js';
import { SessionFiles } from '../store/sessions.js';
import type {
  ConnectOptions,
  EngineEvents,
  EngineInterface,
  EngineStats,
  FinishReason,
  GenerateOptions,
  Message,
  Remembered,
  Reply,
  ReplyPart,
  ReplyResult,
  ReplyUsage,
  Session,
  SessionOptions,
  StoredSessionOptions,
  TokenInterface,
} from '../types.js';
import { Client } from './client.js';
import { remoteCompletions } from './completions.js';
import { remoteEmbeddings } from './embeddings.js';
import { request } from './request.js';

/** Milliseconds for a server to say which models it has. */
const PATIENCE = 30_000;

/** The server in place of a model in this page. */
interface Fallback {
  /** The reason why there is none. */
  readonly why: string;
  /** The name by which it was asked for. */
  readonly wanted: string | undefined;
}

/** A model of a server; the length of a context as vLLM and `selvedge serve` tell it. */
interface Served {
  readonly id: string;
  readonly max_model_len?: number;
}

/** Connects to a server with OpenAI's interface, such as `selvedge serve`. Rejected with a {@link SelvedgeError}. */
export function connect(url: string | URL, options: ConnectOptions = {}): Promise<RemoteEngine> {
  return RemoteEngine.connect(url, options);
}

export class RemoteEngine implements EngineInterface, Replier {
  readonly modelName: string;
  readonly remote: string;
  readonly chat: Chat;
  readonly embeddings: Embeddings;
  readonly tokens: TokenInterface = {
    logits: () => this.#refuse('logits are numbers of the device'),
    greedy: () => this.#refuse('token ids stay on the server'),
  };
  readonly #contextLength: number;
  readonly #events: Emitter<EngineEvents>;
  readonly #disposal = new AbortController();
  readonly #sessions = new Sessions(this);
  readonly #files: SessionFiles;
  #promptTokens = 0;
  #cachedTokens = 0;
  #last: ReplyUsage | null = null;
  #toldOfMemory = false;

  private constructor(client: Client, model: Served, events: Emitter<EngineEvents>) {
    this.modelName = model.id;
    this.remote = client.address;
    this.#contextLength = model.max_model_len ?? 0;
    this.#events = events;
    this.#files = new SessionFiles(model.id, (notice) => events.emit('notice', notice));
    const counted = ({ prompt_tokens, completion_tokens, prompt_tokens_details }: CompletionUsage) => {
      const cached = prompt_tokens_details?.cached_tokens ?? 0;
      this.#promptTokens += prompt_tokens;
      this.#cachedTokens += cached;
      const counts = { promptTokens: prompt_tokens, readTokens: prompt_tokens - cached, completionTokens: completion_tokens };
      this.#last = { ...counts, readAgain: null, firstTokenMs: 0, tokensPerSecond: 0 };
    };
    this.embeddings = remoteEmbeddings(client, model.id, this.#disposal.signal);
    this.chat = remoteCompletions({ client, model: model.id, disposal: this.#disposal.signal, counted });
  }

  static async connect(url: string | URL, options: ConnectOptions, fallback?: Fallback): Promise<RemoteEngine> {
    const { signal, onNotice, remoteModel } = options;
    throwIfAborted(signal);
    const events = new Emitter<EngineEvents>();
    if (onNotice) events.on('notice', onNotice);
    const client = new Client(url, options);
    const model = await findModel(client, remoteModel, fallback?.wanted, signal).catch((error: unknown) => {
      if (!fallback || !(error instanceof SelvedgeError) || error.code === 'aborted') throw error;
      const { code, message, status, retryAfter } = error;
      throw new SelvedgeError(code, `${fallback.why}, and ${message}`, { cause: error, status, retryAfter });
    });
    if (fallback) {
      const message = `${fallback.why}: replies come from the server at ${client.address}, of its model \`${model.id}\``;
      events.emit('notice', { code: 'remote', message });
    }
    return new RemoteEngine(client, model, events);
  }

  session(options: StoredSessionOptions): Promise<Session>;
  session(options?: SessionOptions): Session;
  session(options: SessionOptions | StoredSessionOptions = {}): Session | Promise<Session> {
    if (options.keep && !this.#toldOfMemory) {
      this.#toldOfMemory = true;
      const message = `the memory of conversations is the server's (${this.remote}): it is not kept in the browser`;
      this.#events.emit('notice', { code: 'not-kept', message });
    }
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

  remembered(): Promise<Remembered> {
    return this.#refuse('what is remembered of a conversation is known there; `usage` of a reply tells what was read');
  }

  snapshot(): Promise<never> {
    return this.#refuse('the memory of a conversation stays there');
  }

  restore(_snapshot: Uint8Array): Promise<Session> {
    return this.#refuse('a snapshot is for a model in this page');
  }

  reply(messages: readonly Message[], options: GenerateOptions, _conversation?: Conversation): Reply {
    const { signal, ...rest } = options;
    return new RunningReply((tell, cancelled) => this.#reply(messages, rest, tell, cancelled), signal);
  }

  async stats(): Promise<EngineStats> {
    if (this.#disposal.signal.aborted) throw disposed();
    const [promptTokens, cachedTokens] = [this.#promptTokens, this.#cachedTokens];
    const state = { tokens: 0, bytes: 0, fixed: 0, perToken: 0, transformerPerToken: 0, transformerBytes: 0 };
    return {
      model: { name: this.modelName, type: '', parameters: 0, layers: 0 },
      device: { backend: 'remote', adapter: this.remote, software: false, subgroups: false, forms: null, formsFrom: null, f16: false },
      contextLength: this.#contextLength,
      memory: { weights: 0, state: 0, heap: 0 },
      state,
      cache: { checkpoints: 0, bytes: 0, made: 0, dropped: 0, promptTokens, cachedTokens, storedTokens: 0, store: null },
      notices: [],
      last: this.#last,
    };
  }

  on<Name extends keyof EngineEvents>(name: Name, listener: (event: EngineEvents[Name]) => void): () => void {
    return this.#events.on(name, listener);
  }

  async dispose(): Promise<void> {
    this.#disposal.abort(disposed());
    await this.#sessions.quiet();
    await this.#files.closeAll();
  }

  async #reply(
    messages: readonly Message[],
    options: GenerateOptions,
    tell: (part: ReplyPart) => void,
    cancelled: AbortSignal,
  ): Promise<ReplyResult> {
    const began = performance.now();
    const said = new SaidSoFar(tell);
    let [first, last, pieces] = [0, 0, 0];
    let call: { index: number; id: string | undefined } | undefined;
    let ended: string | undefined;
    let usage: CompletionUsage | undefined;
    const body = { ...request(messages, options), stream: true as const, stream_options: { include_usage: true } };
    try {
      for await (const chunk of await this.chat.completions.create(body, { signal: cancelled })) {
        usage = chunk.usage ?? usage;
        const [choice] = chunk.choices;
        ended = choice?.finish_reason ?? ended;
        if (!choice) continue;
        // Servers send `null` for what is not there.
        const { content: answer, reasoning_content: thinking, tool_calls } = choice.delta;
        const [content, thought, calls] = [answer ?? '', thinking ?? '', tool_calls ?? []];
        for (const token of choice.logprobs?.content ?? []) said.score(token);
        if (content === '' && thought === '' && calls.length === 0) continue;
        last = performance.now();
        first ||= last;
        pieces += 1;
        said.say(thought, content);
        // Some servers give no number, or the same one to every call.
        for (const { index = 0, id, function: piece } of calls) {
          if (index !== call?.index || (id && id !== call.id)) {
            said.call({ index, name: piece?.name ?? '', ...(id ? { id } : {}) });
            call = { index, id };
          }
          if (piece?.arguments) said.call({ index, arguments: piece.arguments });
        }
      }
    } catch (error) {
      // A stop that was asked for; the text so far is the reply's.
      if (!(error instanceof SelvedgeError) || error.code !== 'aborted') throw error;
      ended = 'cancelled';
    }
    const promptTokens = usage?.prompt_tokens ?? 0;
    const completionTokens = usage?.completion_tokens ?? pieces;
    const seconds = (last - first) / 1000;
    const counts = {
      promptTokens,
      readTokens: promptTokens - (usage?.prompt_tokens_details?.cached_tokens ?? 0),
      readAgain: null,
      completionTokens,
      firstTokenMs: first === 0 ? 0 : first - began,
      tokensPerSecond: completionTokens > 1 && seconds > 0 ? (completionTokens - 1) / seconds : 0,
    };
    this.#last = counts;
    const full = this.#contextLength > 0 && promptTokens + completionTokens >= this.#contextLength;
    return { ...said.end(reason(ended ?? 'stop', full)), usage: counts };
  }

  #refuse(why: string): Promise<never> {
    return Promise.reject(new SelvedgeError('not-remote', `replies come from the server at ${this.remote}: ${why}`));
  }
}

function reason(ended: string, full: boolean): Exclude<FinishReason, 'tool-calls'> {
  if (ended === 'cancelled') return 'cancelled';
  if (ended === 'length') return full ? 'context' : 'length';
  return 'stop';
}

/** The model to ask: the one that is named, the one that was wanted, or the only one. */
async function findModel(
  client: Client,
  named: string | undefined,
  wanted: string | undefined,
  signal: AbortSignal | undefined,
): Promise<Served> {
  const models = await listModels(client, signal).catch((error: unknown) => {
    // Some servers have no list.
    if (named !== undefined && error instanceof SelvedgeError && error.code === 'not-found') return [{ id: named }];
    throw error;
  });
  const found = models.find(({ id }) => id === (named ?? wanted));
  if (found) return found;
  const [only] = models;
  if (named === undefined && only && models.length === 1) return only;
  const names = models.map(({ id }) => `\`${id}\``).join(', ') || 'none';
  const has = `the server at ${client.address} has the models: ${names}`;
  if (named !== undefined) throw new SelvedgeError('not-found', `${has}; \`${named}\` is not among them`);
  throw new SelvedgeError(only ? 'bad-request' : 'not-found', `${has}; name one with \`remoteModel\``);
}

async function listModels(client: Client, signal: AbortSignal | undefined): Promise<Served[]> {
  const silence = AbortSignal.timeout(PATIENCE);
  const either = signal ? AbortSignal.any([signal, silence]) : silence;
  const list = await client.json<{ data?: unknown } | null>('/models', undefined, either).catch((error: unknown) => {
    if (!silence.aborted || signal?.aborted) throw error;
    throw new SelvedgeError('network', `the server at ${client.address} says nothing for ${PATIENCE / 1000} seconds`);
  });
  const isServed = (model: unknown): model is Served => typeof (model as Served | null)?.id === 'string';
  return Array.isArray(list?.data) ? list.data.filter(isServed) : [];
}
