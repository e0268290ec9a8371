// A button that removes something for good: it asks once more.

import { h } from '../dom';
import { icon } from './icons';

/** Time to confirm a removal, in milliseconds. */
const SURE = 4000;

/** `label`: what it removes, for screen readers; `question`: its words when it asks. */
export function remover(label: string, question: string, remove: () => void): HTMLButtonElement {
  const button = h('button', { type: 'button', class: 'plain small' });
  let sure = false;
  const draw = () => {
    button.replaceChildren(icon('bin'), sure ? question : h('span', { class: 'label' }, 'Remove'));
    button.setAttribute('aria-label', sure ? `${question} Press again: ${label}` : label);
  };
  button.addEventListener('click', () => {
    if (sure) {
      button.disabled = true;
      return remove();
    }
    sure = true;
    draw();
    setTimeout(() => {
      sure = false;
      draw();
    }, SURE);
  });
  draw();
  return button;
}
