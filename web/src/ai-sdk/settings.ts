/** A call of the AI SDK as a request in OpenAI's shape, with warnings for what has no place in it. */

import type { LanguageModelV4CallOptions, SharedV4Warning } from '@ai-sdk/provider';
import type { ChatCompletionCreateParams, ChatCompletionTool } from '../openai.js';
import { messages } from './prompt.js';

/**
 * Fields of a request that the AI SDK has no name for, as `providerOptions.selvedge`: `min_p`, `repetition_penalty`,
 * `logit_bias`, `structured_outputs`, `chat_template_kwargs`, `documents`.
 */
export type SelvedgeProviderOptions = Omit<ChatCompletionCreateParams, 'messages' | 'model' | 'stream' | 'signal'>;

/** A request, but for its streaming. */
type Body = Omit<ChatCompletionCreateParams, 'stream' | 'signal'>;

export function settings(options: LanguageModelV4CallOptions): { body: Body; warnings: SharedV4Warning[] } {
  const warnings: SharedV4Warning[] = [];
  const unsupported = (feature: string, details: string) => warnings.push({ type: 'unsupported', feature, details });
  const tools: ChatCompletionTool[] = [];
  for (const tool of options.tools ?? []) {
    if (tool.type !== 'function') {
      unsupported(`the tool ${tool.id}`, 'nobody would run it: tools of providers are those of their own models');
      continue;
    }
    const { name, description, inputSchema, strict } = tool;
    const parameters = inputSchema as Record<string, unknown>;
    tools.push({ type: 'function', function: defined({ name, description, parameters, strict }) });
  }
  if (Object.keys(options.headers ?? {}).some((name) => name.toLowerCase() !== 'user-agent')) {
    unsupported('headers', 'an engine has none of a call; give those of a server to `connect`');
  }
  const { reasoning = 'provider-default' } = options;
  if (reasoning !== 'provider-default' && reasoning !== 'none') {
    const details = 'thinking is on or off: it is on';
    warnings.push({ type: 'compatibility', feature: `reasoning: ${reasoning}`, details });
  }
  const asked = {
    messages: messages(options.prompt, unsupported),
    max_tokens: options.maxOutputTokens,
    temperature: options.temperature,
    top_k: options.topK,
    top_p: options.topP,
    presence_penalty: options.presencePenalty,
    frequency_penalty: options.frequencyPenalty,
    stop: options.stopSequences,
    seed: options.seed,
    response_format: format(options.responseFormat),
    enable_thinking: reasoning === 'provider-default' ? undefined : reasoning !== 'none',
    ...(tools.length > 0 ? { tools, tool_choice: choice(options.toolChoice) } : {}),
  };
  const more = (options.providerOptions?.['selvedge'] ?? {}) as SelvedgeProviderOptions;
  return { body: { ...more, ...(defined(asked) as Body) }, warnings };
}

/** The same without what is `undefined`. */
function defined<T extends object>(fields: T): { [Name in keyof T]: Exclude<T[Name], undefined> } {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined)) as never;
}

function format(asked: LanguageModelV4CallOptions['responseFormat']): ChatCompletionCreateParams['response_format'] {
  if (asked?.type !== 'json') return undefined;
  if (!asked.schema) return { type: 'json_object' };
  const schema = asked.schema as Record<string, unknown>;
  const named = defined({ name: asked.name ?? 'answer', description: asked.description, strict: true, schema });
  return { type: 'json_schema', json_schema: named };
}

function choice(asked: LanguageModelV4CallOptions['toolChoice']): unknown {
  return asked?.type === 'tool' ? { type: 'function', function: { name: asked.toolName } } : asked?.type;
}
