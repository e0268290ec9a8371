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

/** A token with its log probability, of the model's own distribution: before temperature and penalties. */
export interface ChatCompletionTokenLogprob {
  token: string;
  logprob: number;
  bytes: number[] | null;
  /** The most probable tokens, the first one most of all. */
  top_logprobs: { token: string; logprob: number; bytes: number[] | null }[];
}

/** What the model may do with its tools: one that must be called is named, or any of them. */
export type ChatCompletionToolChoice = 'none' | 'auto' | 'required' | { type: 'function'; function: { name: string } };

/** Request of embeddings. */
export interface EmbeddingCreateParams {
  /** One text or up to 2,048, or token ids of one or several. */
  input: string | string[] | number[] | number[][];
  /** Anything: an engine has one model. */
  model?: string;
  /** The first numbers only, scaled to length 1 again: for models that were trained for it. */
  dimensions?: number;
  encoding_format?: 'float';
  /**
   * How the rows of a text become one vector: their mean, or the last one. By default as the model's `1_Pooling/config.json`
   * (sentence-transformers) says, or the mean. A server's model has its own.
   */
  pooling?: 'mean' | 'last';
}

/** Vectors of length 1, in the order of the texts. */
export interface CreateEmbeddingResponse {
  object: 'list';
  data: { object: 'embedding'; index: number; embedding: number[] }[];
  model: string;
  usage: { prompt_tokens: number; total_tokens: number };
}

export interface Embeddings {
  create(body: EmbeddingCreateParams, options?: { signal?: AbortSignal }): Promise<CreateEmbeddingResponse>;
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
  /** What the reply keeps to. */
  response_format?:
    | { type: 'text' }
    | { type: 'json_object' }
    | { type: 'json_schema'; json_schema: { name: string; strict?: boolean | null; schema?: Record<string, unknown> } };
  /** The same as vLLM has it: one of these. */
  structured_outputs?: {
    json?: object | string;
    json_object?: boolean;
    regex?: string;
    choice?: string[];
    /** In Lark's notation. */
    grammar?: string;
  } | null;
  /** Token ids, and what is added to their logits: -100 to 100. */
  logit_bias?: Record<string, number> | null;
  /** Replies to make, 1 to 16, one after the other; each has the seed of the one before and 1. */
  n?: number | null;
  /** Tokens with their probabilities, and how many of the most probable ones at each place: 0 to 20. */
  logprobs?: boolean | null;
  top_logprobs?: number | null;
  top_k?: number;
  min_p?: number;
  repetition_penalty?: number;
  /** Thinking before the answer, of models that can; absent: as the model's template decides. */
  enable_thinking?: boolean;
  /** Described to the model by its template, whose form its calls have. */
  tools?: ChatCompletionTool[];
  /** A call that must be made is written by a grammar, with arguments of the function's schema. */
  tool_choice?: ChatCompletionToolChoice;
  /** False: calls behind the first are left out. */
  parallel_tool_calls?: boolean;
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
  /** `null` where there are calls and no text. */
  content: string | null;
  refusal: null;
  /** The thinking before the answer, if there was any. */
  reasoning_content?: string;
  /** `arguments` may be no JSON where the reply ended amid them, or the model wrote none. */
  tool_calls?: ChatCompletionMessageToolCall[];
}

/** The tokens of a reply, or of a chunk of it. */
export interface ChatCompletionLogprobs {
  content: ChatCompletionTokenLogprob[];
  refusal: null;
}

export interface ChatCompletion {
  id: string;
  object: 'chat.completion';
  /** Seconds since 1970. */
  created: number;
  model: string;
  choices: {
    index: number;
    finish_reason: 'stop' | 'length' | 'tool_calls';
    logprobs: ChatCompletionLogprobs | null;
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
    delta: {
      role?: 'assistant';
      content?: string;
      reasoning_content?: string;
      /** The beginning of a call has its `id` and `name`; its `arguments` go on piece by piece. */
      tool_calls?: { index: number; id?: string; type?: 'function'; function: { name?: string; arguments: string } }[];
    };
    finish_reason: 'stop' | 'length' | 'tool_calls' | null;
    logprobs: ChatCompletionLogprobs | null;
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
