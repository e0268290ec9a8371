/** Chat completions of a server, whole or as a stream of events. */

import { SelvedgeError, aborted, throwIfAborted } from '../errors.js';
import type {
  Chat,
  ChatCompletion,
  ChatCompletionChunk,
  ChatCompletionCreateParams,
  ChatCompletionStream,
} from '../openai.js';
import { codeOf, notTheInterface, told, words, type Client } from './client.js';
import { events } from './sse.js';

const PATH = '/chat/completions';

/** Server and model that requests go to. */
export interface Destination {
  readonly client: Client;
  readonly model: string;
  /** Aborted when the engine is disposed, with the error that says so. */
  readonly disposal: AbortSignal;
  /** Told the numbers of tokens of each reply, as far as the server tells them. */
  readonly counted: (usage: ChatCompletion['usage']) => void;
}

/** Requests go to the server as they are, but for the model, of which an engine has one. */
export function remoteCompletions(to: Destination): Chat {
  const create = async (asked: ChatCompletionCreateParams, options: { signal?: AbortSignal } = {}) => {
    const { signal: own, ...rest } = asked;
    const body = { ...rest, model: to.model };
    const controller = new AbortController();
    const given = [own, options.signal].filter((signal) => signal !== undefined);
    for (const signal of given) throwIfAborted(signal);
    const signal = AbortSignal.any([controller.signal, to.disposal, ...given]);
    try {
      if (!body.stream) {
        const completion = await to.client.json<ChatCompletion>(PATH, body, signal);
        if (!Array.isArray(completion.choices)) throw notTheInterface(to.client.address + PATH, JSON.stringify(completion));
        for (const { message } of completion.choices) nameThinking(message);
        if (completion.usage) to.counted(completion.usage);
        return completion;
      }
      const response = await to.client.request(PATH, body, signal);
      if (/^(text\/html|application\/json)\b/.test(response.headers.get('content-type') ?? '')) {
        throw notTheInterface(to.client.address + PATH, await response.text().catch(words));
      }
      return { controller, [Symbol.asyncIterator]: () => chunks(to, response, body.n ?? 1, controller, signal) } satisfies ChatCompletionStream;
    } catch (error) {
      throw to.disposal.aborted ? to.disposal.reason : error;
    }
  };
  return { completions: { create: create as Chat['completions']['create'] } };
}

/** The chunks of a stream. One that ends before its reply does is an error, as a server that died ends it too. */
async function* chunks(
  to: Destination,
  response: Response,
  choices: number,
  controller: AbortController,
  signal: AbortSignal,
): AsyncGenerator<ChatCompletionChunk, void, undefined> {
  const { address } = to.client;
  /** Choices that have not ended. */
  const open = new Set(Array.from({ length: choices }, (_, index) => index));
  const broken = (why: string, cause?: unknown) =>
    new SelvedgeError('interrupted', `the reply of the server at ${address} broke off in the middle (${why})`, { cause });
  try {
    if (!response.body || response.body.locked) throw new SelvedgeError('bad-request', 'a stream can be read once');
    for await (const data of events(response.body)) {
      if (data === '[DONE]') return;
      const chunk = parsed(address, data);
      for (const { index, delta, finish_reason } of chunk.choices) {
        nameThinking(delta);
        if (finish_reason) open.delete(index);
        else open.add(index);
      }
      if (chunk.usage) to.counted(chunk.usage);
      yield chunk;
    }
    if (open.size > 0) throw broken('the connection ended');
  } catch (error) {
    if (to.disposal.aborted) throw to.disposal.reason;
    if (signal.aborted) throw aborted(signal);
    throw error instanceof SelvedgeError ? error : broken(words(error), error);
  } finally {
    // Whoever leaves the loop early wants no more of it.
    controller.abort();
  }
}

function parsed(address: string, data: string): ChatCompletionChunk {
  let chunk: ChatCompletionChunk;
  try {
    chunk = JSON.parse(data) as ChatCompletionChunk;
  } catch (cause) {
    throw notTheInterface(address, data, cause);
  }
  const error = told(chunk);
  if (error) {
    // The stream had begun, so there is no status: a fault of the server but for what it names.
    throw new SelvedgeError(codeOf(500, error.code), `the server at ${address} gave the reply up: ${error.message}`);
  }
  if (!Array.isArray(chunk?.choices)) throw notTheInterface(address, data);
  return chunk;
}

/** Servers have two names for the thinking before an answer; this package has `reasoning_content`. */
function nameThinking(part: { reasoning_content?: string; reasoning?: string | null } | undefined): void {
  if (part && typeof part.reasoning === 'string') part.reasoning_content ??= part.reasoning;
}
