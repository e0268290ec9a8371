// The bar above: what this is, which model is loaded, which conversation is had with it, and the switches of the page.

import { byId, h } from '../dom';
import { keep, kept } from '../storage';
import { icon } from './icons';
import { mark } from './weave';

export interface BarEvents {
  onModel(): void;
  onConversations(): void;
  onFresh(): void;
}

const THEME = 'selvedge.theme';
const PANEL = 'selvedge.panel';
/** Below this the panel lies over the conversation; the same as in page.css. */
const NARROW = matchMedia('(max-width: 60rem)');

export class Bar {
  readonly #model = h('span', { class: 'name' });
  readonly #what = h('span', { class: 'unseen' });
  readonly #title = h('span', { class: 'name' });
  readonly #conversations: HTMLButtonElement;
  readonly #panelButton: HTMLButtonElement;
  readonly #fresh: HTMLButtonElement;

  constructor(events: BarEvents) {
    const button = (label: string, name: Parameters<typeof icon>[0], click: () => void) =>
      h('button', { type: 'button', class: 'plain only-icon', 'aria-label': label, title: label, click }, icon(name));
    this.#panelButton = button('What it costs', 'panel', () => this.panel(!this.#panelShown()));
    this.#panelButton.setAttribute('aria-controls', 'panel');
    this.#fresh = button('New conversation', 'fresh', events.onFresh);
    this.#conversations = h(
      'button',
      {
        type: 'button',
        class: 'chooser talk plain',
        id: 'conversations',
        'aria-haspopup': 'dialog',
        click: events.onConversations,
      },
      icon('talks'),
      this.#what,
      this.#title,
      icon('choose'),
    );
    byId('bar').append(
      h('h1', {}, mark(), h('span', { class: 'word' }, 'Selvedge')),
      h(
        'button',
        { type: 'button', class: 'chooser plain', id: 'model', 'aria-haspopup': 'dialog', click: events.onModel },
        h('span', { class: 'unseen' }, 'Model: '),
        this.#model,
        icon('choose'),
      ),
      this.#conversations,
      h('span', { class: 'space' }),
      this.#fresh,
      themeSwitch(),
      this.#panelButton,
    );
    this.panel(!NARROW.matches && kept(PANEL) !== 'closed', false);
    NARROW.addEventListener('change', () => this.panel(!NARROW.matches && kept(PANEL) !== 'closed', false));
    document.addEventListener('keydown', (event) => {
      if (event.key === 'Escape' && NARROW.matches && this.#panelShown()) {
        this.panel(false);
        this.#panelButton.focus();
      }
    });
  }

  model(title: string): void {
    this.#model.textContent = title;
  }

  /** `begun`: something was said in it. While it is answered one stays in it. */
  conversation(title: string, begun: boolean, answering: boolean): void {
    this.#what.textContent = title && 'Conversation: ';
    this.#title.textContent = title || 'Conversations';
    this.#conversations.disabled = answering;
    this.#fresh.disabled = !begun || answering;
  }

  panel(shown: boolean, remember = true): void {
    document.body.classList.toggle('without-panel', !shown);
    this.#panelButton.setAttribute('aria-expanded', String(shown));
    if (remember && !NARROW.matches) keep(PANEL, shown ? null : 'closed');
  }

  #panelShown(): boolean {
    return !document.body.classList.contains('without-panel');
  }
}

/** Light or dark. Until someone says, the system does. */
function themeSwitch(): HTMLButtonElement {
  const dark = matchMedia('(prefers-color-scheme: dark)');
  const root = document.documentElement;
  const isDark = () => (root.dataset['theme'] ?? (dark.matches ? 'dark' : 'light')) === 'dark';
  const button = h('button', { type: 'button', class: 'plain only-icon', id: 'theme', 'aria-label': 'Dark colours' });
  const draw = () => {
    button.setAttribute('aria-pressed', String(isDark()));
    button.title = isDark() ? 'Light colours' : 'Dark colours';
    button.replaceChildren(icon(isDark() ? 'sun' : 'moon'));
  };
  button.addEventListener('click', () => {
    const wanted = isDark() ? 'light' : 'dark';
    root.dataset['theme'] = wanted;
    keep(THEME, wanted);
    draw();
  });
  dark.addEventListener('change', draw);
  draw();
  return button;
}
