/** OpenAI's chat completions over an engine. */

import { SelvedgeError, aborted } from './errors.js';
import type {
  Chat,
  ChatCompletion,
  ChatCompletionChunk,
  ChatCompletionCreateParams,
  ChatCompletionMessageParam,
  ChatCompletionStream,
  ChatCompletionTool,
  CompletionUsage,
} from './openai.js';
import type { Replier } from './reply.js';
import type { FinishReason, GenerateOptions, Message, Reply, ReplyUsage } from './types.js';

/** Things of OpenAI's that change what a reply is and that are not served: asking for them must not pass silently. */
const REFUSED = ['functions', 'function_call', 'response_format', 'logprobs', 'audio', 'logit_bias'] as const;

export function completions(replier: Replier): Chat {
  // One function for the three declared ones: which it is, the request says.
  const create = async (body: ChatCompletionCreateParams, options: { signal?: AbortSignal } = {}) => {
    const head = {
      id: `chatcmpl-${Math.random().toString(36).slice(2)}`,
      created: Math.floor(Date.now() / 1000),
      model: replier.modelName,
    };
    const controller = new AbortController();
    for (const signal of [body.signal, options.signal]) {
      if (signal?.aborted) throw aborted(signal);
      signal?.addEventListener('abort', () => controller.abort(signal.reason), { once: true });
    }
    const reply = replier.reply(messages(body), { ...wishes(body), signal: controller.signal });
    return body.stream ? stream(reply, head, controller, body) : await whole(reply, head);
  };
  return { completions: { create: create as Chat['completions']['create'] } };
}

interface Head {
  id: string;
  created: number;
  model: string;
}

async function whole(reply: Reply, head: Head): Promise<ChatCompletion> {
  const { text, thinking, finishReason, usage } = await reply;
  const reasoning = thinking === '' ? {} : { reasoning_content: thinking };
  return {
    ...head,
    object: 'chat.completion',
    choices: [
      {
        index: 0,
        finish_reason: reason(finishReason),
        logprobs: null,
        message: { role: 'assistant', content: text, refusal: null, ...reasoning },
      },
    ],
    usage: counts(usage),
  };
}

function stream(
  reply: Reply,
  head: Head,
  controller: AbortController,
  body: ChatCompletionCreateParams,
): ChatCompletionStream {
  type Choice = ChatCompletionChunk['choices'][number];
  const chunk = (delta: Choice['delta'], finish_reason: Choice['finish_reason'] = null): ChatCompletionChunk => ({
    ...head,
    object: 'chat.completion.chunk',
    choices: [{ index: 0, delta, finish_reason, logprobs: null }],
  });
  async function* chunks() {
    yield chunk({ role: 'assistant', content: '' });
    for await (const { type, text } of reply) {
      yield chunk(type === 'answer' ? { content: text } : { reasoning_content: text });
    }
    const { finishReason, usage } = await reply;
    yield chunk({}, reason(finishReason));
    if (body.stream_options?.include_usage) {
      yield { ...head, object: 'chat.completion.chunk' as const, choices: [], usage: counts(usage) };
    }
  }
  return {
    controller,
    async *[Symbol.asyncIterator]() {
      try {
        yield* chunks();
      } finally {
        // Whoever leaves the loop early wants no more of it.
        reply.stop();
      }
    },
  };
}

function messages(body: ChatCompletionCreateParams): Message[] {
  if (!Array.isArray(body.messages)) throw new SelvedgeError('bad-request', '`messages` must be a list');
  for (const name of REFUSED) {
    const value = (body as unknown as Record<string, unknown>)[name];
    if (value !== undefined && value !== null && value !== false) {
      throw new SelvedgeError('bad-request', `\`${name}\` is not supported`);
    }
  }
  if ((body.n ?? 1) !== 1) throw new SelvedgeError('bad-request', '`n` must be 1');
  return body.messages.map(message);
}

function message(message: ChatCompletionMessageParam, index: number): Message {
  const known = { system: 'system', developer: 'system', user: 'user', assistant: 'assistant', tool: 'tool' } as const;
  const { role, content } = message;
  const told = known[role] as Message['role'] | undefined;
  const where = `messages[${index}]`;
  const refuse = (why: string) => new SelvedgeError('bad-request', `${where}: ${why}`);
  if (!told) throw refuse(`the role \`${role}\` is not supported`);
  if (message.role === 'tool' && typeof message.tool_call_id !== 'string') throw refuse('`tool_call_id` must be a text');
  if (Array.isArray(content)) {
    for (const part of content) {
      if (part.type !== 'text') throw refuse(`a part of the type \`${String(part.type)}\` is not supported`);
    }
  } else if (typeof content !== 'string' && !(message.role === 'assistant' && Array.isArray(message.tool_calls))) {
    throw refuse('`content` must be a text');
  }
  return { ...message, role: told };
}

function tools(tools: ChatCompletionCreateParams['tools']): ChatCompletionCreateParams['tools'] {
  if (tools === undefined || tools === null) return tools;
  const sound = (tool: ChatCompletionTool) =>
    (tool?.type as string) === 'function' && typeof tool.function?.name === 'string';
  if (!Array.isArray(tools) || !tools.every(sound)) {
    throw new SelvedgeError('bad-request', '`tools` must be a list of functions, each with a name');
  }
  return tools;
}

/** The tools that the model is told of. Nothing makes a model call one: only its own choice, and none, can be asked for. */
function offered(body: ChatCompletionCreateParams): ChatCompletionCreateParams['tools'] {
  const choice: unknown = body.tool_choice ?? 'auto';
  if (choice !== 'auto' && choice !== 'none') {
    const name = typeof choice === 'string' ? choice : JSON.stringify(choice);
    throw new SelvedgeError('bad-request', `\`tool_choice\` may be "auto" or "none"; \`${name}\` is not supported`);
  }
  const all = tools(body.tools);
  return choice === 'none' ? undefined : all;
}

function wishes(body: ChatCompletionCreateParams): GenerateOptions {
  const wishes = {
    maxTokens: body.max_completion_tokens ?? body.max_tokens,
    temperature: body.temperature,
    topK: body.top_k,
    topP: body.top_p,
    minP: body.min_p,
    repetitionPenalty: body.repetition_penalty,
    frequencyPenalty: body.frequency_penalty,
    presencePenalty: body.presence_penalty,
    seed: body.seed,
    stop: body.stop,
    thinking: body.enable_thinking,
    tools: offered(body),
    documents: body.documents,
    templateKwargs: body.chat_template_kwargs,
  };
  const said = Object.entries(wishes).filter(([, value]) => value !== undefined && value !== null);
  return Object.fromEntries(said) as GenerateOptions;
}

/** OpenAI has one value for both ends that the model did not choose. */
function reason(reason: FinishReason): 'stop' | 'length' {
  return reason === 'length' || reason === 'context' ? 'length' : 'stop';
}

function counts({ promptTokens, readTokens, completionTokens }: ReplyUsage): CompletionUsage {
  return {
    prompt_tokens: promptTokens,
    completion_tokens: completionTokens,
    total_tokens: promptTokens + completionTokens,
    prompt_tokens_details: { cached_tokens: promptTokens - readTokens },
  };
}
