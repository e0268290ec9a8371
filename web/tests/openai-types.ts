// Compiles only if the package's shapes are OpenAI's own. Never run.

import type OpenAI from 'openai';
import type { Chat, CreateEmbeddingResponse, ChatCompletion, ChatCompletionChunk, ChatCompletionCreateParams, EngineInterface } from '../src/index.js';

type Completions = OpenAI.Chat.Completions;

/** What a program written for OpenAI's client reads of ours. */
export const whole = (ours: ChatCompletion): OpenAI.Chat.ChatCompletion => ours;
export const chunk = (ours: ChatCompletionChunk): OpenAI.Chat.ChatCompletionChunk => ours;

export const vectors = (ours: CreateEmbeddingResponse): OpenAI.CreateEmbeddingResponse => ours;

/** What ours takes, theirs takes, but for what other local servers have beside it. */
type Theirs = OpenAI.Chat.ChatCompletionCreateParams;
type Local =
  | 'top_k'
  | 'min_p'
  | 'repetition_penalty'
  | 'enable_thinking'
  | 'chat_template_kwargs'
  | 'documents'
  | 'signal'
  | 'model';
export const request = (ours: Omit<ChatCompletionCreateParams, Local>): Omit<Theirs, 'model'> =>
  ours as Omit<ChatCompletionCreateParams, Local> satisfies Omit<Theirs, 'model' | 'stream'> as Omit<Theirs, 'model'>;

/** One program for both. */
export async function ask(client: OpenAI, engine: EngineInterface, signal: AbortSignal): Promise<string> {
  const messages = [{ role: 'user' as const, content: 'Hello.' }];
  const body = { model: 'any', messages, temperature: 0, max_completion_tokens: 8, stop: ['\n'], seed: 1 };
  const answers = [
    await client.chat.completions.create(body, { signal }),
    await engine.chat.completions.create(body, { signal }),
  ];
  let text = answers.map(({ choices }) => choices[0]?.message.content).join();
  const streaming = { ...body, stream: true as const, stream_options: { include_usage: true } };
  const call = { type: 'function' as const, function: { name: 'look', parameters: { type: 'object' } } };
  const calling = { ...body, n: 2, logprobs: true, top_logprobs: 3, tools: [call], tool_choice: call, parallel_tool_calls: false };
  for (const { choices } of [
    await client.chat.completions.create(calling),
    await engine.chat.completions.create(calling),
  ]) {
    for (const { message, logprobs } of choices) {
      for (const call of message.tool_calls ?? []) if (call.type === 'function') text += call.function.arguments;
      for (const { token, top_logprobs } of logprobs?.content ?? []) text += token + top_logprobs[0]?.token;
    }
  }
  for (const stream of [
    await client.chat.completions.create(streaming),
    await engine.chat.completions.create(streaming),
  ]) {
    for await (const { choices } of stream) {
      text += choices[0]?.delta.content ?? '';
      for (const { index, id, function: named } of choices[0]?.delta.tool_calls ?? []) text += `${index}${id}${named?.name}`;
    }
  }
  return text;
}

/** Both have a `completions.create`. */
export const both = (theirs: Completions, ours: Chat['completions']): unknown[] => [theirs.create, ours.create];
