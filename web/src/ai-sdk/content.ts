/** What a model said, in the AI SDK's words. */

import type {
  JSONArray,
  LanguageModelV4Content,
  LanguageModelV4FinishReason,
  LanguageModelV4Usage,
  SharedV4ProviderMetadata,
} from '@ai-sdk/provider';
import type { CompletionUsage } from '../openai.js';

/** A call, or in a stream a piece of one: the first has id and name, each one more of the arguments. */
export interface Call {
  index?: number;
  id?: string;
  function?: { name?: string; arguments?: string };
}

/** Message, or in a stream a piece of one. Servers send `null` for what is not there. */
export interface Spoken {
  content?: string | null;
  reasoning_content?: string | null;
  tool_calls?: readonly Call[] | null;
}

/** A choice, whole or in a stream. */
export interface Chosen {
  logprobs?: { content?: readonly unknown[] | null } | null;
}

/** The thinking, the text and the calls of a message. */
export function contentOf(message: Spoken | undefined): LanguageModelV4Content[] {
  const { content, reasoning_content, tool_calls } = message ?? {};
  return [
    ...(reasoning_content ? [{ type: 'reasoning' as const, text: reasoning_content }] : []),
    ...(content ? [{ type: 'text' as const, text: content }] : []),
    ...(tool_calls ?? []).map((call, index) => ({
      type: 'tool-call' as const,
      toolCallId: call.id ?? `call-${index}`,
      toolName: call.function?.name ?? '',
      input: call.function?.arguments ?? '',
    })),
  ];
}

/** The probabilities of the tokens, where `providerOptions.selvedge` asks for them. */
export function metadataOf(tokens: readonly unknown[] | null | undefined): { providerMetadata?: SharedV4ProviderMetadata } {
  return tokens && tokens.length > 0 ? { providerMetadata: { selvedge: { logprobs: tokens as JSONArray } } } : {};
}

/** OpenAI's reason for a call that was forced by name is `stop`; a call that is there is to be made. */
export function finishReason(raw: string | null | undefined, called: boolean): LanguageModelV4FinishReason {
  const stop = called ? 'tool-calls' : 'stop';
  const known = { stop, length: 'length', tool_calls: 'tool-calls', content_filter: 'content-filter' } as const;
  return { unified: raw == null ? 'interrupted' : (known[raw as keyof typeof known] ?? 'other'), raw: raw ?? undefined };
}

export function usageOf(usage: CompletionUsage | null | undefined): LanguageModelV4Usage {
  const told = usage as (CompletionUsage & { completion_tokens_details?: { reasoning_tokens?: number } | null }) | null | undefined;
  const total = told?.prompt_tokens;
  const cached = told?.prompt_tokens_details?.cached_tokens;
  const made = told?.completion_tokens;
  const reasoning = told?.completion_tokens_details?.reasoning_tokens;
  return {
    inputTokens: {
      total,
      noCache: total === undefined || cached === undefined ? undefined : total - cached,
      cacheRead: cached,
      cacheWrite: undefined,
    },
    outputTokens: { total: made, text: made === undefined || reasoning === undefined ? undefined : made - reasoning, reasoning },
    ...(told ? { raw: { ...told } as NonNullable<LanguageModelV4Usage['raw']> } : {}),
  };
}
