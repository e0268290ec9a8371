// The two threads, attention and state-space: they cross at every turn of the conversation, and at its end they turn
// and hold. That is what a selvedge is.

import { s } from '../dom';

/** The sign of the house. */
export function mark(): SVGSVGElement {
  return s(
    'svg',
    { class: 'mark', viewBox: '0 0 24 24', 'aria-hidden': 'true' },
    s('path', { class: 'state', d: 'M17 2C17 9 7 9 7 15a5 5 0 0 0 10 0' }),
    s('path', { class: 'under', d: 'M7 2C7 9 17 9 17 15' }),
    s('path', { class: 'attention', d: 'M7 2C7 9 17 9 17 15' }),
  );
}

const FALLING = 'M5 0C5 20 19 20 19 40';
const RISING = 'M19 0C19 20 5 20 5 40';

/** Beside one turn: the threads cross, then run down to the next. `turn` says which of them is on top. */
export function crossing(turn: number): SVGSVGElement {
  const odd = turn % 2 === 1;
  const attention = odd ? RISING : FALLING;
  const state = odd ? FALLING : RISING;
  const [below, above] = odd ? [attention, state] : [state, attention];
  const name = (path: string) => (path === attention ? 'attention' : 'state');
  return s(
    'svg',
    { class: 'crossing', viewBox: '0 0 24 40', 'aria-hidden': 'true' },
    s('path', { class: name(below), d: below }),
    s('path', { class: 'under', d: above }),
    s('path', { class: name(above), d: above }),
  );
}

/** Below the last turn: the threads turn back and hold. `turns` is how often they crossed. */
export function turning(turns: number): SVGSVGElement {
  const odd = turns % 2 === 1;
  return s(
    'svg',
    { class: 'turning', viewBox: '0 0 24 24', 'aria-hidden': 'true' },
    s('path', { class: odd ? 'state' : 'attention', d: 'M5 0V6a7 7 0 0 0 7 7' }),
    s('path', { class: odd ? 'attention' : 'state', d: 'M19 0V6a7 7 0 0 1-7 7' }),
  );
}
