/** The language model of the AI SDK, over `engine.chat.completions`. */

import type {
  LanguageModelV4,
  LanguageModelV4CallOptions,
  LanguageModelV4GenerateResult,
  LanguageModelV4StreamPart,
  LanguageModelV4StreamResult,
} from '@ai-sdk/provider';
import type { ChatCompletionChunk } from '../openai.js';
import type { EngineInterface } from '../types.js';
import { contentOf, finishReason, metadataOf, usageOf, type Chosen, type Spoken } from './content.js';
import { settings } from './settings.js';
import { PartStream } from './stream.js';

/** What is needed of an engine: one in the page, in a worker, or of a server. */
export type CompletionEngine = Pick<EngineInterface, 'modelName' | 'chat'>;

/** A language model for the AI SDK. The engine stays the caller's, who disposes it. */
export function selvedge(engine: CompletionEngine): LanguageModelV4 {
  return {
    specificationVersion: 'v4',
    provider: 'selvedge',
    modelId: engine.modelName,
    // Text is all that a model reads: nothing is fetched for it.
    supportedUrls: {},
    doGenerate: (options) => generate(engine, options),
    doStream: (options) => stream(engine, options),
  };
}

async function generate(engine: CompletionEngine, options: LanguageModelV4CallOptions): Promise<LanguageModelV4GenerateResult> {
  const { body, warnings } = settings(options);
  const { abortSignal } = options;
  try {
    const completion = await engine.chat.completions.create({ ...body, stream: false }, given(abortSignal));
    const [choice] = completion.choices;
    const content = contentOf(choice?.message as Spoken | undefined);
    const called = content.some(({ type }) => type === 'tool-call');
    const { id, created, model } = completion;
    return {
      content,
      finishReason: finishReason(choice?.finish_reason, called),
      usage: usageOf(completion.usage),
      ...metadataOf((choice as Chosen | undefined)?.logprobs?.content),
      request: { body },
      response: { id, timestamp: new Date(created * 1000), modelId: model, body: completion },
      warnings,
    };
  } catch (error) {
    throw stopped(abortSignal) ?? error;
  }
}

async function stream(engine: CompletionEngine, options: LanguageModelV4CallOptions): Promise<LanguageModelV4StreamResult> {
  const { body, warnings } = settings(options);
  const { abortSignal, includeRawChunks } = options;
  try {
    const asked = { ...body, stream: true as const, stream_options: { include_usage: true } };
    const chunks = await engine.chat.completions.create(asked, given(abortSignal));
    const parts = partsOf(chunks, abortSignal, includeRawChunks ?? false);
    const stream = new ReadableStream<LanguageModelV4StreamPart>({
      start: (to) => to.enqueue({ type: 'stream-start', warnings }),
      async pull(to) {
        const { done, value } = await parts.next();
        if (done) to.close();
        else to.enqueue(value);
      },
      cancel: () => chunks.controller.abort(),
    });
    return { stream, request: { body: asked } };
  } catch (error) {
    throw stopped(abortSignal) ?? error;
  }
}

/** The parts of a stream. What goes wrong in the middle is one of them, behind all that came. */
async function* partsOf(
  chunks: AsyncIterable<ChatCompletionChunk>,
  signal: AbortSignal | undefined,
  raw: boolean,
): AsyncGenerator<LanguageModelV4StreamPart, void, undefined> {
  const parts = new PartStream();
  try {
    for await (const chunk of chunks) {
      if (raw) yield { type: 'raw', rawValue: chunk };
      yield* parts.take(chunk);
    }
  } catch (error) {
    yield* parts.fail(stopped(signal) ?? error);
    return;
  }
  yield* parts.end();
}

function given(signal: AbortSignal | undefined): { signal?: AbortSignal } {
  return signal ? { signal } : {};
}

/** The error by whose name the AI SDK knows a stop that its user asked for. */
function stopped(signal: AbortSignal | undefined): unknown {
  if (!signal?.aborted) return undefined;
  const { reason } = signal as { reason: unknown };
  const known = reason instanceof Error && ['AbortError', 'TimeoutError'].includes(reason.name);
  return known ? reason : new DOMException('the reply was stopped on request', 'AbortError');
}
