/** From what names a model to a source of its bytes. */

import { SelvedgeError } from './errors.js';
import { bytesSource } from './sources/bytes.js';
import { filesOfHandle, filesOfList, filesSource } from './sources/files.js';
import { HttpOrigin, type HttpOptions } from './sources/http.js';
import { hubOrigin, parseHubName } from './sources/hub.js';
import { RemoteSource } from './sources/remote.js';
import { PACKED, openStore, storedName, type ModelStore } from './store/models.js';
import type { LoadOptions, ModelReference, Notice, Source } from './types.js';

/** A model whose bytes can be read until it is closed. */
export interface OpenedModel {
  readonly name: string;
  /** Opens the same model again. An address is absolute: a page's own may change. */
  readonly reference: ModelReference;
  readonly source: Source;
  /** Of a model of the network that is wanted quantised: where that form is kept. `source` is the original. */
  readonly packed?: { readonly original: RemoteSource; readonly store: ModelStore };
  /** Bytes that came over the network so far. */
  downloaded(): number;
  close(): Promise<void>;
}

/** Opens a model; `arrived` is called when bytes came over the network. */
export async function openModel(
  reference: ModelReference,
  options: LoadOptions,
  notice: (notice: Notice) => void,
  arrived: () => void,
): Promise<OpenedModel> {
  if (typeof reference === 'string' || reference instanceof URL) {
    return openRemote(String(reference), options, notice, arrived);
  }
  const [name, source] = await openLocal(reference);
  return { name, reference, source, downloaded: () => 0, close: async () => {} };
}

async function openRemote(
  reference: string,
  options: LoadOptions,
  notice: (notice: Notice) => void,
  arrived: () => void,
): Promise<OpenedModel> {
  const { store: keep = true } = options;
  const closing = new AbortController();
  const signal = AbortSignal.any([closing.signal, ...(options.signal ? [options.signal] : [])]);
  let downloaded = 0;
  const came = (bytes: number) => {
    downloaded += bytes;
    arrived();
  };
  const hubName = parseHubName(reference);
  const [name, query] = hubName ? [reference, ''] : address(reference);
  const packed = PACKED.find((weights) => weights === options.weights);
  const store = keep ? await openStore(storedName(name, packed), notice) : undefined;
  try {
    // The original of a quantised model is not kept.
    const own = packed ? undefined : store;
    const origin = hubName
      ? await hubOrigin(hubName, { ...options, signal }, store, came)
      : fileOrigin(name, { signal, came, query });
    const source = new RemoteSource(origin, own, notice);
    const close = async () => {
      closing.abort();
      await source.close();
      await store?.close();
    };
    const opened = { name, reference: name + query, source, downloaded: () => downloaded, close };
    return packed && store ? { ...opened, packed: { original: source, store } } : opened;
  } catch (error) {
    await store?.close();
    throw error;
  }
}

/** Files of a folder on a server, or of that of a GGUF file. */
function fileOrigin(name: string, options: HttpOptions): HttpOrigin {
  const [, base = `${name}/`, file] = /^(.*\/)([^/]+\.gguf)$/i.exec(name) ?? [];
  return new HttpOrigin(base, file === undefined ? options : { ...options, gguf: decodeURIComponent(file) });
}

/** The address of a folder or a GGUF file, and the query of that; paths are relative to the page, or to the script of a worker. */
function address(reference: string): [href: string, query: string] {
  const absolute = /^[a-z][a-z0-9+.-]*:/i.test(reference);
  const here = (globalThis as { document?: { baseURI: string } }).document?.baseURI ?? globalThis.location?.href;
  try {
    if (absolute || /^\.{0,2}\//.test(reference)) {
      const url = new URL(reference, here);
      const query = /\.gguf$/i.test(url.pathname) ? url.search : '';
      url.search = url.hash = '';
      return [url.href.replace(/\/+$/, ''), query];
    }
  } catch {
    // Said below.
  }
  throw new SelvedgeError(
    'bad-request',
    `\`${reference}\` names no model: use org/name for one on the hub, or the address of a folder or a GGUF file (https://…, /… or ./…)`,
  );
}

async function openLocal(reference: Exclude<ModelReference, string | URL>): Promise<[string, Source]> {
  if (typeof reference !== 'object' || reference === null) throw noModel();
  if (isSource(reference)) return [reference.describe(reference.gguf ?? ''), reference];
  if (reference instanceof Blob) return openLocal([reference]);
  if ('kind' in reference && reference.kind === 'directory') {
    const folder = reference as FileSystemDirectoryHandle;
    return [folder.name, filesSource(folder.name, await filesOfHandle(folder))];
  }
  if ('length' in reference && typeof reference.length === 'number') {
    const files = Array.from(reference as ArrayLike<File>);
    if (files.every((file) => file instanceof Blob)) {
      const name = files[0]?.webkitRelativePath?.split('/')[0] || (files.length === 1 && files[0]?.name) || 'files';
      return [name, filesSource(name, filesOfList(files))];
    }
  }
  const entries = reference instanceof Map ? [...reference] : Object.entries(reference);
  if (entries.every(([, bytes]) => bytes instanceof Uint8Array)) {
    return ['files in memory', bytesSource(new Map(entries as [string, Uint8Array][]))];
  }
  throw noModel();
}

function noModel(): SelvedgeError {
  return new SelvedgeError('bad-request', 'a model is a name, an address, files, a directory handle, bytes or a Source');
}

function isSource(reference: object): reference is Source {
  const { describe, size, read } = reference as Partial<Source>;
  return [describe, size, read].every((method) => typeof method === 'function');
}
