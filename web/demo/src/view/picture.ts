// A picture of memory: what a conversation takes as it grows, here and in a transformer of this size.

import type { EngineStats } from 'selvedge';
import { s } from '../dom';
import { bytes, share, tokens } from '../words';

const WIDTH = 300;
const HEIGHT = 148;
/** Room for the curves: the words of the axes lie below. */
const FLOOR = HEIGHT - 20;
const CEILING = 18;

export function picture({ state, contextLength }: EngineStats): SVGSVGElement {
  const here = (count: number) => state.fixed + state.perToken * count;
  const there = (count: number) => state.transformerPerToken * count;
  const most = Math.max(here(contextLength), there(contextLength), 1);
  const x = (count: number) => share(count, contextLength) * WIDTH;
  const y = (size: number) => FLOOR - (size / most) * (FLOOR - CEILING);
  const line = (size: (count: number) => number) => `M0 ${y(size(0))}L${WIDTH} ${y(size(contextLength))}`;
  const now = x(state.tokens);
  const dot = (kind: string, size: number) => s('circle', { class: `dot ${kind}`, cx: now, cy: y(size), r: 4.5 });
  const label = (kind: string, text: string, size: number) =>
    s('text', { class: `label ${kind}`, x: WIDTH, y: y(size) - 7, 'text-anchor': 'end' }, text);
  // The two names stand at the ends of their lines, and apart from each other.
  const apart = Math.abs(y(here(contextLength)) - y(there(contextLength))) > 18;
  return s(
    'svg',
    {
      class: 'picture',
      viewBox: `0 0 ${WIDTH} ${HEIGHT}`,
      role: 'img',
      'aria-label': inWords({ state, contextLength }),
    },
    s(
      'defs',
      {},
      s(
        'pattern',
        { id: 'twill', width: 6, height: 6, patternUnits: 'userSpaceOnUse' },
        s('path', { class: 'state', d: 'M-1 4L4-1M2 7L7 2M-1 10L10-1', 'stroke-width': 1.1 }),
      ),
    ),
    s('path', { class: 'woven', d: `${line(here)}V${FLOOR}H0z` }),
    s('path', { class: 'axis', d: `M0 ${FLOOR}H${WIDTH}` }),
    s('path', { class: 'line attention', d: line(there) }),
    s('path', { class: 'line state', d: line(here) }),
    s('path', { class: 'now', d: `M${now} ${CEILING - 8}V${FLOOR}` }),
    dot('attention', state.transformerBytes),
    dot('state', state.bytes),
    apart ? label('of-attention', 'a transformer', there(contextLength)) : null,
    apart ? label('of-state', 'this model', here(contextLength)) : null,
    s('text', { class: 'tick', x: 0, y: HEIGHT - 4 }, '0'),
    s('text', { class: 'tick', x: WIDTH, y: HEIGHT - 4, 'text-anchor': 'end' }, tokens(contextLength)),
  );
}

function inWords({ state, contextLength }: Pick<EngineStats, 'state' | 'contextLength'>): string {
  const full = state.fixed + state.perToken * contextLength;
  return (
    `Memory of a conversation by its length. Now, at ${tokens(state.tokens)}: ${bytes(state.bytes)}, in a transformer ` +
    `${bytes(state.transformerBytes)}. At ${tokens(contextLength)}: ${bytes(full)}, in a transformer ` +
    `${bytes(state.transformerPerToken * contextLength)}.`
  );
}
