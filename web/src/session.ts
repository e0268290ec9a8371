/** One conversation: messages, and replies that join them as they come. */

import { SelvedgeError } from './errors.js';
import { RunningReply, type Replier, type TemplateOptions } from './reply.js';
import type { GenerateOptions, Message, Reply, Session, SessionOptions } from './types.js';

export class ChatSession implements Session {
  readonly #replier: Replier;
  #messages: readonly Message[];
  #replying = false;
  /** What the model's template was told with the last message. */
  #told: TemplateOptions = {};

  constructor(replier: Replier, options: SessionOptions = {}) {
    this.#replier = replier;
    const opening: Message[] = options.system ? [{ role: 'system', content: options.system }] : [];
    this.#messages = [...opening, ...(options.messages ?? [])];
  }

  get messages(): readonly Message[] {
    return this.#messages;
  }

  send(text: string, options: GenerateOptions = {}): Reply {
    this.#mustBeQuiet('send');
    return this.#reply([...this.#messages, { role: 'user', content: text }], options);
  }

  regenerate(options: GenerateOptions = {}): Reply {
    this.#mustBeQuiet('regenerate');
    const last = this.#messages.findLastIndex((message) => message.role === 'user');
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
  }

  fork(): Session {
    this.#mustBeQuiet('fork');
    const fork = new ChatSession(this.#replier, { messages: this.#messages });
    fork.#told = this.#told;
    return fork;
  }

  async snapshot(): Promise<Uint8Array<ArrayBuffer>> {
    this.#mustBeQuiet('snapshot');
    const snapshot = await this.#replier.snapshot(this.#messages, this.#told);
    if (!snapshot) throw new SelvedgeError('bad-request', 'nothing of this conversation is remembered: nothing was sent yet');
    return snapshot;
  }

  #reply(prompt: readonly Message[], options: GenerateOptions): Reply {
    const before = this.#messages;
    this.#messages = prompt;
    this.#replying = true;
    let said = '';
    const keep = () => (this.#messages = [...prompt, { role: 'assistant', content: said.trimEnd() }]);
    return new RunningReply(async (tell, cancelled) => {
      try {
        const { signal: _, ...rest } = options;
        const { tools, documents, thinking, templateKwargs } = rest;
        this.#told = { tools, documents, thinking, templateKwargs };
        const reply = this.#replier.reply(prompt, rest);
        cancelled.addEventListener('abort', () => reply.stop(), { once: true });
        if (cancelled.aborted) reply.stop();
        for await (const part of reply) {
          if (part.type === 'answer') {
            said += part.text;
            keep();
          }
          tell(part);
        }
        const result = await reply;
        keep();
        return result;
      } catch (error) {
        // A question without an answer is removed.
        if (said === '') this.#messages = before;
        throw error;
      } finally {
        this.#replying = false;
      }
    }, options.signal);
  }

  #mustBeQuiet(call: string): void {
    if (this.#replying) {
      throw new SelvedgeError('bad-request', `${call} while a reply is under way: await it, or stop() it first`);
    }
  }
}
