/** One conversation: messages, and replies that join them as they come. */

import { SelvedgeError } from './errors.js';
import { RunningReply, type Replier, type Said, type TemplateOptions } from './reply.js';
import type {
  GenerateOptions,
  Message,
  Remembered,
  Reply,
  Session,
  SessionOptions,
  StoredSessionOptions,
} from './types.js';

/** Milliseconds between two writes of a reply that grows. */
const WRITE = 500;

let conversations = 0;

/** A number that no other conversation of this thread has. */
function nextNumber(): number {
  conversations += 1;
  return conversations;
}

/** The conversations of an engine. */
export class Sessions {
  readonly #replier: Replier;
  /** Those of the browser's store, by their ids. */
  readonly #stored = new Map<string, Promise<ChatSession>>();
  /** Replies under way. */
  readonly #replies = new Set<Promise<unknown>>();

  constructor(replier: Replier) {
    this.#replier = replier;
  }

  open(options: StoredSessionOptions): Promise<Session>;
  open(options?: SessionOptions): Session;
  open(options: SessionOptions & { id?: string } = {}): Session | Promise<Session> {
    const { id } = options;
    if (id === undefined) return new ChatSession(this.#replier, this, options);
    if (typeof id !== 'string') throw new SelvedgeError('bad-request', `the id of a conversation must be a text`);
    const open = async () => {
      const { stored, kept } = await this.#replier.openSession(id);
      // Another time it may be kept.
      if (kept === 'elsewhere') this.#stored.delete(id);
      const session = new ChatSession(this.#replier, this, { ...options, keep: true }, kept === true ? id : undefined);
      if (stored) session.goOn(stored);
      return session;
    };
    let session = this.#stored.get(id);
    if (!session) {
      session = open();
      session.catch(() => this.#stored.delete(id));
      this.#stored.set(id, session);
    }
    return session;
  }

  /** Lets others open a conversation of the store. */
  async close(id: string): Promise<void> {
    this.#stored.delete(id);
    await this.#replier.closeSession(id);
  }

  /** A reply is under way in a conversation, until it is stored. */
  replying(reply: Promise<unknown>): void {
    this.#replies.add(reply);
    void reply.catch(() => {}).then(() => this.#replies.delete(reply));
  }

  /** Waits until no reply is under way. */
  async quiet(): Promise<void> {
    await Promise.allSettled(this.#replies);
  }
}

export class ChatSession implements Session {
  readonly #replier: Replier;
  readonly #sessions: Sessions;
  /** Its name in the browser's store. */
  #id: string | undefined;
  readonly #keep: boolean;
  #number = nextNumber();
  #messages: readonly Message[];
  #replying = false;
  /** What the model's template was told with the last message. */
  #told: TemplateOptions = {};
  #written = 0;

  constructor(replier: Replier, sessions: Sessions, options: SessionOptions = {}, id?: string) {
    this.#replier = replier;
    this.#sessions = sessions;
    this.#id = id;
    this.#keep = options.keep ?? false;
    const opening: Message[] = options.system ? [{ role: 'system', content: options.system }] : [];
    this.#messages = [...opening, ...(options.messages ?? [])];
  }

  get messages(): readonly Message[] {
    return this.#messages;
  }

  /** Takes up what is stored of it. */
  goOn({ messages, told }: Said): void {
    this.#messages = messages;
    this.#told = told;
  }

  async close(): Promise<void> {
    this.#mustBeQuiet('close');
    if (this.#id === undefined) return;
    const id = this.#id;
    this.#id = undefined;
    await this.#sessions.close(id);
  }

  remembered(): Promise<Remembered> {
    return this.#replier.remembered(this.#messages, this.#told, this.#keep);
  }

  send(said: string | readonly Message[], options: GenerateOptions = {}): Reply {
    this.#mustBeQuiet('send');
    const more: readonly Message[] = typeof said === 'string' ? [{ role: 'user', content: said }] : said;
    return this.#reply([...this.#messages, ...more], options);
  }

  regenerate(options: GenerateOptions = {}): Reply {
    this.#mustBeQuiet('regenerate');
    const last = this.#messages.findLastIndex((message) => message.role === 'user' || message.role === 'tool');
    if (last < 0) throw new SelvedgeError('bad-request', 'there is no message to reply to yet: use send');
    return this.#reply(this.#messages.slice(0, last + 1), options);
  }

  rewind(count: number): void {
    this.#mustBeQuiet('rewind');
    if (!Number.isInteger(count) || count < 0 || count > this.#messages.length) {
      const { length } = this.#messages;
      throw new SelvedgeError('bad-request', `the conversation has ${length} messages, of which ${count} cannot be kept`);
    }
    this.#messages = this.#messages.slice(0, count);
    void this.#save();
  }

  fork(): Session {
    this.#mustBeQuiet('fork');
    const fork = new ChatSession(this.#replier, this.#sessions, { messages: this.#messages, keep: this.#keep });
    fork.#told = this.#told;
    // What is remembered under the number of before stays at the place where both part.
    this.#number = nextNumber();
    return fork;
  }

  async snapshot(): Promise<Uint8Array<ArrayBuffer>> {
    this.#mustBeQuiet('snapshot');
    const snapshot = await this.#replier.snapshot(this.#messages, this.#told);
    if (!snapshot) throw new SelvedgeError('bad-request', 'nothing of this conversation is remembered: nothing was sent yet');
    return snapshot;
  }

  #reply(prompt: readonly Message[], options: GenerateOptions): Reply {
    // Rejected before anything is said.
    if (options.signal?.aborted) return this.#replier.reply(prompt, options);
    const before = this.#messages;
    this.#messages = prompt;
    this.#replying = true;
    void this.#save();
    let said = '';
    let called: Pick<Message, 'tool_calls'> = {};
    const keep = () => (this.#messages = [...prompt, { role: 'assistant', content: said.trimEnd(), ...called }]);
    const reply = new RunningReply(async (tell, cancelled) => {
      try {
        const { signal: _, ...rest } = options;
        const { tools, toolChoice, documents, thinking, templateKwargs } = rest;
        this.#told = { tools, toolChoice, documents, thinking, templateKwargs };
        const reply = this.#replier.reply(prompt, rest, { number: this.#number, keep: this.#keep });
        cancelled.addEventListener('abort', () => reply.stop(), { once: true });
        if (cancelled.aborted) reply.stop();
        for await (const part of reply) {
          if (part.type === 'answer') {
            said += part.text;
            keep();
            if (performance.now() - this.#written > WRITE) void this.#save();
          }
          tell(part);
        }
        const result = await reply;
        const calls = result.toolCalls.filter(({ function: { arguments: json } }) => isObject(json));
        if (calls.length > 0) called = { tool_calls: calls };
        keep();
        return result;
      } catch (error) {
        // A question without an answer is removed.
        if (said === '') this.#messages = before;
        throw error;
      } finally {
        this.#replying = false;
        // What is told to be whole is stored.
        await this.#save();
      }
    }, options.signal);
    this.#sessions.replying(Promise.resolve(reply));
    return reply;
  }

  /** Writes what was said, if it has a place; a failure is a notice of the engine's. */
  async #save(): Promise<void> {
    if (this.#id === undefined) return;
    this.#written = performance.now();
    await this.#replier.saveSession(this.#id, { messages: this.#messages, told: this.#told }).catch(() => {});
  }

  #mustBeQuiet(call: string): void {
    if (this.#replying) {
      throw new SelvedgeError('bad-request', `${call} while a reply is under way: await it, or stop() it first`);
    }
  }
}

/** Whether arguments are those of a whole call: templates read no others. */
function isObject(json: string): boolean {
  try {
    const value: unknown = JSON.parse(json);
    return typeof value === 'object' && value !== null && !Array.isArray(value);
  } catch {
    return false;
  }
}
