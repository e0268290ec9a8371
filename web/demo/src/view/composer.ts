// The input field. While an answer is being made, its button stops it.

import { growing, h } from '../dom';
import { icon } from './icons';

export interface ComposerEvents {
  onSend(text: string): void;
  onStop(): void;
}

export class Composer {
  readonly element: HTMLFormElement;
  readonly #text = growing(
    h('textarea', {
      id: 'say',
      rows: 1,
      placeholder: 'Say something',
      'aria-label': 'Say something',
      enterkeyhint: 'send',
      autocomplete: 'off',
    }),
  );
  readonly #button = h('button', { type: 'submit', class: 'main only-icon' });
  readonly #hint = h('p', { class: 'hint' });
  readonly #events: ComposerEvents;
  #answering = false;

  constructor(events: ComposerEvents) {
    this.#events = events;
    this.element = h(
      'form',
      { class: 'composer', 'aria-label': 'Your message', submit: (event: SubmitEvent) => this.#submit(event) },
      h('div', { class: 'box' }, this.#text, this.#button),
      this.#hint,
    );
    this.#text.addEventListener('keydown', (event) => {
      if (event.key === 'Enter' && !event.shiftKey && !event.isComposing) {
        event.preventDefault();
        if (!this.#answering) this.element.requestSubmit();
      }
    });
    this.#text.addEventListener('input', () => this.#draw());
    this.answering(false);
  }

  answering(answering: boolean): void {
    this.#answering = answering;
    const label = answering ? 'Stop (Escape)' : 'Send';
    this.#button.replaceChildren(icon(answering ? 'stop' : 'send'));
    this.#button.setAttribute('aria-label', label);
    this.#button.title = label;
    this.#draw();
  }

  hint(text: string): void {
    this.#hint.textContent = text;
  }

  focus(): void {
    this.#text.focus();
  }

  #draw(): void {
    this.#button.disabled = !this.#answering && this.#text.value.trim() === '';
  }

  #submit(event: SubmitEvent): void {
    event.preventDefault();
    if (this.#answering) return this.#events.onStop();
    const text = this.#text.value.trim();
    if (!text) return;
    this.#text.value = '';
    this.#text.dispatchEvent(new Event('input'));
    this.#events.onSend(text);
  }
}
