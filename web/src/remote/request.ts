/** A request for a reply in OpenAI's shape, from the options of this package. */

import type { ChatCompletionCreateParams, ChatCompletionMessageParam } from '../openai.js';
import type { GenerateOptions, Grammar, Message } from '../types.js';

/** What `chat.ts` reads of a request, the other way round. */
export function request(messages: readonly Message[], options: GenerateOptions): ChatCompletionCreateParams {
  const wishes = {
    max_tokens: options.maxTokens,
    temperature: options.temperature,
    top_k: options.topK,
    top_p: options.topP,
    min_p: options.minP,
    repetition_penalty: options.repetitionPenalty,
    frequency_penalty: options.frequencyPenalty,
    presence_penalty: options.presencePenalty,
    seed: options.seed,
    stop: options.stop,
    ...grammar(options.grammar),
    logit_bias: options.logitBias,
    enable_thinking: options.thinking,
    tools: options.tools,
    tool_choice: options.toolChoice,
    parallel_tool_calls: options.parallelToolCalls,
    ...(options.logprobs === undefined ? {} : { logprobs: true, top_logprobs: options.logprobs }),
    documents: options.documents,
    chat_template_kwargs: options.templateKwargs,
  };
  // What is `undefined` is not sent.
  return { messages: messages as ChatCompletionMessageParam[], ...(wishes as Omit<ChatCompletionCreateParams, 'messages'>) };
}

/** A schema as OpenAI has it, everything else as vLLM has it. */
function grammar(grammar: Grammar | undefined): Pick<ChatCompletionCreateParams, 'response_format' | 'structured_outputs'> {
  if (!grammar) return {};
  if ('jsonSchema' in grammar && typeof grammar.jsonSchema === 'object') {
    const schema = grammar.jsonSchema as Record<string, unknown>;
    return { response_format: { type: 'json_schema', json_schema: { name: 'answer', strict: true, schema } } };
  }
  if ('jsonSchema' in grammar) return { structured_outputs: { json: JSON.stringify(grammar.jsonSchema) } };
  if ('regex' in grammar) return { structured_outputs: { regex: grammar.regex } };
  if ('choice' in grammar) return { structured_outputs: { choice: [...grammar.choice] } };
  return { structured_outputs: { grammar: grammar.lark } };
}
