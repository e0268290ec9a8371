/** OpenAI's embeddings over an engine. */

import { SelvedgeError, aborted } from './errors.js';
import { Politeness } from './politeness.js';
import type { CreateEmbeddingResponse, EmbeddingCreateParams, Embeddings } from './openai.js';
import type { Pooling } from './pooling.js';

/** Texts to embed, or their token ids. */
export type EmbeddingInput = string | readonly number[];

/** The vectors of texts one behind the other, and the tokens of each text. */
export interface Embedded {
  vectors: Float32Array;
  tokens: Uint32Array;
}

/** Whatever embeds texts. */
export interface Embedder {
  readonly modelName: string;
  /** Without a pooling, the model's own. */
  embed(inputs: readonly EmbeddingInput[], pooling?: Pooling): Promise<Embedded>;
}

/** Texts that are embedded between two looks at the signal. */
const AT_ONCE = 4;
/** Most texts of one request; OpenAI's number. */
const MOST_TEXTS = 2048;

export function embeddings(embedder: Embedder): Embeddings {
  const create = async (body: EmbeddingCreateParams, options: { signal?: AbortSignal } = {}) => {
    const { dimensions, encoding_format: format, pooling } = body;
    if (format !== undefined && format !== 'float') throw refuse('`encoding_format` must be "float": nothing is sent anywhere');
    if (pooling !== undefined && pooling !== 'mean' && pooling !== 'last') throw refuse('`pooling` must be "mean" or "last"');
    const inputs = list(body.input);
    const [vectors, tokens]: [number[][], number[]] = [[], []];
    const turn = new Politeness();
    for (let at = 0; at < inputs.length; at += AT_ONCE) {
      // A page's own events, such as one that aborts, have their turn.
      await turn.pause();
      if (options.signal?.aborted) throw aborted(options.signal);
      const some = inputs.slice(at, at + AT_ONCE);
      const embedded = await embedder.embed(some, pooling);
      const width = embedded.vectors.length / some.length;
      for (let index = 0; index < some.length; index += 1) {
        const vector = Array.from(embedded.vectors.subarray(index * width, (index + 1) * width));
        vectors.push(shortened(vector, dimensions));
      }
      tokens.push(...embedded.tokens);
    }
    if (options.signal?.aborted) throw aborted(options.signal);
    const count = tokens.reduce((sum, each) => sum + each, 0);
    const response: CreateEmbeddingResponse = {
      object: 'list',
      data: vectors.map((embedding, index) => ({ object: 'embedding', index, embedding })),
      model: embedder.modelName,
      usage: { prompt_tokens: count, total_tokens: count },
    };
    return response;
  };
  return { create };
}

function refuse(why: string): SelvedgeError {
  return new SelvedgeError('bad-request', why);
}

/** One text or several, as texts or as token ids. */
function list(input: EmbeddingCreateParams['input']): EmbeddingInput[] {
  const isIds = (value: unknown): value is number[] =>
    Array.isArray(value) && value.length > 0 && value.every((id) => Number.isInteger(id) && id >= 0 && id < 2 ** 32);
  if (typeof input === 'string' || isIds(input)) return [input];
  const isText = (value: unknown) => typeof value === 'string' || isIds(value);
  if (!Array.isArray(input) || input.length === 0 || input.length > MOST_TEXTS || !input.every(isText)) {
    throw refuse(`\`input\` must be a text, token ids, or a list of up to ${MOST_TEXTS} of either`);
  }
  return input as EmbeddingInput[];
}

/** The first numbers, scaled to length 1 again: for models that were trained for it. */
function shortened(vector: number[], dimensions: number | undefined): number[] {
  if (dimensions === undefined) return vector;
  if (!Number.isInteger(dimensions) || dimensions < 1 || dimensions > vector.length) {
    throw refuse(`\`dimensions\` must be 1 to ${vector.length}`);
  }
  const first = vector.slice(0, dimensions);
  const length = Math.hypot(...first);
  return length > 0 ? first.map((x) => x / length) : first;
}
