/** Files that a person chose, read where they lie. */

import { SelvedgeError } from '../errors.js';
import type { Source } from '../types.js';

/** The files directly in a directory. */
export async function filesOfHandle(folder: FileSystemDirectoryHandle): Promise<File[]> {
  const files: File[] = [];
  for await (const entry of folder.values()) {
    if (entry.kind === 'file') files.push(await (entry as FileSystemFileHandle).getFile());
  }
  return files;
}

export function filesSource(place: string, files: readonly File[]): Source {
  const byName = new Map<string, File>();
  const depth = (file: File) => file.webkitRelativePath?.split('/').length ?? 0;
  // A chosen folder brings its subfolders along: of files with the same name, the topmost is the model's.
  for (const file of files.toSorted((a, b) => depth(b) - depth(a))) byName.set(file.name, file);
  return {
    describe: (name) => (name === '' ? `the folder ${place}` : `${place}/${name}`),
    size: async (name) => byName.get(name)?.size ?? null,
    async read(name, start, end) {
      try {
        return new Uint8Array(await (byName.get(name) ?? new Blob()).slice(start, end).arrayBuffer());
      } catch (error) {
        const hint = 'was it changed or moved after it was chosen? Choose it again';
        throw new SelvedgeError('not-found', `${place}/${name} cannot be read (${error}); ${hint}`, { cause: error });
      }
    },
  };
}
