// Costs: the memory of the conversation beside a transformer's, the speed, and the device.

import type { EngineStats } from 'selvedge';
import { h } from '../dom';
import { bytes, duration, figures, parameters, share, tokens } from '../words';
import { picture } from './picture';

/** The panel's contents. `null`: no model yet. */
export function panel(stats: EngineStats | null): Node[] {
  if (!stats) return [h('p', { class: 'empty' }, 'Numbers come with the model.')];
  return [memory(stats), speed(stats), place(stats)];
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

function speed({ last }: EngineStats): HTMLElement {
  const none = '–';
  return h(
    'section',
    { class: 'speed' },
    h('h2', {}, 'The last answer'),
    h(
      'dl',
      { class: 'facts' },
      fact(
        'Speed',
        last && last.tokensPerSecond > 0 ? `${figures(last.tokensPerSecond)} tokens/s` : none,
        'tokens-per-second',
      ),
      fact('First token after', last ? duration(last.firstTokenMs) : none, 'first-token'),
      fact(
        'Read',
        last ? `${last.readTokens.toLocaleString('en')} of ${tokens(last.promptTokens)}` : none,
        'read-tokens',
      ),
      fact('Made', last ? tokens(last.completionTokens) : none, 'made-tokens'),
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
