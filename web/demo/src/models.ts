// Which model, and how it runs: what the picker chooses and the next visit remembers.

import type { DeviceChoice, LoadOptions, ModelReference, WeightChoice } from 'selvedge';
import { keep, kept } from './storage';

export type ModelChoice =
  | { kind: 'demo' }
  | { kind: 'hub'; name: string }
  | { kind: 'address'; url: string }
  | { kind: 'folder'; name: string; files: File[] | FileSystemDirectoryHandle };

export interface RunChoice {
  device: DeviceChoice;
  weights: WeightChoice;
}

/** The demo model's files: beside the page. */
const DEMO = new URL('model/', document.baseURI);

/** Tells one model from another, for ever: conversations are kept under it. */
export function identity(choice: ModelChoice): string {
  switch (choice.kind) {
    case 'demo':
      return 'demo';
    case 'hub':
      return `hub:${choice.name}`;
    case 'address':
      return `address:${choice.url}`;
    case 'folder':
      return `folder:${choice.name}`;
  }
}

/** Name for people. */
export function title(choice: ModelChoice): string {
  switch (choice.kind) {
    case 'demo':
      return 'Hymba demo';
    case 'address':
      return choice.url.replace(/\/+$/, '').split('/').at(-1) || choice.url;
    default:
      return choice.name;
  }
}

/** Argument of `load`. */
export function reference(choice: ModelChoice): ModelReference {
  switch (choice.kind) {
    case 'demo':
      return DEMO;
    case 'hub':
      return choice.name;
    case 'address':
      return choice.url;
    case 'folder':
      return choice.files;
  }
}

export function loadOptions(choice: ModelChoice, run: RunChoice): LoadOptions {
  // The demo model comes with the page, and is kept as the page is.
  return { device: run.device, weights: run.weights, store: choice.kind !== 'demo' };
}

/** A model by the name under which the browser's store has it. */
export function fromStore(name: string): ModelChoice {
  return name.includes('://') ? { kind: 'address', url: name } : { kind: 'hub', name };
}

const MODEL = 'selvedge.model';
const RUN = 'selvedge.run';

/** The choice of the last visit. A folder cannot be opened again without a person. */
export function lastModel(): ModelChoice {
  const [kind, ...rest] = (kept(MODEL) ?? 'demo').split(':');
  const name = rest.join(':');
  if (kind === 'hub' && name) return { kind, name };
  if (kind === 'address' && name) return { kind, url: name };
  return { kind: 'demo' };
}

export function rememberModel(choice: ModelChoice): void {
  keep(MODEL, choice.kind === 'folder' ? null : identity(choice));
}

export const DEVICES: Record<DeviceChoice, string> = {
  auto: 'GPU, or the CPU without one',
  gpu: 'GPU (WebGPU)',
  cpu: 'CPU (WebAssembly)',
};

export const WEIGHTS: Partial<Record<WeightChoice, string>> = {
  auto: 'as the model has them',
  f16: 'in 16 bits',
  q8: 'in 8 bits',
  q4: 'in 4 bits',
};

export function lastRun(): RunChoice {
  const [device = '', weights = ''] = (kept(RUN) ?? '').split(':');
  return {
    device: device in DEVICES ? (device as DeviceChoice) : 'auto',
    weights: weights in WEIGHTS ? (weights as WeightChoice) : 'auto',
  };
}

export function rememberRun({ device, weights }: RunChoice): void {
  keep(RUN, `${device}:${weights}`);
}
