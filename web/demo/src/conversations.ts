// The conversations had with a model. There is no index of them, which two tabs could write at the same time: what is
// kept under a key of the right form is one.

import { Conversation, idsIn, turnsOf } from './conversation';
import { keep, keepHeld, keys, kept } from './storage';

/** Most conversations of a model. */
export const MOST = 50;
/** Which of them a tab has open, by model. */
const OPEN = 'selvedge.open.';
/** The key of the only conversation of a model, before there were several. */
const ONLY = 'selvedge.conversation.';

export class Conversations {
  readonly #model: string;

  constructor(model: string) {
    this.#model = model;
    this.#adopt();
  }

  /** The one changed last comes first. Those in which nothing was said are not kept. */
  list(): Conversation[] {
    return idsIn(keys(), this.#model)
      .map((id) => new Conversation(this.#model, id))
      .filter(({ turns }) => turns.length > 0)
      .sort((a, b) => b.changed - a.changed);
  }

  /** The one that this tab has open; in a new tab the one changed last, or a new one. */
  present(): Conversation {
    const open = kept(OPEN + this.#model, 'sessionStorage');
    return open ? new Conversation(this.#model, open) : (this.list()[0] ?? this.begin());
  }

  begin(): Conversation {
    return new Conversation(this.#model);
  }

  /** This tab has it open. */
  open({ id }: Conversation): void {
    keep(OPEN + this.#model, id, 'sessionStorage');
  }

  remove({ key }: Conversation): void {
    keep(key, null);
    keepHeld();
  }

  /** Removes those that were changed longest ago where, with the one just begun, there are too many. Gives those. */
  trim(begun: Conversation): Conversation[] {
    if (idsIn(keys(), this.#model).length <= MOST) return [];
    const others = this.list().filter(({ id }) => id !== begun.id);
    const removed = others.slice(MOST - 1);
    for (const conversation of removed) this.remove(conversation);
    return removed;
  }

  /** Takes over what an older page kept, once it is kept here. */
  #adopt(): void {
    const text = kept(ONLY + this.#model);
    if (text === null) return;
    const conversation = this.begin();
    conversation.turns.push(...turnsOf(parsed(text)));
    if (conversation.save()) keep(ONLY + this.#model, null);
  }
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
