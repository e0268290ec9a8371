/** Files that a person chose, read where they lie. */

import { SelvedgeError } from '../errors.js';
import type { Source } from '../types.js';
import { POOLING } from './http.js';

/** Files of a model by name. */
export type Files = ReadonlyMap<string, File>;

/** The files directly in a directory, and that of the pooling. */
export async function filesOfHandle(folder: FileSystemDirectoryHandle): Promise<Files> {
  const files = new Map<string, File>();
  const [inside, name = ''] = POOLING.split('/');
  for await (const entry of folder.values()) {
    if (entry.kind === 'file') files.set(entry.name, await (entry as FileSystemFileHandle).getFile());
    if (entry.kind !== 'directory' || entry.name !== inside) continue;
    const pooling = await (entry as FileSystemDirectoryHandle).getFileHandle(name).catch(() => undefined);
    if (pooling) files.set(POOLING, await pooling.getFile());
  }
  return files;
}

/** The files of a chosen folder, or those that were chosen one by one. */
export function filesOfList(list: readonly File[]): Files {
  const files = new Map<string, File>();
  const path = (file: File) => file.webkitRelativePath ?? '';
  const depth = (file: File) => path(file).split('/').length;
  // A chosen folder brings its subfolders along: of files with the same name, the topmost is the model's.
  for (const file of list.toSorted((a, b) => depth(b) - depth(a))) files.set(file.name, file);
  const config = files.get('config.json');
  const folder = config && path(config).slice(0, -config.name.length);
  const pooling = folder && list.find((file) => path(file) === folder + POOLING);
  if (pooling) files.set(POOLING, pooling);
  return files;
}

export function filesSource(place: string, byName: Files): Source {
  return {
    files: [...byName.keys()],
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
