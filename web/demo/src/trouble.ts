// Errors in plain words, with advice.

import { SelvedgeError, type ErrorCode } from 'selvedge';

export interface Trouble {
  title: string;
  /** Advice. */
  advice: string;
  /** The engine's own message. */
  detail: string;
  code: ErrorCode;
}

const WORDS: Record<ErrorCode, [title: string, advice: string]> = {
  'not-found': [
    'There is no such model',
    'Check the name or the address, and that the folder holds config.json and model.safetensors, or a GGUF file.',
  ],
  network: ['The download did not get through', 'Check the connection and try again: what has arrived is kept.'],
  'unsupported-model': [
    'This model is of a kind that is not supported',
    'Choose another one; the README lists the families that run.',
  ],
  'corrupt-weights': [
    'The model’s files are damaged',
    'Remove the model from this browser and load it again, or choose another copy of it.',
  ],
  'no-device': ['This browser offers no GPU to the page', 'Try again on the CPU.'],
  'faulty-device': ['The GPU computes wrongly', 'Updating the graphics driver may help. The CPU works in any case.'],
  'out-of-memory': [
    'The model does not fit',
    'Close other tabs, or choose a smaller model or fewer bits for its weights.',
  ],
  'device-lost': ['The GPU went away', 'Load the model again; what was said is still here.'],
  'context-full': [
    'The conversation is as long as the model can remember',
    'Begin a new conversation, or edit an earlier message to go on from there.',
  ],
  'not-finite': [
    'The model’s numbers grew beyond all bounds',
    'Load it with more precise weights, or choose another copy of it.',
  ],
  'bad-state': [
    'The saved conversation cannot be used',
    'It is damaged, or of another model: load the model that it was saved with.',
  ],
  unauthorized: ['The server asks for another key', 'Check the key that it was given, and load again.'],
  busy: ['The server has too much to do', 'Wait a moment and send the message again.'],
  interrupted: ['The server went away amid the reply', 'What it said is kept. Send the message again.'],
  'not-remote': ['The server cannot do that', 'Load the model on this device for it.'],
  aborted: ['Stopped', 'It can be begun again at any time.'],
  'bad-request': ['That cannot be done', 'Try it in another way.'],
  disposed: ['The model was unloaded', 'Load it again; what was said is still here.'],
  internal: [
    'Something went wrong that should not',
    'Load the model again. If it comes back, please report it with the text below.',
  ],
};

export function trouble(error: unknown): Trouble {
  const code = error instanceof SelvedgeError ? error.code : 'internal';
  const detail = error instanceof Error ? error.message : String(error);
  const [title, advice] = WORDS[code] ?? WORDS.internal;
  return { title, advice, detail, code };
}
