// As much of a browser as the page's modules need in Node.js: elements by id, one table of IndexedDB, no locks.
export class Element extends EventTarget {
  constructor(tag) {
    super();
    Object.assign(this, {
      tag,
      children: [],
      dataset: {},
      attributes: {},
      hidden: false,
      textContent: '',
      value: '',
      classList: { add() {}, remove() {}, toggle() {} },
      style: { setProperty() {}, getPropertyValue: () => '1' },
    });
  }

  append(...children) {
    for (const child of children) {
      if (child instanceof Element) child.parent = this;
      this.children.push(child);
      if (!(child instanceof Element)) this.textContent += child;
    }
  }

  prepend(child) {
    this.append(child);
  }
  replaceChildren(...children) {
    this.children = [];
    this.append(...children);
  }
  remove() {
    if (this.parent) this.parent.children = this.parent.children.filter((one) => one !== this);
  }
  setAttribute(name, value) {
    this.attributes[name] = String(value);
  }
  get firstChild() {
    return this.children[0];
  }
  get lastChild() {
    return this.children.at(-1);
  }
  getBoundingClientRect() {
    return { left: 0, top: 0, width: 256, height: 256 };
  }
  click() {
    this.dispatchEvent(new Event('click'));
  }
  querySelector() {
    return (this.inner ??= new Element('inner'));
  }
  querySelectorAll() {
    return [];
  }
  showModal() {
    this.open = true;
  }
  close(value = '') {
    Object.assign(this, { open: false, returnValue: value });
    this.dispatchEvent(new Event('close'));
  }
}

const elements = new Map();
export const element = (id) => elements.get(id) ?? elements.set(id, new Element(id)).get(id);
export const anew = () => elements.clear();
export const toasts = () => element('toasts').children.map((box) => box.children[0].textContent);

/** What IndexedDB keeps; `broken`: an error that reading throws; `refuses(key)`: whether a value has no room. */
export const kept = { rows: new Map(), broken: null, refuses: () => false, opened: [], there: true };

function request(act) {
  const asked = {};
  setImmediate(() => {
    try {
      asked.result = act();
    } catch (error) {
      asked.error = error;
      asked.onerror?.();
      return;
    }
    asked.onupgradeneeded?.();
    asked.onsuccess?.();
  });
  return asked;
}

class Database {
  closed = false;
  createObjectStore() {}
  close() {
    this.closed = true;
  }
  transaction() {
    if (this.closed) throw new DOMException('closed', 'InvalidStateError');
    const rows = new Map(kept.rows);
    const transaction = {};
    setImmediate(() => {
      if (transaction.error) transaction.onabort?.();
      else {
        kept.rows = rows;
        transaction.oncomplete?.();
      }
    });
    const read = (values) =>
      request(() => {
        if (kept.broken) throw kept.broken;
        return values();
      });
    const put = (value, key) => {
      if (kept.refuses(key)) transaction.error = new DOMException('no room', 'QuotaExceededError');
      rows.set(key, structuredClone(value));
    };
    return {
      objectStore: () => ({
        transaction,
        put,
        delete: (key) => rows.delete(key),
        getAllKeys: () => read(() => [...kept.rows.keys()]),
        getAll: () => read(() => [...kept.rows.values()]),
      }),
    };
  }
}

export const asked = { persist: 0 };
globalThis.document = {
  getElementById: element,
  createElement: (tag) => new Element(tag),
  createElementNS: (_, tag) => new Element(tag),
  querySelector: (name) => element(name),
  querySelectorAll: () => [],
  documentElement: new Element('html'),
};
globalThis.location = { origin: '', pathname: '/', hash: '' };
globalThis.history = { replaceState() {} };
globalThis.addEventListener = () => {};
globalThis.Image = class {
  async decode() {
    if (this.src.endsWith('bad')) throw new Error('no picture');
  }
};
globalThis.indexedDB = {
  open: () => {
    if (!kept.there) throw new DOMException('blocked', 'SecurityError');
    return request(() => {
      kept.opened.push(new Database());
      return kept.opened.at(-1);
    });
  },
};
Object.defineProperty(globalThis, 'navigator', {
  value: {
    storage: {
      persist: async () => {
        asked.persist += 1;
      },
    },
  },
  configurable: true,
});

export const pause = (milliseconds = 0) => new Promise((resolve) => setTimeout(resolve, milliseconds));
export const until = async (test) => {
  while (!(await test())) await pause(5);
};
