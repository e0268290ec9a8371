/** Embeddings of a server's model. */

import { SelvedgeError } from '../errors.js';
import type { CreateEmbeddingResponse, Embeddings } from '../openai.js';
import { notTheInterface, type Client } from './client.js';

const PATH = '/embeddings';

/** `disposal` is aborted when the engine is disposed, with the error that says so. */
export function remoteEmbeddings(client: Client, model: string, disposal: AbortSignal): Embeddings {
  return {
    async create({ pooling, ...body }, { signal } = {}) {
      if (pooling !== undefined) {
        const why = `the model of the server at ${client.address} has a pooling of its own: leave \`pooling\` out`;
        throw new SelvedgeError('bad-request', why);
      }
      const either = signal ? AbortSignal.any([signal, disposal]) : disposal;
      try {
        const request = { encoding_format: 'float', ...body, model };
        const answer = await client.json<CreateEmbeddingResponse | null>(PATH, request, either);
        if (!Array.isArray(answer?.data)) throw notTheInterface(client.address + PATH, JSON.stringify(answer));
        return answer;
      } catch (error) {
        throw disposal.aborted ? disposal.reason : error;
      }
    },
  };
}
