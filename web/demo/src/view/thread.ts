// The conversation as it stands: its turns along the two threads, and what can be done with each.

import type { Turn } from '../conversation';
import { growing, h } from '../dom';
import { icon, type IconName } from './icons';
import { markdown } from './markdown';
import { crossing, turning } from './weave';

export interface ThreadEvents {
  /** The person said something else instead of turn `index`. */
  onEdit(index: number, text: string): void;
  /** Another answer is wanted in place of the last one, or one to a question that has none. */
  onRegenerate(): void;
  /** A second conversation is wanted that begins with the turns up to `index`. */
  onFork(index: number): void;
  /** The person put the editor away and changed nothing. */
  onLeave(): void;
}

const ENDED: Record<NonNullable<Turn['ended']>, string> = {
  stopped: 'Stopped.',
  length: 'It ended at the longest answer allowed.',
  context: 'It ended because the model’s memory is full. Begin a new conversation, or edit an earlier message.',
};

const FORK = 'Fork: go on from here in a second conversation';

export class Thread {
  readonly element = h('ol', { class: 'thread', 'aria-label': 'Messages' });
  readonly #events: ThreadEvents;
  #turns: Turn[] = [];
  #answering = false;
  #editing: number | null = null;
  #frame = 0;

  constructor(events: ThreadEvents) {
    this.#events = events;
  }

  /** A person is at saying something else instead of a turn. */
  get editing(): boolean {
    return this.#editing !== null;
  }

  /** Draws all turns. `answering`: the last one is still being made. */
  draw(turns: Turn[], answering: boolean): void {
    // Those of another conversation.
    if (turns !== this.#turns) this.#editing = null;
    this.#turns = turns;
    this.#answering = answering;
    if (answering) this.#editing = null;
    const items = turns.map((turn, index) => this.#item(turn, index));
    if (items.length > 0) {
      // The threads only turn back and hold when nothing more is coming.
      const end = answering ? null : turning(turns.length);
      items.push(h('li', { class: 'end', 'aria-hidden': 'true' }, end));
    }
    this.element.replaceChildren(...items);
    this.element.classList.toggle('answering', answering);
  }

  /** Draws the answer that is being made, once a frame at most. `drawn` is called then. */
  grow(drawn: () => void): void {
    if (this.#frame) return;
    this.#frame = requestAnimationFrame(() => {
      this.#frame = 0;
      const turn = this.#turns.at(-1);
      const body = this.element.querySelector('.turn:nth-last-child(2) .text');
      if (turn?.role === 'assistant' && body) body.replaceChildren(...answer(turn, this.#answering));
      drawn();
    });
  }

  #item(turn: Turn, index: number): HTMLElement {
    const user = turn.role === 'user';
    const editing = this.#editing === index;
    const last = index === this.#turns.length - 1;
    const being = last && this.#answering;
    const after = this.#editing !== null && index > this.#editing;
    return h(
      'li',
      { class: `turn ${turn.role}${last ? ' last' : ''}${after ? ' forgotten' : ''}` },
      h('div', { class: 'threads' }, crossing(index)),
      h(
        'article',
        { 'aria-label': user ? 'You said' : 'The model answered' },
        h('h2', { class: 'unseen' }, user ? 'You' : 'Model'),
        editing
          ? this.#editor(turn, index)
          : h('div', { class: 'text' }, ...(user ? [turn.content] : answer(turn, being))),
        !user && turn.ended && !being && h('p', { class: 'ended' }, ENDED[turn.ended]),
        !editing && !being && this.#actions(turn, index, last),
      ),
      turn.forked && h('p', { class: 'forked' }, icon('fork'), 'From here on, a second conversation.'),
    );
  }

  #actions(turn: Turn, index: number, last: boolean): HTMLElement {
    const act = (name: IconName, label: string, click: (event: MouseEvent) => void) =>
      h(
        'button',
        { type: 'button', class: 'plain small', disabled: this.#answering, click },
        icon(name),
        h('span', { class: 'label' }, label),
      );
    const copy = act('copy', 'Copy', (event) => void copied(event.currentTarget as HTMLButtonElement, turn.content));
    const fork = act('fork', 'Fork', () => this.#events.onFork(index));
    fork.title = FORK;
    fork.setAttribute('aria-label', FORK);
    return h(
      'div',
      { class: 'actions' },
      turn.role === 'user' && act('edit', 'Edit', () => this.#edit(index)),
      turn.role === 'user' && last && act('again', 'Answer this', () => this.#events.onRegenerate()),
      turn.role === 'assistant' && copy,
      turn.role === 'assistant' && last && act('again', 'Regenerate', () => this.#events.onRegenerate()),
      fork,
    );
  }

  #edit(index: number | null): void {
    const before = this.#editing;
    this.#editing = index;
    this.draw(this.#turns, this.#answering);
    const items = this.element.querySelectorAll('.turn');
    if (index !== null) items[index]?.querySelector('textarea')?.focus();
    else if (before !== null) items[before]?.querySelector<HTMLButtonElement>('.actions button')?.focus();
  }

  #editor(turn: Turn, index: number): HTMLElement {
    const text = growing(h('textarea', { 'aria-label': 'Say instead', rows: 1 }));
    text.value = turn.content;
    const save = () => {
      const said = text.value.trim();
      if (!said) return;
      this.#editing = null;
      this.#events.onEdit(index, said);
    };
    const leave = () => {
      this.#edit(null);
      this.#events.onLeave();
    };
    return h(
      'form',
      {
        class: 'editor',
        submit: (event: SubmitEvent) => {
          event.preventDefault();
          save();
        },
        keydown: (event: KeyboardEvent) => {
          if (event.isComposing) return;
          if (event.key === 'Escape') leave();
          if (event.key === 'Enter' && !event.shiftKey && event.target === text) {
            event.preventDefault();
            save();
          }
        },
      },
      text,
      h('p', { class: 'hint' }, 'What was said after this is forgotten.'),
      h(
        'div',
        { class: 'choices' },
        h('button', { type: 'submit', class: 'main' }, 'Say this instead'),
        h('button', { type: 'button', class: 'plain', click: leave }, 'Cancel'),
      ),
    );
  }
}

function answer(turn: Turn, being: boolean): Node[] {
  const thought = turn.thinking?.trim();
  const nodes: Node[] = [];
  if (thought) {
    nodes.push(
      h(
        'details',
        { class: 'thought', open: being && turn.content === '' },
        h('summary', {}, being && turn.content === '' ? 'Thinking' : 'What it thought first'),
        ...markdown(thought),
      ),
    );
  }
  if (being && turn.content === '' && !thought) nodes.push(h('p', { class: 'reading' }, 'Reading'));
  return [...nodes, ...markdown(turn.content)];
}

async function copied(button: HTMLButtonElement, text: string): Promise<void> {
  let [sign, label]: [IconName, string] = ['done', 'Copied'];
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    [sign, label] = ['close', 'This browser does not allow copying'];
  }
  const before = [...button.childNodes];
  button.replaceChildren(icon(sign), h('span', { class: 'label' }, label));
  setTimeout(() => button.replaceChildren(...before), 1500);
}
