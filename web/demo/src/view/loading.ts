// A model on its way: the stage in words, and cloth that grows with its bytes.

import type { LoadProgress, LoadStage } from 'selvedge';
import { h } from '../dom';
import { bytes, share } from '../words';

const STAGES: Record<LoadStage, string> = {
  runtime: 'Starting the engine',
  open: 'Reading the model’s description',
  device: 'Opening the device and testing its arithmetic',
  weights: 'Moving the weights to the device',
  ready: 'Ready',
};

export class Loading {
  readonly element: HTMLElement;
  readonly #title = h('h2');
  readonly #stage = h('p', { class: 'stage' });
  readonly #cloth = h('div', { class: 'cloth', role: 'progressbar', 'aria-valuemin': 0, 'aria-valuemax': 100 });

  constructor(onCancel: () => void) {
    this.element = h(
      'section',
      { class: 'loading', 'aria-label': 'Loading', hidden: true },
      this.#title,
      this.#cloth,
      h(
        'div',
        { class: 'below' },
        this.#stage,
        h('button', { type: 'button', class: 'plain small', click: onCancel }, 'Cancel'),
      ),
    );
  }

  begin(model: string): void {
    this.#title.textContent = `Loading ${model}`;
    this.#cloth.setAttribute('aria-label', `Loading ${model}`);
    this.show({ stage: 'runtime', done: 0, total: 0, downloaded: 0 });
    this.element.hidden = false;
  }

  show({ stage, done, total, downloaded }: LoadProgress): void {
    const known = stage === 'weights' && total > 0;
    const part = stage === 'ready' ? 1 : share(done, total);
    this.#cloth.classList.toggle('unknown', !known && stage !== 'ready');
    this.#cloth.style.setProperty('--done', String(part));
    if (known) this.#cloth.setAttribute('aria-valuenow', String(Math.round(part * 100)));
    else this.#cloth.removeAttribute('aria-valuenow');
    const moved = known ? `: ${bytes(done)} of ${bytes(total)}` : '';
    const fetched = downloaded > 0 ? ` · ${bytes(downloaded)} downloaded` : '';
    this.#stage.textContent = `${STAGES[stage]}${moved}${fetched}`;
  }

  end(): void {
    this.element.hidden = true;
  }
}
