// Notices and errors: a notice can be dismissed, an error gives advice and offers it as a button.

import type { Notice } from 'selvedge';
import { h } from '../dom';
import type { Trouble } from '../trouble';
import { sentence } from '../words';
import { icon } from './icons';

export interface Remedy {
  label: string;
  act(): void;
}

/** Plain words for the engine's notices to programmers. The others are shown unchanged. */
const WORDS: Partial<Record<Notice['code'], string>> = {
  cpu: 'This browser has no graphics card to offer, so the model runs on the CPU: small ones well, larger ones slowly.',
  'software-gpu': 'The graphics card of this browser is software: answers are right, but slow.',
  'not-kept':
    'This browser does not keep what the model remembers (as in a private window, or for want of room). After a reload ' +
    'it reads the conversation again.',
  memory: 'A part of what the model remembered had to go. It reads that again; nothing that was said is lost.',
};

export class Notices {
  readonly element = h('div', { class: 'notices' });
  readonly #shown = new Map<string, HTMLElement>();

  /** What the engine has to say. */
  notice({ code, message }: Notice): void {
    this.say(code, WORDS[code] ?? message);
  }

  /** Says it once: the same key again replaces it. */
  say(key: string, message: string): void {
    const close = h(
      'button',
      {
        type: 'button',
        class: 'plain only-icon',
        'aria-label': 'Put this notice away',
        click: () => this.remove(key),
      },
      icon('close'),
    );
    this.#show(key, h('div', { class: 'notice', role: 'status' }, h('p', {}, sentence(message)), close));
  }

  trouble(trouble: Trouble, remedies: Remedy[]): void {
    const buttons = remedies.map(({ label, act }, index) => {
      const click = () => {
        this.remove('trouble');
        act();
      };
      return h('button', { type: 'button', class: index === 0 ? 'main' : '', click }, label);
    });
    this.#show(
      'trouble',
      h(
        'div',
        { class: 'notice trouble', role: 'alert' },
        h('h2', {}, trouble.title),
        h('p', {}, trouble.advice),
        h(
          'details',
          {},
          h('summary', {}, 'What exactly happened'),
          h('p', { class: 'detail' }, sentence(trouble.detail)),
        ),
        h('div', { class: 'choices' }, ...buttons),
      ),
    );
  }

  clear(): void {
    this.#shown.clear();
    this.element.replaceChildren();
  }

  remove(key: string): void {
    this.#shown.get(key)?.remove();
    this.#shown.delete(key);
  }

  #show(key: string, element: HTMLElement): void {
    this.remove(key);
    this.#shown.set(key, element);
    this.element.append(element);
  }
}
