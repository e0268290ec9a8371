/** The worker's side: an engine that does what the page asks. */

import { Engine } from '../engine.js';
import { SelvedgeError, asSelvedgeError } from '../errors.js';
import type { Source } from '../types.js';
import type { Calls, PageSource, SentError, SourceCall, ToPage, ToWorker } from './protocol.js';

/** The worker's global object, which is not among the types of a page. */
interface Scope {
  postMessage(message: ToPage, transfer?: Transferable[]): void;
  onmessage: ((event: MessageEvent<ToWorker>) => void) | null;
}

const scope = globalThis as unknown as Scope;
const cancels = new Map<number, AbortController>();
const asked = new Map<number, { resolve: (value: unknown) => void; reject: (error: unknown) => void }>();
let questions = 0;
let engine: Engine | undefined;

function loaded(): Engine {
  if (!engine) throw new SelvedgeError('disposed', 'no model is loaded in this worker');
  return engine;
}

type Methods = {
  [Name in keyof Calls]: (takes: Calls[Name]['takes'], id: number, cancelled: AbortSignal) => Promise<Calls[Name]['gives']>;
};

const methods: Methods = {
  async load({ model, page, options }, id, signal) {
    engine = await Engine.load(model ?? pageSource(page!), {
      ...options,
      signal,
      onProgress: (progress) => scope.postMessage({ type: 'progress', id, progress }),
      onNotice: (notice) => scope.postMessage({ type: 'event', name: 'notice', event: notice }),
    });
    for (const name of ['devicelost', 'memory'] as const) {
      engine.on(name, (event) => scope.postMessage({ type: 'event', name, event }));
    }
    return { name: engine.modelName };
  },
  async reply({ messages, options, conversation }, id, cancelled) {
    const reply = loaded().reply(messages, options, conversation);
    cancelled.addEventListener('abort', () => reply.stop(), { once: true });
    for await (const part of reply) scope.postMessage({ type: 'part', id, part });
    return reply;
  },
  remembered: ({ messages, told, keep }) => loaded().remembered(messages, told, keep),
  openSession: (id) => loaded().openSession(id),
  saveSession: ({ id, said }) => loaded().saveSession(id, said),
  closeSession: (id) => loaded().closeSession(id),
  async stop() {
    await engine?.stop();
    return null;
  },
  snapshot: ({ messages, told }) => loaded().snapshot(messages, told),
  remember: (snapshot) => loaded().remember(snapshot),
  stats: () => loaded().stats(),
  embed: ({ inputs, pooling }) => loaded().embed(inputs, pooling),
  logits: (ids) => loaded().tokens.logits(ids),
  greedy: ({ ids, count }) => loaded().tokens.greedy(ids, count),
  async dispose() {
    await engine?.dispose();
    engine = undefined;
    return null;
  },
};

scope.onmessage = ({ data }) => {
  if (data.type === 'cancel') cancels.get(data.id)?.abort();
  else if (data.type === 'sourceAnswer') answer(data);
  else void serve(data);
};

async function serve(call: ToWorker & { type: 'call' }): Promise<void> {
  const { id } = call;
  const cancel = new AbortController();
  cancels.set(id, cancel);
  try {
    const method = methods[call.name] as (takes: unknown, id: number, cancelled: AbortSignal) => Promise<unknown>;
    scope.postMessage({ type: 'done', id, value: await method(call.takes, id, cancel.signal) });
  } catch (error) {
    const { code, message } = asSelvedgeError(error);
    scope.postMessage({ type: 'failed', id, error: { code, message } });
  } finally {
    cancels.delete(id);
  }
}

/** A source that the page reads. */
function pageSource({ place, ...rest }: PageSource): Source {
  return {
    ...rest,
    describe: (name) => (name === '' ? place : `${place}/${name}`),
    size: (name) => ask({ method: 'size', args: [name] }),
    read: (name, start, end) => ask({ method: 'read', args: [name, start, end] }),
  };
}

function ask<T>(call: SourceCall): Promise<T> {
  questions += 1;
  const id = questions;
  const answer = new Promise<unknown>((resolve, reject) => asked.set(id, { resolve, reject }));
  scope.postMessage({ type: 'source', id, call });
  return answer as Promise<T>;
}

function answer({ id, value, error }: { id: number; value?: unknown; error?: SentError }): void {
  const waiting = asked.get(id);
  asked.delete(id);
  if (error) waiting?.reject(new SelvedgeError(error.code, error.message));
  else waiting?.resolve(value);
}
