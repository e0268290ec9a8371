// The numbers of a small safetensors file.

import { readFileSync } from 'node:fs';

/** A function from a tensor's name to its numbers, and their `names`: `F32` and `I64` are all that goldens have. */
export function openSafetensors(path) {
  const file = readFileSync(path);
  const start = 8 + Number(file.readBigUInt64LE(0));
  const header = JSON.parse(file.toString('utf8', 8, start));
  const numbers = (name) => {
    const entry = header[name];
    if (!entry) throw new Error(`${path}: no tensor ${name}`);
    const [from, to] = entry.data_offsets;
    // A copy, because typed arrays must begin on a multiple of their size.
    const bytes = new Uint8Array(file.subarray(start + from, start + to)).buffer;
    if (entry.dtype === 'F32') return Array.from(new Float32Array(bytes));
    if (entry.dtype === 'I64') return Array.from(new BigInt64Array(bytes), Number);
    throw new Error(`${path}: ${name} is ${entry.dtype}`);
  };
  return Object.assign(numbers, { names: Object.keys(header) });
}
