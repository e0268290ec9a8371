/** What was said in a reply so far: the parts as they are told, and the whole at the end. */

import type { ChatCompletionMessageToolCall, ChatCompletionTokenLogprob } from './openai.js';
import type { FinishReason, ReplyPart, ReplyResult } from './types.js';

/** A piece of a call: a name begins it, arguments go on with it. */
export type CallPiece = { index: number; name: string; id?: string } | { index: number; arguments: string };

/** `more` of `src/wasm/requests.rs`: what comes with a token besides text. */
interface More {
  calls: CallPiece[];
  token: ChatCompletionTokenLogprob | null;
}

/** A name that nothing else has. */
export function unique(prefix: string): string {
  return prefix + Math.random().toString(36).slice(2);
}

export class SaidSoFar {
  readonly #tell: (part: ReplyPart) => void;
  #text = '';
  #thinking = '';
  readonly #calls: ChatCompletionMessageToolCall[] = [];
  readonly #logprobs: ChatCompletionTokenLogprob[] = [];

  constructor(tell: (part: ReplyPart) => void) {
    this.#tell = tell;
  }

  /** Takes what the module tells with a token. */
  take(thinking: string, answer: string, more: string | undefined): void {
    const { calls, token } = more === undefined ? { calls: [], token: null } : (JSON.parse(more) as More);
    if (token) this.score(token);
    this.say(thinking, answer);
    for (const piece of calls) this.call(piece);
  }

  /** A token with its probability, before the text that it completes. */
  score(logprob: ChatCompletionTokenLogprob): void {
    this.#logprobs.push(logprob);
    this.#tell({ type: 'token', text: '', logprob });
  }

  say(thinking: string, answer: string): void {
    if (thinking !== '') this.#tell({ type: 'thinking', text: thinking });
    if (answer !== '') this.#tell({ type: 'answer', text: answer });
    this.#thinking += thinking;
    this.#text += answer;
  }

  call(piece: CallPiece): void {
    const { index } = piece;
    if ('name' in piece) {
      this.#endCall();
      const { id = unique('call_'), name } = piece;
      this.#calls.push({ id, type: 'function', function: { name, arguments: '' } });
      this.#tell({ type: 'tool-call', text: '', index, id, name });
    } else {
      const call = this.#calls.at(-1);
      if (call) call.function.arguments += piece.arguments;
      this.#tell({ type: 'tool-arguments', text: '', index, arguments: piece.arguments });
    }
  }

  /** All of it, when no more comes. */
  end(reason: Exclude<FinishReason, 'tool-calls'>): Omit<ReplyResult, 'usage'> {
    this.#endCall();
    // Some servers send nothing for a call without arguments. One that was cut stays as it is.
    for (const { function: call } of reason === 'stop' ? this.#calls : []) call.arguments ||= '{}';
    return {
      text: this.#text,
      thinking: this.#thinking,
      toolCalls: this.#calls,
      logprobs: this.#logprobs,
      finishReason: reason === 'stop' && this.#calls.length > 0 ? 'tool-calls' : reason,
    };
  }

  #endCall(): void {
    if (this.#calls.length > 0) this.#tell({ type: 'tool-call-end', text: '', index: this.#calls.length - 1 });
  }
}
