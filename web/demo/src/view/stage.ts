// The part of the page that scrolls: the greeting, the thread, and what might be asked next.

import type { Turn } from '../conversation';
import { h } from '../dom';
import { OPENERS, questions } from '../suggestions';
import { icon } from './icons';
import { Thread, type ThreadEvents } from './thread';

export interface StageEvents extends ThreadEvents {
  onAsk(text: string): void;
}

export interface StageState {
  answering: boolean;
  /** The demo model: it is known what it can be asked. */
  demo: boolean;
  /** Neither loaded nor on its way. */
  failed: boolean;
  /** A question waits for the model to be loaded. */
  waiting: boolean;
  /** What is new comes from another tab: whoever reads further up stays there. */
  elsewhere?: boolean;
}

/** Pixels from the end within which the page follows what is being said. */
const NEAR = 60;

export class Stage {
  readonly element: HTMLElement;
  readonly #events: StageEvents;
  readonly #thread: Thread;
  readonly #greeting = h('section', { class: 'greeting', 'aria-label': 'Welcome' });
  readonly #next = h('div', { class: 'next', role: 'group', 'aria-label': 'What to ask next' });
  readonly #waits = h('p', { class: 'waits', role: 'status' });
  readonly #scroll = h('div', { class: 'scroll' });
  readonly #down = h(
    'button',
    {
      type: 'button',
      class: 'down only-icon',
      'aria-label': 'To the end of the conversation',
      hidden: true,
      click: () => this.#end(),
    },
    icon('down'),
  );
  /** True while the view is scrolled to the end, and stays there. */
  #following = true;
  /** True once there is a message. */
  #talking = false;

  constructor(events: StageEvents) {
    this.#events = events;
    this.#thread = new Thread(events);
    this.#scroll.append(h('div', { class: 'column' }, this.#greeting, this.#thread.element, this.#waits, this.#next));
    this.#scroll.addEventListener('scroll', () => this.#look());
    // A view at the end stays there when a window, a keyboard or a notice changes its size.
    const room = new ResizeObserver(() => (this.#following && this.#talking ? this.#end() : this.#look()));
    room.observe(this.#scroll);
    this.element = h('div', { class: 'stage' }, this.#scroll, this.#down);
  }

  /** A person is at saying something else instead of a turn. */
  get editing(): boolean {
    return this.#thread.editing;
  }

  draw(turns: Turn[], { answering, demo, failed, waiting, elsewhere = false }: StageState): void {
    const stay = elsewhere && !this.#following ? this.#scroll.scrollTop : null;
    this.#thread.draw(turns, answering);
    // Nobody is asked to talk to a model that is not there.
    this.#greeting.hidden = turns.length > 0 || (failed && !demo);
    this.#greeting.replaceChildren(...(this.#greeting.hidden ? [] : this.#greet(demo)));
    this.#waits.textContent = waiting ? 'The answer begins when the model is loaded.' : '';
    const next =
      demo && !answering && turns.at(-1)?.role === 'assistant'
        ? questions(
            turns.map((turn) => turn.content),
            4,
          )
        : [];
    this.#next.replaceChildren(
      ...next.map((text) => h('button', { type: 'button', click: () => this.#events.onAsk(text) }, text)),
    );
    this.#next.hidden = next.length === 0;
    this.#talking = turns.length > 0;
    if (stay !== null) this.#scroll.scrollTop = stay;
    else if (this.#talking) this.#end();
    else this.#scroll.scrollTop = 0;
  }

  grow(): void {
    this.#thread.grow(() => this.#following && this.#end());
  }

  #greet(demo: boolean): Node[] {
    if (!demo) {
      return [
        h('h2', {}, 'Ask it something'),
        h('p', { class: 'lead' }, 'The model runs in this page. What you write stays on this device.'),
      ];
    }
    return [
      h('h2', {}, 'A language model woven of two threads'),
      h(
        'p',
        { class: 'lead' },
        h('span', { class: 'word-attention' }, 'Attention'),
        ' looks back at every word. ',
        h('span', { class: 'word-state' }, 'State-space'),
        ' carries a memory that does not grow. This model has both in every layer, and it runs here: ' +
          'in this page, on this device. It is a very small one. It knows three hundred words, reads little ' +
          'stories, and remembers who did what.',
      ),
      h(
        'ul',
        { class: 'openers' },
        ...OPENERS.map(({ title, text }) =>
          h(
            'li',
            {},
            h(
              'button',
              { type: 'button', click: () => this.#events.onAsk(text) },
              h('span', { class: 'name' }, title),
              h('span', { class: 'what' }, text),
            ),
          ),
        ),
      ),
    ];
  }

  /** Sees where the person reads. */
  #look(): void {
    const { scrollHeight, scrollTop, clientHeight } = this.#scroll;
    this.#following = scrollHeight - scrollTop - clientHeight < NEAR;
    this.#down.hidden = this.#following || !this.#talking;
  }

  #end(): void {
    this.#scroll.scrollTop = this.#scroll.scrollHeight;
    this.#following = true;
    this.#down.hidden = true;
  }
}
