/** The shapes of OpenAI's chat completions, as far as a language model alone can serve them. */

/** A piece of a message's content. Only text is read. */
export interface ContentText {
  type: 'text';
  text: string;
}

/** A call that the assistant made. */
export interface ChatCompletionMessageToolCall {
  id: string;
  type: 'function';
  /** `arguments` is JSON as a text. */
  function: { name: string; arguments: string };
}

/** A function that the model may call. */
export interface ChatCompletionTool {
  type: 'function';
  function: { name: string; description?: string; parameters?: Record<string, unknown>; strict?: boolean | null };
}

/** One message of the conversation. Fields beyond these reach the model's chat template too. */
export type ChatCompletionMessageParam =
  | { role: 'system'; content: string | ContentText[]; name?: string }
  | { role: 'developer'; content: string | ContentText[]; name?: string }
  | { role: 'user'; content: string | ContentText[]; name?: string }
  | {
      role: 'assistant';
      content?: string | ContentText[] | null;
      name?: string;
      tool_calls?: ChatCompletionMessageToolCall[];
      reasoning_content?: string;
    }
  | { role: 'tool'; content: string | ContentText[]; tool_call_id: string };

/** Request of a completion. Names and meanings are OpenAI's; those after `seed` are as other local servers have them. */
export interface ChatCompletionCreateParams {
  messages: ChatCompletionMessageParam[];
  /** Anything: an engine has one model. */
  model?: string;
  max_tokens?: number | null;
  max_completion_tokens?: number | null;
  temperature?: number | null;
  top_p?: number | null;
  frequency_penalty?: number | null;
  presence_penalty?: number | null;
  stop?: string | string[] | null;
  seed?: number | null;
  stream?: boolean | null;
  stream_options?: { include_usage?: boolean } | null;
  /** One reply only. */
  n?: number | null;
  top_k?: number;
  min_p?: number;
  repetition_penalty?: number;
  /** Thinking before the answer, of models that can; absent: as the model's template decides. */
  enable_thinking?: boolean;
  /** Described to the model by its template. Its calls come as text, in the model's own form. */
  tools?: ChatCompletionTool[];
  /** Whether the model is told of the tools. It cannot be made to call one. */
  tool_choice?: 'none' | 'auto';
  /** More variables of the model's chat template. */
  chat_template_kwargs?: Record<string, unknown> | null;
  /** Documents to answer from, for templates that read them. */
  documents?: Record<string, unknown>[] | null;
  /** Stops it. May also be given beside, as in OpenAI's client. */
  signal?: AbortSignal;
}

export interface ChatCompletionCreateParamsStreaming extends ChatCompletionCreateParams {
  stream: true;
}

export interface ChatCompletionCreateParamsNonStreaming extends ChatCompletionCreateParams {
  stream?: false | null;
}

export interface CompletionUsage {
  prompt_tokens: number;
  completion_tokens: number;
  total_tokens: number;
  /** Of the prompt, what was remembered and not read again. */
  prompt_tokens_details: { cached_tokens: number };
}

export interface ChatCompletionMessage {
  role: 'assistant';
  content: string;
  refusal: null;
  /** The thinking before the answer, if there was any. */
  reasoning_content?: string;
}

export interface ChatCompletion {
  id: string;
  object: 'chat.completion';
  /** Seconds since 1970. */
  created: number;
  model: string;
  choices: {
    index: number;
    finish_reason: 'stop' | 'length';
    logprobs: null;
    message: ChatCompletionMessage;
  }[];
  usage: CompletionUsage;
}

export interface ChatCompletionChunk {
  id: string;
  object: 'chat.completion.chunk';
  created: number;
  model: string;
  choices: {
    index: number;
    delta: { role?: 'assistant'; content?: string; reasoning_content?: string };
    finish_reason: 'stop' | 'length' | null;
    logprobs: null;
  }[];
  usage?: CompletionUsage | null;
}

/** A reply in chunks. */
export interface ChatCompletionStream extends AsyncIterable<ChatCompletionChunk> {
  /** Stops the reply when it is aborted. */
  readonly controller: AbortController;
}

/** `engine.chat` */
export interface Chat {
  readonly completions: {
    create(body: ChatCompletionCreateParamsStreaming, options?: { signal?: AbortSignal }): Promise<ChatCompletionStream>;
    create(body: ChatCompletionCreateParamsNonStreaming, options?: { signal?: AbortSignal }): Promise<ChatCompletion>;
    create(
      body: ChatCompletionCreateParams,
      options?: { signal?: AbortSignal },
    ): Promise<ChatCompletion | ChatCompletionStream>;
  };
}
