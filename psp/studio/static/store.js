// What the browser keeps for this page: one table of IndexedDB. Without it (a private window) nothing is kept.
const PATIENCE = 1500; // ms that a window which is just closing is waited for
const AWAY = 4000; // ms after which a window that has gone is closed, and not only loading anew

const asked = (request) =>
  new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });

/** What belongs to the page of this address: another one of the same site keeps its own. */
export const named = (path) => `studio${path.replace(/[^/]*$/, '').replace(/^\/$/, '')}`;
const NAME = named(location.pathname);

let opened = open();
/**
 * The database, or null where this browser has none. It is opened anew after it was closed: site data was cleared, say.
 */
function open() {
  return new Promise((resolve) => {
    try {
      const request = indexedDB.open(NAME, 1);
      request.onupgradeneeded = () => request.result.createObjectStore('kept');
      request.onsuccess = () => {
        const database = request.result;
        database.onclose = database.onversionchange = () => {
          database.close();
          opened = open();
        };
        resolve(database);
      };
      request.onerror = () => resolve(null);
    } catch {
      resolve(null);
    }
  });
}

async function table(mode, again = true) {
  const database = await opened;
  try {
    return database?.transaction('kept', mode, { durability: 'relaxed' }).objectStore('kept') ?? null;
  } catch (error) {
    if (error.name !== 'InvalidStateError' || !again) throw error;
    opened = open(); // it was closed, and nobody said so
    return table(mode, false);
  }
}

/** Everything that is kept: Map of key -> value. */
export async function readAll() {
  const kept = await table('readonly');
  if (!kept) return new Map();
  const [keys, values] = await Promise.all([asked(kept.getAllKeys()), asked(kept.getAll())]);
  return new Map(keys.map((key, k) => [key, values[k]]));
}

/** Write pairs [key, value]; undefined removes. All or nothing; throws when this browser keeps nothing. */
export async function write(pairs) {
  const kept = await table('readwrite');
  if (!kept) throw new Error('no IndexedDB');
  for (const [key, value] of pairs) {
    if (value === undefined) kept.delete(key);
    else kept.put(value, key);
  }
  await new Promise((resolve, reject) => {
    kept.transaction.oncomplete = resolve;
    kept.transaction.onabort = () => reject(kept.transaction.error);
  });
}

export async function keys() {
  const kept = await table('readonly');
  return kept ? asked(kept.getAllKeys()) : [];
}

/**
 * Until this window is the one that may write; a second one of the same browser would overwrite its work. elsewhere():
 * it is not yet, and waits until the other one is closed.
 */
export async function claim(elsewhere) {
  const { locks } = navigator;
  if (!locks) return; // a page that is not from this machine, without https
  const hold = (options) =>
    new Promise((resolve) => {
      const held = (lock) => {
        resolve(Boolean(lock));
        return lock && new Promise(() => {});
      };
      locks.request(NAME, options, held).catch(() => resolve(false));
    });
  if (await hold({ signal: AbortSignal.timeout(PATIENCE) })) return;
  elsewhere();
  do {
    await locks.request(NAME, () => {});
    await new Promise((resolve) => setTimeout(resolve, AWAY));
  } while (!(await hold({ ifAvailable: true })));
}
