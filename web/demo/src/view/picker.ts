// Which model: the one that comes with the page, those the browser has kept, or another from the hub, an address, a
// folder or a GGUF file on disk.

import type { StoredModel } from 'selvedge';
import { h } from '../dom';
import { DEVICES, fromStore, identity, title, WEIGHTS, type ModelChoice, type RunChoice } from '../models';
import { bytes } from '../words';
import { dialog } from './dialog';
import { icon } from './icons';
import { remover } from './remover';

export interface PickerEvents {
  onChoose(model: ModelChoice, run: RunChoice): void;
  /** Models in the browser's store. */
  stored(): Promise<StoredModel[]>;
  remove(name: string): Promise<void>;
}

const HUB_NAME = /^[\w.-]+\/[\w.-]+(@[\w./-]+)?(:[^#:]+)?$/;

export class Picker {
  readonly element: HTMLDialogElement;
  readonly #events: PickerEvents;
  readonly #here = h('ul', { class: 'entries' });
  readonly #device = select('Run on', DEVICES);
  readonly #weights = select('Weights', WEIGHTS);
  #current: ModelChoice = { kind: 'demo' };

  constructor(events: PickerEvents) {
    this.#events = events;
    const files = this.#files('folder-files', { webkitdirectory: true });
    const gguf = this.#files('gguf-files', { multiple: true, accept: '.gguf' });
    this.element = dialog(
      'picker',
      'Choose a model',
      this.#here,
      this.#ask('hub', 'text', 'From the Hugging Face hub', 'owner/name', (name) =>
        HUB_NAME.test(name)
          ? { kind: 'hub', name }
          : 'Write it as owner/name, as the hub does. owner/name:Q4_K_M is one of its GGUF models.',
      ),
      this.#ask('address', 'text', 'From an address', 'https://example.org/models/one/', (url) =>
        /^https?:\/\/./.test(url) && URL.canParse(url)
          ? { kind: 'address', url }
          : 'Write the address of a folder or of a GGUF file, beginning with https://',
      ),
      h(
        'section',
        { class: 'ask' },
        h('h3', {}, 'From this computer'),
        h('button', { type: 'button', click: () => void this.#folder(files) }, icon('folder'), 'Choose a folder'),
        h('button', { type: 'button', click: () => gguf.click() }, icon('folder'), 'Choose a GGUF file'),
        files,
        gguf,
        h(
          'p',
          { class: 'hint' },
          'The folder with config.json, tokenizer.json and model.safetensors, or a GGUF file. Nothing is uploaded.',
        ),
      ),
      h(
        'details',
        { class: 'run' },
        h('summary', {}, 'How it runs'),
        h('div', { class: 'selects' }, this.#device.label, this.#weights.label),
        h('button', { type: 'button', click: () => this.#choose(this.#current) }, 'Load the present model this way'),
      ),
    );
  }

  open(current: ModelChoice, run: RunChoice): void {
    this.#current = current;
    this.#device.element.value = run.device;
    this.#weights.element.value = run.weights;
    this.#list([]);
    this.element.showModal();
    void this.#refresh();
  }

  async #refresh(): Promise<void> {
    this.#list(await this.#events.stored());
  }

  #list(stored: StoredModel[]): void {
    // A model may be kept in several forms, which go together; the one used last comes first.
    const names = [...new Set(stored.map(({ name }) => name))];
    this.#here.replaceChildren(
      this.#entry({ kind: 'demo' }, []),
      ...names.map((name) =>
        this.#entry(
          fromStore(name),
          stored.filter((form) => form.name === name),
        ),
      ),
    );
  }

  #entry(choice: ModelChoice, forms: StoredModel[]): HTMLElement {
    const current = identity(choice) === identity(this.#current);
    const what =
      forms.length > 0
        ? `${forms.map(inWords).join(', ')}: kept in this browser`
        : 'a very small Hymba that reads stories; comes with the page';
    const name = title(choice);
    const choose = () => {
      const [last] = forms;
      if (last) this.#weights.element.value = last.weights ?? 'auto';
      this.#choose(choice);
    };
    return h(
      'li',
      { class: current ? 'current' : '' },
      h(
        'button',
        { type: 'button', class: 'plain entry', 'aria-current': current, click: choose },
        h('span', { class: 'name' }, name),
        h('span', { class: 'what' }, what),
      ),
      forms.length > 0 && this.#remover(name, forms),
    );
  }

  #remover(name: string, forms: StoredModel[]): HTMLElement {
    const size = forms.reduce((sum, form) => sum + form.bytes, 0);
    return remover(`Remove ${name} from this browser`, `Remove ${bytes(size)}?`, async () => {
      await this.#events.remove(forms[0]!.name);
      await this.#refresh();
      this.#here.querySelector('button')?.focus();
    });
  }

  /** A name to type. `read` gives the choice, or what is wrong with it. */
  #ask(
    id: string,
    type: string,
    label: string,
    placeholder: string,
    read: (text: string) => ModelChoice | string,
  ): HTMLElement {
    const input = h('input', {
      type,
      id,
      placeholder,
      autocomplete: 'off',
      autocapitalize: 'off',
      spellcheck: 'false',
      'aria-describedby': `${id}-wrong`,
    });
    const wrong = h('p', { class: 'wrong', id: `${id}-wrong`, role: 'alert' });
    return h(
      'form',
      {
        class: 'ask',
        novalidate: true,
        submit: (event: SubmitEvent) => {
          event.preventDefault();
          const choice = read(input.value.trim());
          const bad = typeof choice === 'string';
          wrong.textContent = bad ? choice : '';
          input.toggleAttribute('aria-invalid', bad);
          if (bad) input.focus();
          else this.#choose(choice);
        },
      },
      h('h3', {}, h('label', { for: id }, label)),
      h('div', { class: 'line' }, input, h('button', { type: 'submit' }, 'Load')),
      wrong,
    );
  }

  /** An input of files, which are a model. */
  #files(id: string, more: Record<string, string | boolean>): HTMLInputElement {
    const files = h('input', { type: 'file', hidden: true, id, ...more });
    files.addEventListener('change', () => {
      const list = [...(files.files ?? [])];
      files.value = '';
      if (list.length > 0) this.#choose({ kind: 'folder', name: placeOf(list), files: list });
    });
    return files;
  }

  async #folder(files: HTMLInputElement): Promise<void> {
    if (!('showDirectoryPicker' in window)) return files.click();
    try {
      const handle = await (window.showDirectoryPicker as () => Promise<FileSystemDirectoryHandle>)();
      this.#choose({ kind: 'folder', name: handle.name, files: handle });
    } catch (error) {
      // Whoever closes the browser's dialog has chosen nothing.
      if (!(error instanceof DOMException && error.name === 'AbortError')) throw error;
    }
  }

  #choose(choice: ModelChoice): void {
    this.element.close();
    this.#events.onChoose(choice, {
      device: this.#device.element.value as RunChoice['device'],
      weights: this.#weights.element.value as RunChoice['weights'],
    });
  }
}

/** A form in which a model is kept, and how much of it. */
function inWords({ bytes: here, total, weights }: StoredModel): string {
  const size = here < total ? `${bytes(here)} of ${bytes(total)}` : bytes(total);
  return weights === undefined ? size : `${size} ${WEIGHTS[weights] ?? weights}`;
}

/** A folder, or the first one of its files. */
function placeOf([file]: File[]): string {
  return file?.webkitRelativePath.split('/')[0] || file?.name || 'a folder';
}

function select(
  label: string,
  options: Record<string, string>,
): { label: HTMLLabelElement; element: HTMLSelectElement } {
  const element = h('select', {}, ...Object.entries(options).map(([value, words]) => h('option', { value }, words)));
  return { label: h('label', {}, label, element), element };
}
