/** OpenAI's chat completions over an engine. */

import { SelvedgeError, throwIfAborted } from './errors.js';
import type {
  Chat,
  ChatCompletion,
  ChatCompletionChunk,
  ChatCompletionCreateParams,
  ChatCompletionLogprobs,
  ChatCompletionStream,
  ChatCompletionTokenLogprob,
  CompletionUsage,
} from './openai.js';
import type { Replier } from './reply.js';
import { unique } from './said.js';
import type { FinishReason, GenerateOptions, Grammar, Message, Reply, ReplyPart, ReplyUsage } from './types.js';

/** Most replies to one prompt. */
const MOST_CHOICES = 16;
/** Most tokens beside a chosen one whose probabilities are told; OpenAI's number. */
const MOST_LOGPROBS = 20;

/** Things of OpenAI's that change what a reply is and that are not served: asking for them must not pass silently. */
const REFUSED = [
  'functions',
  'function_call',
  'audio',
  'guided_json',
  'guided_regex',
  'guided_choice',
  'guided_grammar',
  'min_tokens',
  'ignore_eos',
  'bad_words',
  'allowed_token_ids',
  'stop_token_ids',
  'continue_final_message',
  'prompt_logprobs',
] as const;

export function completions(replier: Replier): Chat {
  // One function for the three declared ones: which it is, the request says.
  const create = async (body: ChatCompletionCreateParams, options: { signal?: AbortSignal } = {}) => {
    const head = { id: unique('chatcmpl-'), created: Math.floor(Date.now() / 1000), model: replier.modelName };
    const controller = new AbortController();
    const given = [body.signal, options.signal].filter((signal) => signal !== undefined && signal !== null);
    for (const signal of given) throwIfAborted(signal);
    const signal = AbortSignal.any([controller.signal, ...given]);
    const [said, asked, count] = [messages(body), wishes(body), choices(body)];
    const begin: Begin = (index) => {
      const seed = asked.seed === undefined ? {} : { seed: asked.seed + index };
      return replier.reply(said, { ...asked, ...seed, signal });
    };
    return body.stream ? stream(begin, count, head, controller, body) : await whole(begin, count, head, body);
  };
  return { completions: { create: create as Chat['completions']['create'] } };
}

interface Head {
  id: string;
  created: number;
  model: string;
}

/** Begins the reply of a choice. Each begins when the one before has ended: a model makes one reply at a time. */
type Begin = (index: number) => Reply;

async function whole(begin: Begin, count: number, head: Head, body: ChatCompletionCreateParams): Promise<ChatCompletion> {
  const made: ChatCompletion['choices'] = [];
  const usages: ReplyUsage[] = [];
  for (let index = 0; index < count; index += 1) {
    const { text, thinking, toolCalls, logprobs, finishReason, usage } = await begin(index);
    const content = text === '' && toolCalls.length > 0 ? null : text;
    const reasoning = thinking === '' ? {} : { reasoning_content: thinking };
    const calls = toolCalls.length === 0 ? {} : { tool_calls: [...toolCalls] };
    made.push({
      index,
      finish_reason: reason(finishReason),
      logprobs: body.logprobs ? scored(logprobs) : null,
      message: { role: 'assistant', content, refusal: null, ...reasoning, ...calls },
    });
    usages.push(usage);
  }
  return { ...head, object: 'chat.completion', choices: made, usage: counts(usages) };
}

type Delta = ChatCompletionChunk['choices'][number]['delta'];

function stream(
  begin: Begin,
  count: number,
  head: Head,
  controller: AbortController,
  body: ChatCompletionCreateParams,
): ChatCompletionStream {
  const kind = { ...head, object: 'chat.completion.chunk' as const };
  // The first goes on whether or not anybody reads it; the others wait for that.
  const replies = [begin(0)];
  async function* chunks(index: number): AsyncGenerator<ChatCompletionChunk, ReplyUsage> {
    const reply = (replies[index] ??= begin(index));
    let tokens: ChatCompletionTokenLogprob[] = [];
    const chunk = (delta: Delta, finish_reason: ReturnType<typeof reason> | null = null): ChatCompletionChunk => {
      const logprobs = tokens.length === 0 ? null : scored(tokens);
      tokens = [];
      return { ...kind, choices: [{ index, delta, finish_reason, logprobs }] };
    };
    yield chunk({ role: 'assistant', content: '' });
    for await (const part of reply) {
      // A token without text goes with the next one that has some.
      if (part.type === 'token') tokens.push(part.logprob);
      const said = delta(part);
      if (said) yield chunk(said);
    }
    const { finishReason, usage } = await reply;
    yield chunk({}, reason(finishReason));
    return usage;
  }
  return {
    controller,
    async *[Symbol.asyncIterator]() {
      try {
        const usages: ReplyUsage[] = [];
        for (let index = 0; index < count; index += 1) usages.push(yield* chunks(index));
        if (body.stream_options?.include_usage) yield { ...kind, choices: [], usage: counts(usages) };
      } finally {
        // Whoever leaves the loop early wants no more of it.
        for (const reply of replies) reply.stop();
      }
    },
  };
}

/** A part as OpenAI has it; `undefined` where it has none. */
function delta(part: ReplyPart): Delta | undefined {
  switch (part.type) {
    case 'answer':
      return { content: part.text };
    case 'thinking':
      return { reasoning_content: part.text };
    case 'tool-call': {
      const { index, id, name } = part;
      return { tool_calls: [{ index, id, type: 'function', function: { name, arguments: '' } }] };
    }
    case 'tool-arguments':
      return { tool_calls: [{ index: part.index, function: { arguments: part.arguments } }] };
    default:
      return undefined;
  }
}

function scored(tokens: readonly ChatCompletionTokenLogprob[]): ChatCompletionLogprobs {
  return { content: [...tokens], refusal: null };
}

/** A value that asks for something. */
function asks(value: unknown): boolean {
  return Boolean(value) && !(typeof value === 'object' && value !== null && Object.keys(value).length === 0);
}

function messages(body: ChatCompletionCreateParams): readonly Message[] {
  const refuse = (why: string) => new SelvedgeError('bad-request', why);
  if (!Array.isArray(body.messages) || body.messages.length === 0) throw refuse('`messages` must be a list that is not empty');
  for (const name of REFUSED) {
    if (asks((body as unknown as Record<string, unknown>)[name])) throw refuse(`\`${name}\` is not supported`);
  }
  for (const [index, message] of body.messages.entries()) {
    if (message?.role === 'tool' && typeof message.tool_call_id !== 'string') {
      throw refuse(`messages[${index}]: \`tool_call_id\` must be a text`);
    }
  }
  if (body.tools && !Array.isArray(body.tools)) throw refuse('`tools` must be a list of functions');
  // The module knows the roles and shapes, as the server does.
  return body.messages as readonly Message[];
}

/** Replies to make. */
function choices({ n }: ChatCompletionCreateParams): number {
  const count = n ?? 1;
  if (Number.isInteger(count) && count >= 1 && count <= MOST_CHOICES) return count;
  throw new SelvedgeError('bad-request', `\`n\` must be 1 to ${MOST_CHOICES}`);
}

/** Tokens beside each chosen one whose probabilities are wanted. */
function logprobs({ logprobs, top_logprobs: top }: ChatCompletionCreateParams): number | undefined {
  const refuse = (why: string) => new SelvedgeError('bad-request', why);
  if (!logprobs) {
    if (top) throw refuse('`top_logprobs` needs `logprobs`');
    return undefined;
  }
  if ((logprobs as unknown) !== true) throw refuse('`logprobs` must be true or false');
  const count = top ?? 0;
  if (Number.isInteger(count) && count >= 0 && count <= MOST_LOGPROBS) return count;
  throw refuse(`\`top_logprobs\` must be 0 to ${MOST_LOGPROBS}`);
}

function parsed(json: string): object {
  try {
    return JSON.parse(json) as object;
  } catch (error) {
    throw new SelvedgeError('bad-request', `\`structured_outputs.json\` is no JSON (${String(error)})`);
  }
}

/** What the answer keeps to: `response_format` as OpenAI has it, `structured_outputs` as vLLM has it. */
function grammar(body: ChatCompletionCreateParams): Grammar | undefined {
  const { response_format: format, structured_outputs: outputs } = body;
  const refuse = (why: string) => new SelvedgeError('bad-request', why);
  const object = { jsonSchema: { type: 'object' } };
  let ofFormat: Grammar | undefined;
  if (format && format.type === 'json_schema') {
    const schema = format.json_schema?.schema;
    if (typeof schema !== 'object' || schema === null) throw refuse('`response_format.json_schema.schema` must be a JSON schema');
    ofFormat = { jsonSchema: schema };
  } else if (format && format.type === 'json_object') {
    ofFormat = object;
  } else if (format && format.type !== 'text') {
    throw refuse('the type of `response_format` may be "text", "json_object" or "json_schema"');
  }
  if (!outputs) return ofFormat;
  const said = Object.entries(outputs).filter(([, value]) => value !== undefined && value !== null);
  const { json, json_object, regex, choice, grammar: lark, ...others } = Object.fromEntries(said) as typeof outputs;
  if (json_object === false && said.length === 1) return ofFormat;
  const asked: Grammar[] = [
    ...(json !== undefined ? [{ jsonSchema: typeof json === 'string' ? parsed(json) : json }] : []),
    ...(json_object === true ? [object] : []),
    ...(regex !== undefined ? [{ regex }] : []),
    ...(choice !== undefined ? [{ choice }] : []),
    ...(lark !== undefined ? [{ lark }] : []),
  ];
  const [only] = asked;
  if (!only || asked.length > 1 || Object.keys(others).length > 0) {
    throw refuse('`structured_outputs` has one of `json`, `json_object`, `regex`, `choice`, `grammar`');
  }
  if (ofFormat) throw refuse('`structured_outputs` and `response_format` exclude each other');
  return only;
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
    grammar: grammar(body),
    logitBias: body.logit_bias,
    thinking: body.enable_thinking,
    tools: body.tools,
    toolChoice: body.tool_choice,
    parallelToolCalls: body.parallel_tool_calls,
    logprobs: logprobs(body),
    documents: body.documents,
    templateKwargs: body.chat_template_kwargs,
  };
  const said = Object.entries(wishes).filter(([, value]) => value !== undefined && value !== null);
  return Object.fromEntries(said) as GenerateOptions;
}

/** OpenAI has one value for both ends that the model did not choose. */
function reason(reason: FinishReason): 'stop' | 'length' | 'tool_calls' {
  if (reason === 'tool-calls') return 'tool_calls';
  return reason === 'length' || reason === 'context' ? 'length' : 'stop';
}

/** The sum of all choices; the prompt counts once. */
function counts(usages: readonly ReplyUsage[]): CompletionUsage {
  const { promptTokens, readTokens } = usages[0] ?? { promptTokens: 0, readTokens: 0 };
  const made = usages.reduce((sum, { completionTokens }) => sum + completionTokens, 0);
  return {
    prompt_tokens: promptTokens,
    completion_tokens: made,
    total_tokens: promptTokens + made,
    prompt_tokens_details: { cached_tokens: promptTokens - readTokens },
  };
}
