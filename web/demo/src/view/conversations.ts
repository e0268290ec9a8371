// Which conversation: those had with the present model, the one changed last first.

import type { Conversation } from '../conversation';
import { h } from '../dom';
import { ago, messages } from '../words';
import { dialog } from './dialog';
import { remover } from './remover';

export interface ConversationEvents {
  onChoose(conversation: Conversation): void;
  onRemove(conversation: Conversation): void;
  list(): Conversation[];
  /** The one on the page. */
  present(): Conversation;
}

export class ConversationPicker {
  readonly element: HTMLDialogElement;
  readonly #events: ConversationEvents;
  readonly #here = h('ul', { class: 'entries' });
  readonly #none = h('p', { class: 'hint' }, 'Nothing has been said yet. What you say is listed here.');

  constructor(events: ConversationEvents) {
    this.#events = events;
    this.element = dialog('conversations', 'Conversations', this.#here, this.#none);
  }

  open(): void {
    this.#draw();
    this.element.showModal();
  }

  /** Another tab may have changed the list. */
  refresh(): void {
    if (this.element.open) this.#draw();
  }

  #draw(): void {
    const list = this.#events.list();
    const { id } = this.#events.present();
    // Who is in the middle of the list stays there when it is drawn anew.
    const at = [...this.#here.querySelectorAll('button')].findIndex((button) => button === document.activeElement);
    this.#here.replaceChildren(...list.map((conversation) => this.#entry(conversation, conversation.id === id)));
    this.#here.hidden = list.length === 0;
    this.#none.hidden = list.length > 0;
    if (at >= 0) this.#focus(at);
  }

  #entry(conversation: Conversation, current: boolean): HTMLElement {
    const { title, turns, last, changed } = conversation;
    const choose = () => {
      this.element.close();
      this.#events.onChoose(conversation);
    };
    const remove = () => {
      const at = [...this.#here.children].indexOf(entry);
      this.#events.onRemove(conversation);
      this.#draw();
      this.#focus(2 * at);
    };
    const entry = h(
      'li',
      { class: current ? 'current' : '' },
      h(
        'button',
        { type: 'button', class: 'plain entry', 'aria-current': current, click: choose },
        h('span', { class: 'name' }, title),
        h('span', { class: 'what last-said' }, last?.content),
        h('span', { class: 'what' }, `${messages(turns.length)}, ${ago(changed)}`),
      ),
      remover(`Remove the conversation “${title}”`, 'Remove?', remove),
    );
    return entry;
  }

  /** Each entry has two buttons. */
  #focus(button: number): void {
    const buttons = this.#here.querySelectorAll('button');
    (buttons[Math.min(button, buttons.length - 1)] ?? this.element.querySelector('button'))?.focus();
  }
}
