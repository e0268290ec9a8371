/** Files in memory. */

import type { Source } from '../types.js';

export function bytesSource(files: ReadonlyMap<string, Uint8Array>): Source {
  return {
    files: [...files.keys()],
    describe: (name) => name || 'the files in memory',
    size: async (name) => files.get(name)?.byteLength ?? null,
    read: async (name, start, end) => (files.get(name) ?? new Uint8Array()).subarray(start, end),
  };
}
