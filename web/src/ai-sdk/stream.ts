/** The chunks of a reply as parts of the AI SDK's stream: blocks that begin, grow and end. */

import type { LanguageModelV4StreamPart } from '@ai-sdk/provider';
import type { ChatCompletionChunk, CompletionUsage } from '../openai.js';
import { finishReason, metadataOf, usageOf, type Call, type Chosen, type Spoken } from './content.js';

type Parts = Generator<LanguageModelV4StreamPart, void, undefined>;

/** The block that grows: thinking, text, or a call's arguments. */
type Block =
  | { readonly type: 'text' | 'reasoning'; readonly id: string }
  | { readonly type: 'tool-input'; readonly id: string; readonly index: number; readonly name: string; input: string };

export class PartStream {
  #block: Block | undefined;
  #blocks = 0;
  #begun = false;
  #called = false;
  #reason: string | undefined;
  #usage: CompletionUsage | undefined;
  readonly #tokens: unknown[] = [];

  *take(chunk: ChatCompletionChunk): Parts {
    if (!this.#begun) {
      this.#begun = true;
      const { id, created, model } = chunk;
      yield { type: 'response-metadata', id, timestamp: new Date(created * 1000), modelId: model };
    }
    this.#usage = chunk.usage ?? this.#usage;
    const choice = chunk.choices.find(({ index }) => index === 0);
    if (!choice) return;
    this.#tokens.push(...((choice as Chosen).logprobs?.content ?? []));
    const { content, reasoning_content, tool_calls } = choice.delta as Spoken;
    if (reasoning_content) yield* this.#say('reasoning', reasoning_content);
    if (content) yield* this.#say('text', content);
    for (const call of tool_calls ?? []) yield* this.#call(call);
    if (choice.finish_reason) {
      this.#reason = choice.finish_reason;
      yield* this.#close();
    }
  }

  *end(): Parts {
    yield* this.#close();
    const ended = finishReason(this.#reason, this.#called);
    yield { type: 'finish', finishReason: ended, usage: usageOf(this.#usage), ...metadataOf(this.#tokens) };
  }

  *fail(error: unknown): Parts {
    yield { type: 'error', error };
    yield { type: 'finish', finishReason: { unified: 'error', raw: undefined }, usage: usageOf(this.#usage) };
  }

  *#say(type: 'text' | 'reasoning', delta: string): Parts {
    if (this.#block?.type !== type) {
      yield* this.#close();
      this.#block = { type, id: this.#nextId(type) };
      yield { type: `${type}-start`, id: this.#block.id };
    }
    yield { type: `${type}-delta`, id: this.#block.id, delta };
  }

  *#call(call: Call): Parts {
    const index = call.index ?? 0;
    const delta = call.function?.arguments ?? '';
    let block = this.#block;
    // Some servers give no number, or the same one to every call.
    if (block?.type !== 'tool-input' || block.index !== index || (call.id && call.id !== block.id)) {
      yield* this.#close();
      const [id, name] = [call.id ?? this.#nextId('call'), call.function?.name ?? ''];
      block = { type: 'tool-input', id, index, name, input: '' };
      this.#block = block;
      this.#called = true;
      yield { type: 'tool-input-start', id, toolName: name };
    }
    if (delta === '') return;
    block.input += delta;
    yield { type: 'tool-input-delta', id: block.id, delta };
  }

  *#close(): Parts {
    const block = this.#block;
    this.#block = undefined;
    if (!block) return;
    yield { type: `${block.type}-end`, id: block.id };
    if (block.type !== 'tool-input') return;
    yield { type: 'tool-call', toolCallId: block.id, toolName: block.name, input: block.input };
  }

  #nextId(type: string): string {
    this.#blocks += 1;
    return `${type}-${this.#blocks}`;
  }
}
