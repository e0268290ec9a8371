// Costs: the memory of the conversation beside a transformer's, the speed, and the device.

import type { EngineStats, Remembered } from 'selvedge';
import { h } from '../dom';
import { bytes, duration, figures, of, parameters, sentence, share, tokens } from '../words';
import { picture } from './picture';

const NONE = '–';

/**
 * The panel's contents. `stats`: `null` where there is no model yet. `remembered`: of the conversation on the page;
 * `null` while it is answered, and where nothing was said.
 */
export function panel(stats: EngineStats | null, remembered: Remembered | null): Node[] {
  if (!stats) return [h('p', { class: 'empty' }, 'Numbers come with the model.')];
  return [memory(stats), cache(stats, remembered), speed(stats), place(stats)];
}

function memory(stats: EngineStats): HTMLElement {
  const { state, contextLength } = stats;
  const most = Math.max(state.bytes, state.transformerBytes);
  const bar = (kind: string, name: string, size: number) =>
    h(
      'div',
      { class: `weight ${kind}` },
      h('dt', {}, name),
      h(
        'dd',
        {},
        bytes(size),
        h('span', { class: 'bar', style: `--part: ${share(size, most)}`, 'aria-hidden': 'true' }),
      ),
    );
  const full = state.fixed + state.perToken * contextLength;
  const ratio = (state.transformerPerToken * contextLength) / full;
  return h(
    'section',
    { class: 'memory' },
    h('h2', {}, 'Memory of this conversation'),
    h('p', { class: 'large' }, h('b', { id: 'state-bytes' }, bytes(state.bytes)), ` at ${tokens(state.tokens)}`),
    h('figure', {}, picture(stats)),
    h(
      'dl',
      {},
      bar('of-state', 'This model', state.bytes),
      bar('of-attention', 'A transformer of this size', state.transformerBytes),
    ),
    ratio > 1.05 &&
      h(
        'p',
        { class: 'remark' },
        `When its context is full, a transformer holds ${figures(ratio)} times as much. What a state-space layer ` +
          'remembers does not grow.',
      ),
  );
}

function cache({ cache, last }: EngineStats, remembered: Remembered | null): HTMLElement {
  const { checkpoints, cachedTokens, promptTokens, store } = cache;
  const here = remembered ? of(remembered.remembered, remembered.tokens) : NONE;
  // Whether the browser keeps anything shows with the first conversation.
  const unkept = remembered || last ? 'nothing' : NONE;
  return h(
    'section',
    { class: 'cache' },
    h('h2', {}, 'What is remembered'),
    h(
      'dl',
      { class: 'facts' },
      fact('Of this conversation', here, 'remembered-tokens'),
      fact('Not read again', promptTokens > 0 ? of(cachedTokens, promptTokens) : NONE, 'cached-tokens'),
      fact('Places to go on from', checkpoints > 0 ? `${checkpoints} in ${bytes(cache.bytes)}` : NONE, 'checkpoints'),
      fact('Kept in this browser', store ? `${store.states} in ${bytes(store.bytes)}` : unkept, 'stored-states'),
    ),
    last !== null &&
      last.readAgain !== null &&
      h('p', { class: 'remark' }, sentence(`A part was read again for the last answer: ${last.readAgain}`)),
  );
}

function speed({ last }: EngineStats): HTMLElement {
  return h(
    'section',
    { class: 'speed' },
    h('h2', {}, 'The last answer'),
    h(
      'dl',
      { class: 'facts' },
      fact(
        'Speed',
        last && last.tokensPerSecond > 0 ? `${figures(last.tokensPerSecond)} tokens/s` : NONE,
        'tokens-per-second',
      ),
      fact('First token after', last ? duration(last.firstTokenMs) : NONE, 'first-token'),
      fact('Read', last ? of(last.readTokens, last.promptTokens) : NONE, 'read-tokens'),
      fact('Made', last ? tokens(last.completionTokens) : NONE, 'made-tokens'),
    ),
    last !== null &&
      last.readTokens < last.promptTokens &&
      h('p', { class: 'remark' }, 'The other tokens were still remembered: a turn reads its own words only.'),
  );
}

function place({ model, device, contextLength, memory }: EngineStats): HTMLElement {
  const gpu = device.software ? 'WebGPU, in software' : 'WebGPU';
  return h(
    'section',
    { class: 'place' },
    h('h2', {}, 'Where it runs'),
    h(
      'dl',
      { class: 'facts' },
      fact('Device', device.backend === 'webgpu' ? gpu : 'CPU, in WebAssembly', 'backend'),
      device.backend === 'webgpu' && fact('Adapter', device.adapter),
      fact('Model', `${model.type}, ${model.layers} layers`),
      fact('Parameters', parameters(model.parameters)),
      fact('Weights', bytes(memory.weights)),
      fact('Context', tokens(contextLength)),
    ),
  );
}

function fact(name: string, value: string, id?: string): HTMLElement {
  return h('div', {}, h('dt', {}, name), h('dd', { id }, value));
}
