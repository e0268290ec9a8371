/**
 * The words of the package: what goes in and what comes out. {@link EngineInterface} is what `Engine` (in this
 * thread) and `WorkerEngine` (over a worker) both are.
 */

import type {
  Chat,
  ChatCompletionMessageToolCall,
  ChatCompletionTokenLogprob,
  ChatCompletionToolChoice,
  Embeddings,
} from './openai.js';

/** Source of a model's bytes. Ranges, never whole files: a model may be larger than memory. */
export interface Source {
  /**
   * Name of the GGUF file that is the model, or of the first one of its files. Without it the model is `config.json` and
   * safetensors, or the only GGUF model among `files`.
   */
  readonly gguf?: string | undefined;
  /** Names of the files, where they can be listed. */
  readonly files?: readonly string[] | undefined;
  /** A file's full name for people: an address, a path. The empty name is the place itself. */
  describe(name: string): string;
  /** The length of a file in bytes; `null` when there is no such file. */
  size(name: string): Promise<number | null>;
  /** Exactly the bytes from `start` up to `end`. */
  read(name: string, start: number, end: number): Promise<Uint8Array>;
}

/**
 * Names a model:
 * - `"org/name"` or `"org/name@revision"`: on the hub; behind either, `":TAG"` (as in `:Q4_K_M`) or `":FILE.gguf"` names a GGUF
 *   model among others;
 * - an absolute URL, or a path that begins with `/` or `.`: a folder of files on a server, or a file that ends with `.gguf`, and
 *   perhaps a query;
 * - a `File` (GGUF), or `File[]` or `FileList`, as `<input type="file" webkitdirectory>` gives them;
 * - a directory handle, as `showDirectoryPicker()` gives it;
 * - files in memory, by name;
 * - anything that is a {@link Source}.
 *
 * A model folder is what Hugging Face has: `config.json`, `tokenizer.json`, `tokenizer_config.json`, and
 * `model.safetensors` or its shards with `model.safetensors.index.json`; of a model for embeddings also
 * `1_Pooling/config.json`, which is read for the first embedding whose pooling is not given. Of a GGUF model, one file (or
 * `NAME-00001-of-0000N.gguf` and the others beside it) stands for all of them; only the ranges that are needed are read.
 */
export type ModelReference =
  | string
  | URL
  | File
  | ArrayLike<File>
  | FileSystemDirectoryHandle
  | ReadonlyMap<string, Uint8Array>
  | Readonly<Record<string, Uint8Array>>
  | Source;

/**
 * Device to run on. `auto`: on WebGPU where the browser has it on a real GPU, else on the CPU, with a notice. `gpu`: also on
 * one that is software.
 */
export type DeviceChoice = 'auto' | 'gpu' | 'cpu';

/**
 * Storage format of the matrices on the device. `auto`: as the model has them. Of a model of the network, the quantised form
 * (`q8`, `q4`, or `q4m`, which has minimums too) is what the browser's store keeps.
 */
export type WeightChoice = 'auto' | 'f32' | 'f16' | 'bf16' | 'q8' | 'q4' | 'q4m';

/** Stage of a load. */
export type LoadStage =
  /** Fetching and compiling the WebAssembly module. */
  | 'runtime'
  /** Finding the model's files and reading config, tokenizer and headers. */
  | 'open'
  /** Opening the device and testing its kernels. */
  | 'device'
  /** Moving weights from where they lie (network, store, files) to the device. `done` of `total` bytes. */
  | 'weights'
  /** Everything is there. */
  | 'ready';

/** Progress of a load. */
export interface LoadProgress {
  readonly stage: LoadStage;
  /** Bytes of the checkpoint that are on the device. 0 before the stage `weights`. */
  readonly done: number;
  /** Bytes of the checkpoint that the model needs. 0 while unknown. */
  readonly total: number;
  /** Bytes that came over the network so far. What comes from the store is not counted. */
  readonly downloaded: number;
  /** The tensor on its way, in the stage `weights`. */
  readonly tensor?: string;
}

/** Something that went differently from what one might expect, in words for a person. */
export interface Notice {
  readonly code:
    /** There is no WebGPU here, or only in software: the model runs on the CPU. */
    | 'cpu'
    /** The same, and there is a `fallbackUrl`: replies come from that server. */
    | 'remote'
    /** The GPU is software: right answers, slowly. */
    | 'software-gpu'
    /** Downloads are not kept (private window, no space, another tab is writing): the next load fetches them again. */
    | 'no-store'
    /** A conversation, or the memory of it, is not kept (private window, no space, open in another tab). */
    | 'not-kept'
    /** Less is remembered than might be: no room on the device or in the store, or a state of the store was damaged. */
    | 'memory'
    /** Something in the model's files is not followed; `stats().notices` has those of the load. */
    | 'model'
    /** A damaged piece of the store was fetched again. */
    | 'repaired'
    /** The device was lost and the model is there again. */
    | 'restored';
  readonly message: string;
}

/** Options of a load. */
export interface LoadOptions {
  readonly device?: DeviceChoice;
  readonly weights?: WeightChoice;
  /** Storage format of keys and values; `f32` by default. */
  readonly kv?: 'f32' | 'f16';
  /** Tokens of one conversation; by default what the model was made for, at most 8192. */
  readonly contextLength?: number;
  /** Conversations whose memory is kept on the device at the same time; others are read again. 1 by default. */
  readonly conversations?: number;
  /** Most bytes of memory to take for weights and conversations; a model that needs more is refused. */
  readonly memoryBudget?: number;
  /** Told how far the load is. */
  readonly onProgress?: (progress: LoadProgress) => void;
  /** Told what may surprise, also while loading; the same as `engine.on("notice", …)` afterwards. */
  readonly onNotice?: (notice: Notice) => void;
  /** Stops the load; the promise is then rejected with the code `aborted`. */
  readonly signal?: AbortSignal;
  /** True (the default): downloads are kept in the browser for the next load, and so are forms of kernels that were measured. */
  readonly store?: boolean;
  /**
   * Most bytes that the memory of conversations may take in the browser's store; those of other models go first, and then
   * those written longest ago. By default a quarter of what the browser gives the page, and 2 GiB at most.
   */
  readonly stateBytes?: number;
  /** The hub's address; `https://huggingface.co` by default. */
  readonly hub?: string;
  /** Sent to the hub as a bearer token, for models that are not public. */
  readonly token?: string;
  /**
   * Compares a GPU's kernels with the CPU's before a model runs on it for the first time, so that a GPU that
   * computes wrongly is an error and not gibberish; true by default. Takes moments on a real GPU.
   */
  readonly selfTest?: boolean;
  /**
   * LoRA adapters, each a folder as PEFT writes it, that are merged into the model while it is loaded, in this order. Of a model
   * that is wanted quantised, the sum is quantised, and not kept. In a worker none can be a {@link Source}.
   */
  readonly lora?: readonly ModelReference[];
  /** For Hymba: which keys windowed layers see, as in training (the default) or as the official `generate()`. */
  readonly hymbaWindow?: 'training' | 'generate';
  /** The WebAssembly module, where it does not lie beside the package's JavaScript: its address, bytes or module. */
  readonly wasm?: string | URL | BufferSource | WebAssembly.Module;
}

/** Options of the connection to a server. */
export interface ConnectOptions {
  /** Sent as a bearer token. Whoever can open the page can read it. */
  readonly apiKey?: string;
  /** The server's name of the model; needed where it serves several. */
  readonly remoteModel?: string;
  /** More headers of every request. */
  readonly headers?: Readonly<Record<string, string>>;
  /** Attempts after the first where a server is busy or cannot be reached; 2 by default. */
  readonly retries?: number;
  /** Stops connecting; the promise is then rejected with the code `aborted`. */
  readonly signal?: AbortSignal;
  readonly onNotice?: (notice: Notice) => void;
}

/**
 * Options of a load that has a server to ask where `device: 'auto'` would take the CPU, or `device: 'gpu'` finds none: nothing
 * is downloaded then, and replies come from the server. With `device: 'cpu'` it is never asked.
 */
export interface FallbackOptions extends LoadOptions, ConnectOptions {
  /**
   * Address of `selvedge serve`, or of any server with OpenAI's interface: its root, or the address that ends with `/v1`. The
   * server must let the page ask (`selvedge serve --cors ORIGIN`).
   */
  readonly fallbackUrl: string | URL | undefined;
  readonly signal?: AbortSignal;
  readonly onNotice?: (notice: Notice) => void;
}

/** A role (`system`, `user`, `assistant` or `tool`) and a text. Every field reaches the model's chat template. */
export interface Message {
  readonly role: 'system' | 'user' | 'assistant' | 'tool';
  /** A text, or parts of the type `text`. */
  readonly content?: string | readonly { readonly type: 'text'; readonly text: string }[] | null;
  /** Calls that the assistant made, in OpenAI's shape; the template gets their arguments as objects. */
  readonly tool_calls?: readonly object[];
  /** Which call a `tool` message answers. */
  readonly tool_call_id?: string;
  readonly name?: string;
  /** The assistant's thinking before the answer. */
  readonly reasoning_content?: string;
}

/**
 * What an answer keeps to: JSON of a schema, a regular expression that all of it matches, one of some texts, or a grammar in
 * Lark's notation (the dialect of llguidance). At every token the model chooses among those that may come next.
 */
export type Grammar =
  | { readonly jsonSchema: object | boolean }
  | { readonly regex: string }
  | { readonly choice: readonly string[] }
  | { readonly lark: string };

/** Options of a reply. Absent ones are as the model's makers recommend (`generation_config.json`). */
export interface GenerateOptions {
  /** Most tokens of the reply. */
  readonly maxTokens?: number;
  /** Temperature; 0, or less than 0.00001: always the most probable token. */
  readonly temperature?: number;
  /** Choose among so many of the most probable tokens; 0: all. */
  readonly topK?: number;
  /** Choose among the fewest tokens that make up this much of the probability. */
  readonly topP?: number;
  /** Leave out tokens with less than this share of the largest probability. */
  readonly minP?: number;
  readonly repetitionPenalty?: number;
  readonly frequencyPenalty?: number;
  readonly presencePenalty?: number;
  /** The same seed gives the same text on the same device; without one every reply has its own. */
  readonly seed?: number;
  /** Texts that end the reply; they are no part of it. */
  readonly stop?: string | readonly string[];
  /** What the answer keeps to; absent: anything. Thinking that the template opens comes before it. */
  readonly grammar?: Grammar;
  /** Token ids, and what is added to their logits, from -100 (never) to 100 (always). */
  readonly logitBias?: Readonly<Record<number, number>>;
  /** Thinking before the answer, of models that can: on or off; by default as the model's template decides. */
  readonly thinking?: boolean;
  /** Functions that the model may call, in OpenAI's shape, as its template describes them to it. */
  readonly tools?: readonly object[];
  /**
   * Calls of them: `auto` (the default), `none`, or a call that must be made, of any (`required`) or of one by its name. A
   * grammar has the model write such a call, so that its arguments are what the function's schema says.
   */
  readonly toolChoice?: ChatCompletionToolChoice;
  /** False: calls behind the first are left out. */
  readonly parallelToolCalls?: boolean;
  /** Tokens with their probabilities, and so many of the most probable ones at each place: 0 to 20; absent: none. */
  readonly logprobs?: number;
  /** Documents to answer from, for templates that read them. */
  readonly documents?: readonly object[];
  /** More variables of the model's template. */
  readonly templateKwargs?: Readonly<Record<string, unknown>>;
  /** Stops the reply: the iterator then throws a `SelvedgeError` with the code `aborted`. */
  readonly signal?: AbortSignal;
}

/** A piece of a reply as it comes. `text` is empty but for the answer and the thinking. */
export type ReplyPart =
  | { readonly type: 'answer' | 'thinking'; readonly text: string }
  /** A call of a tool begins. */
  | { readonly type: 'tool-call'; readonly text: ''; readonly index: number; readonly id: string; readonly name: string }
  /** Its arguments go on: JSON, piece by piece. */
  | { readonly type: 'tool-arguments'; readonly text: ''; readonly index: number; readonly arguments: string }
  /** Its arguments are whole, or the reply ended amid them. */
  | { readonly type: 'tool-call-end'; readonly text: ''; readonly index: number }
  /** A token with its probability, where that is wanted (`logprobs`); the text that it completes comes after it. */
  | { readonly type: 'token'; readonly text: ''; readonly logprob: ChatCompletionTokenLogprob };

/** Why a reply ended: the model ended it, with calls of tools or without, `maxTokens`, the context is full, `stop()`. */
export type FinishReason = 'stop' | 'tool-calls' | 'length' | 'context' | 'cancelled';

/**
 * Counts and times of a reply. 0 where a server does not tell, as of a reply that was stopped; `completionTokens` then counts
 * the pieces that came.
 */
export interface ReplyUsage {
  /** Tokens of the whole conversation up to the reply. */
  readonly promptTokens: number;
  /** Tokens of the prompt that were read in this turn; the others were remembered. */
  readonly readTokens: number;
  /** Why tokens were read again that had been read before: a sentence without a full stop; `null` where none were. */
  readonly readAgain: string | null;
  /** Tokens of the reply. */
  readonly completionTokens: number;
  /** Milliseconds from the request to the first token. */
  readonly firstTokenMs: number;
  /** Tokens made a second, after the first one. 0 when there is only one. */
  readonly tokensPerSecond: number;
}

/** A whole reply. */
export interface ReplyResult {
  readonly text: string;
  /** The thinking before the answer, without its tags. */
  readonly thinking: string;
  /** Calls of tools; each answer to one is a message with its `id` as `tool_call_id`. */
  readonly toolCalls: readonly ChatCompletionMessageToolCall[];
  /** The tokens with their probabilities, where those are wanted. */
  readonly logprobs: readonly ChatCompletionTokenLogprob[];
  readonly finishReason: FinishReason;
  readonly usage: ReplyUsage;
}

/**
 * A reply under way: `for await (const part of reply)` gives it as it comes, `await reply` gives all of it. It goes
 * on whether or not anybody reads it.
 */
export interface Reply extends AsyncIterable<ReplyPart>, PromiseLike<ReplyResult> {
  /** Ends the reply after the tokens that are in flight; the text so far stays in the conversation. */
  stop(): void;
}

/** Options of a conversation. */
export interface SessionOptions {
  /** The system message. It is left out where the model's template has no place for one. */
  readonly system?: string | null;
  /** A conversation to go on with. */
  readonly messages?: readonly Message[];
  /**
   * True: the engine's memory of the conversation is kept in the browser's store too, so that nothing of it is read again
   * after a reload, a crash of the tab, or in another tab. False by default.
   */
  readonly keep?: boolean;
}

/** Options of a conversation that the browser's store keeps. */
export interface StoredSessionOptions extends SessionOptions {
  /** Its name in the store: any text. Where a conversation is there already, `system` and `messages` are not used. */
  readonly id: string;
}

/** How much of a conversation need not be read again. */
export interface Remembered {
  /** Tokens of its messages. */
  readonly tokens: number;
  /** Those of them that are remembered: on the device, or in the browser's store. */
  readonly remembered: number;
}

/** One conversation. A turn reads its own tokens only, as long as the engine remembers those before. */
export interface Session {
  /** The messages so far; a reply in progress is the last one, and grows. A new array each time. */
  readonly messages: readonly Message[];
  /** Says something, or answers calls with `tool` messages. Only one reply of a session can be under way. */
  send(said: string | readonly Message[], options?: GenerateOptions): Reply;
  /** Takes the last reply back and makes another one. */
  regenerate(options?: GenerateOptions): Reply;
  /** Keeps the first `count` messages and forgets the others. Editing is `rewind(n)` and `send(text)`. */
  rewind(count: number): void;
  /**
   * A second conversation that begins with the same messages. What both have in common is remembered once. The fork of a
   * conversation with an `id` has none.
   */
  fork(): Session;
  /** How much of the conversation is remembered. Reads nothing, and waits for a reply under way. */
  remembered(): Promise<Remembered>;
  /** Lets another tab open the conversation, or `removeSession` remove it; what is said in it afterwards is not stored. */
  close(): Promise<void>;
  /**
   * The conversation and the engine's memory of it, for `engine.restore`: in this engine or another one of the same model,
   * on any device, also as the file of `selvedge chat --session`. Rejected with `bad-request` where nothing is remembered.
   */
  snapshot(): Promise<Uint8Array<ArrayBuffer>>;
}

/** Description of an engine, and of its last reply. Sizes in bytes. */
export interface EngineStats {
  readonly model: {
    /** As it was asked for: `org/name`, an address, the name of a folder. */
    readonly name: string;
    /** `hymba`, `falcon_h1`, … */
    readonly type: string;
    readonly parameters: number;
    readonly layers: number;
  };
  readonly device: {
    /** `remote`: replies come from a server, which tells neither sizes nor layers; they are 0. */
    readonly backend: 'webgpu' | 'cpu' | 'remote';
    /** The GPU's name as far as the browser tells; the server's address. */
    readonly adapter: string;
    /** A GPU that is really a CPU. */
    readonly software: boolean;
    readonly subgroups: boolean;
    /** Forms of the kernels that have several, as they were measured to be fastest here; `null` where there are none. */
    readonly forms: string | null;
    /** Measured by this load, or by an earlier one of the same shapes; `unmeasured` where kernels were found wrong. */
    readonly formsFrom: 'unmeasured' | 'measured' | 'kept' | null;
    readonly f16: boolean;
  };
  /** Tokens that one conversation can hold. */
  readonly contextLength: number;
  readonly memory: {
    readonly weights: number;
    /** All conversations' memory, as allocated. */
    readonly state: number;
    /** The heap of the WebAssembly module. */
    readonly heap: number;
  };
  /** The memory of one conversation: `fixed + perToken * tokens`. */
  readonly state: {
    /** Tokens of the conversation that was read or made last. */
    readonly tokens: number;
    /** Size of its memory now. */
    readonly bytes: number;
    readonly fixed: number;
    readonly perToken: number;
    /**
     * The same for a transformer of that size: every layer keeps the keys and values of every token, as wide as this
     * model's own and in the same format.
     */
    readonly transformerPerToken: number;
    readonly transformerBytes: number;
  };
  /** What is remembered of all conversations, so that it need not be read again. */
  readonly cache: {
    /** Places in conversations from which a reply can go on. */
    readonly checkpoints: number;
    /** Their size on the device, beside the keys and values that they share. */
    readonly bytes: number;
    /** Checkpoints made since the load, and those of them that made room for others. */
    readonly made: number;
    readonly dropped: number;
    /** Tokens of all prompts since the load, those of them that were not read again, and those that came from the store. */
    readonly promptTokens: number;
    readonly cachedTokens: number;
    readonly storedTokens: number;
    /** States in the browser's store, also of other models; `null` while nothing is kept there. */
    readonly store: { readonly states: number; readonly bytes: number } | null;
  };
  /** Sentences on what is odd about the model's files though it runs: tensors that nothing reads, for one. */
  readonly notices: readonly string[];
  /** Counts and times of the last reply; `null` before the first. */
  readonly last: ReplyUsage | null;
}

/** Events of an engine. */
export interface EngineEvents {
  /** The device is gone. The engine rebuilds itself and goes on with the reply under way; `restored` is the notice. */
  devicelost: { readonly message: string };
  /** An allocation failed, or would not fit. */
  memory: { readonly message: string };
  notice: Notice;
}

/** A model in the browser's store. */
export interface StoredModel {
  /** Name for `Engine.load` and `Engine.remove`. */
  readonly name: string;
  /** Format of the stored weights, where they are quantised; absent where the model itself is stored. */
  readonly weights?: WeightChoice;
  /** Bytes that are there. */
  readonly bytes: number;
  /** Bytes of the files that are there in part or whole. */
  readonly total: number;
  /** Milliseconds since 1970 of the last load; 0 when unknown. */
  readonly used: number;
}

/** A conversation in the browser's store. */
export interface StoredSession {
  readonly id: string;
  /** The model with which it was had last, as `engine.stats()` names it. */
  readonly model: string;
  readonly messages: readonly Message[];
  /** Milliseconds since 1970 of the last change. */
  readonly used: number;
}

/** Access to logits and plain generation. */
export interface TokenInterface {
  /** The logits of every token: `[tokens, vocabulary]`, row by row. */
  logits(ids: ArrayLike<number>): Promise<Float32Array>;
  /** The tokens that follow, the most probable one each time; fewer than `count` when the model ends the text. */
  greedy(ids: ArrayLike<number>, count: number): Promise<Uint32Array>;
}

/** A loaded model. `Engine` and `WorkerEngine` are both one, and so is `RemoteEngine`, as far as a server can. */
export interface EngineInterface {
  /** As `stats()` names the model. */
  readonly modelName: string;
  /** Address of the server that the replies come from; `null` where the model is in this page. */
  readonly remote: string | null;
  /** OpenAI's shape: `engine.chat.completions.create({ messages, stream: true })`. */
  readonly chat: Chat;
  /** OpenAI's shape: `engine.embeddings.create({ input: ['a text', 'another'] })`. */
  readonly embeddings: Embeddings;
  /** Begins a conversation. */
  session(options?: SessionOptions): Session;
  /**
   * Goes on with the conversation that the browser's store has under this id, or begins it. What is said in it is stored as
   * it comes, and the engine's memory of it after each message. Where it cannot be kept (private window, no space, open in
   * another tab) a notice says so, and it goes on unkept. After a tab was closed before an answer began, the last message is
   * the user's: `regenerate()` answers it.
   */
  session(options: StoredSessionOptions): Promise<Session>;
  /**
   * Goes on with the conversation of a `snapshot()`: nothing of it is read again. Rejected with `bad-state` where the bytes
   * are damaged or of another model. Bytes of others are to be trusted as much as their model: they tell the engine what
   * it has read.
   */
  restore(snapshot: Uint8Array): Promise<Session>;
  stats(): Promise<EngineStats>;
  /** Below words: token ids in, numbers out, each on a text of its own. */
  readonly tokens: TokenInterface;
  /** Listens; the function that is returned stops listening. */
  on<Name extends keyof EngineEvents>(name: Name, listener: (event: EngineEvents[Name]) => void): () => void;
  /** Stops what is under way and frees the device's memory. */
  dispose(): Promise<void>;
}

/** Functions of `Engine` and `WorkerEngine` that need no model. */
export interface EngineStatics {
  load(model: ModelReference, options?: LoadOptions): Promise<EngineInterface>;
  /** Models in the browser's store; empty where there is no store. */
  models(): Promise<StoredModel[]>;
  /** Removes a model from the store; false when it was not there. */
  remove(name: string): Promise<boolean>;
  /** Conversations in the browser's store, the one changed last first. */
  sessions(): Promise<StoredSession[]>;
  /**
   * Removes a conversation from the store; false when it was not there, `bad-request` while it is open. What is remembered of
   * it, its text included, stays until room is needed: `forget()` removes that.
   */
  removeSession(id: string): Promise<boolean>;
  /** Removes what is remembered of all conversations from the store. Their messages stay, and are read again. */
  forget(): Promise<void>;
}
