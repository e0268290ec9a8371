// A dialog over the page. Escape closes it, and so does a click outside.

import { h } from '../dom';
import { icon } from './icons';

/** `id`: beginning of the id of its title. */
export function dialog(id: string, title: string, ...inside: Node[]): HTMLDialogElement {
  const element: HTMLDialogElement = h(
    'dialog',
    {
      class: 'dialog',
      'aria-labelledby': `${id}-title`,
      click: (event: MouseEvent) => event.target === element && element.close(),
    },
    h(
      'div',
      { class: 'inside' },
      h(
        'header',
        {},
        h('h2', { id: `${id}-title` }, title),
        h(
          'button',
          { type: 'button', class: 'plain only-icon', 'aria-label': 'Close', click: () => element.close() },
          icon('close'),
        ),
      ),
      ...inside,
    ),
  );
  return element;
}
