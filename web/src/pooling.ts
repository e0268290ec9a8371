/** Pooling of a model's embeddings, from the model's own file of it. */

import { poolingOf } from '../pkg/selvedge.js';
import { SelvedgeError, asSelvedgeError } from './errors.js';
import { openModel, type OpenedModel } from './model.js';
import { POOLING } from './sources/http.js';
import type { LoadOptions, ModelReference, Notice } from './types.js';

/** How the rows of a text become one vector: their mean, or the last one. */
export type Pooling = 'mean' | 'last';

/** Most bytes that are read of the file. Real ones take hundreds. */
const MOST = 1 << 20;

/** The pooling that the model's file asks for; the mean where there is no such file. The module must have been started. */
export async function ownPooling(
  reference: ModelReference,
  options: LoadOptions,
  notice: (notice: Notice) => void,
): Promise<Pooling> {
  let model: OpenedModel | undefined;
  try {
    // Notices about the store came when the model was loaded.
    model = await openModel(reference, options, () => {}, () => {});
    const { packed } = model;
    const source = packed?.store.complete ? packed.original.keptIn(packed.store) : model.source;
    const size = await source.size(POOLING);
    if (size === null) return 'mean';
    const pooling = poolingOf(await source.read(POOLING, 0, Math.min(size, MOST))) as Pooling | undefined;
    const other = `${POOLING} asks for a pooling other than \`mean\` and \`last\`: \`mean\` is taken, and \`pooling\` chooses`;
    if (!pooling) notice({ code: 'model', message: other });
    return pooling ?? 'mean';
  } catch (thrown) {
    const { code, message } = asSelvedgeError(thrown);
    throw new SelvedgeError(code, `${message}; it is not read where \`pooling\` is given`, { cause: thrown });
  } finally {
    await model?.close();
  }
}
