/** The browser's private file system: whole small files in folders. */

export type Folder = FileSystemDirectoryHandle;

/** Only in workers, and so not among the types of a page. */
interface SyncAccessHandle {
  truncate(size: number): void;
  write(bytes: Uint8Array, options: { at: number }): number;
  flush(): void;
  close(): void;
}

/** A folder in a folder, made where there is none. */
export function folder(parent: Folder, name: string): Promise<Folder> {
  return parent.getDirectoryHandle(name, { create: true });
}

export async function entries(at: Folder): Promise<FileSystemHandle[]> {
  const found: FileSystemHandle[] = [];
  for await (const entry of at.values()) found.push(entry);
  return found;
}

/** Removes a file, or a folder with all that is in it; false when it is not there. */
export async function removeEntry(parent: Folder, name: string): Promise<boolean> {
  try {
    await parent.removeEntry(name, { recursive: true });
    return true;
  } catch (error) {
    if (error instanceof DOMException && error.name === 'NotFoundError') return false;
    throw error;
  }
}

export async function readFile(at: Folder, name: string): Promise<Uint8Array> {
  const file = await (await at.getFileHandle(name)).getFile();
  return new Uint8Array(await file.arrayBuffer());
}

/** Writes a whole file: all or nothing where the browser can. */
export async function writeFile(at: Folder, name: string, bytes: Uint8Array): Promise<void> {
  const handle = (await at.getFileHandle(name, { create: true })) as FileSystemFileHandle & {
    createSyncAccessHandle?: () => Promise<SyncAccessHandle>;
  };
  if (typeof handle.createWritable === 'function') {
    const stream = await handle.createWritable();
    try {
      await stream.write(bytes as Uint8Array<ArrayBuffer>);
    } catch (error) {
      await stream.abort().catch(() => {});
      throw error;
    }
    await stream.close();
    return;
  }
  if (!handle.createSyncAccessHandle) throw new Error('this browser writes files in workers only');
  const access = await handle.createSyncAccessHandle();
  try {
    access.truncate(0);
    if (access.write(bytes, { at: 0 }) < bytes.length) throw new DOMException('no space left', 'QuotaExceededError');
    access.flush();
  } finally {
    access.close();
  }
}
