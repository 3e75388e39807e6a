// In place of requests to a server: the same questions, answered by the models in this browser (worker.js).
import { bytesOf } from './bytes.js';
import { ApiError } from './errors.js';
import { knows, t } from './words.js';

const IDLE = 1000; // ms of rest before another model is read

export const session = 'browser';
const waiting = new Map();
let about;
let models;
let device = 'WebAssembly';
let worker;
let count = 0;

function ask(what, values, signal) {
  if (!worker) {
    worker = new Worker(new URL('worker.js', import.meta.url), { type: 'module' });
    worker.addEventListener('message', ({ data }) => waiting.get(data.id)?.(data));
    worker.addEventListener('error', (event) => {
      // the next request starts another one
      worker.terminate();
      worker = undefined;
      for (const answer of waiting.values()) answer({ error: event.message || 'web.no-start', status: 500 });
      waiting.clear();
    });
  }
  const id = (count += 1);
  return new Promise((resolve, reject) => {
    signal?.addEventListener('abort', () => {
      if (!waiting.delete(id)) return;
      worker.postMessage({ cancel: id });
      reject(new DOMException('a newer request took its place', 'AbortError'));
    });
    waiting.set(id, (answer) => {
      waiting.delete(id);
      if (answer.error) reject(new ApiError(knows(answer.error) ? t(answer.error) : answer.error, answer.status));
      else resolve(answer);
    });
    worker.postMessage({ id, what, ...values });
  });
}

async function file(name) {
  try {
    return await (await fetch(name)).json();
  } catch {
    throw new ApiError(t('web.gone'), 0);
  }
}

async function known(id) {
  await get('api/models');
  return models.find((model) => model.id === id) ?? models[0];
}

/** asked: somebody waits for it; otherwise it may fail, and is read when somebody does. */
async function load(model, asked = true) {
  if (model.state !== 'cold' && model.state !== 'failed') return;
  Object.assign(model, { state: 'loading', since: performance.now(), error: undefined });
  try {
    const { result } = await ask('load', { model });
    device = `WebAssembly × ${result.threads}`;
    model.state = 'ready';
    setTimeout(loadOthers, IDLE);
  } catch (error) {
    Object.assign(model, asked ? { state: 'failed', error: error.message } : { state: 'cold' });
  }
}

/** The other models are read as well while nothing else is to be done, so that the page then needs no network. */
function loadOthers() {
  const next = models.find(({ state }) => state === 'cold');
  if (waiting.size) setTimeout(loadOthers, IDLE);
  else if (next) load(next, false);
}

const shown = (model) => ({
  ...model,
  loading_for: model.state === 'loading' ? (performance.now() - model.since) / 1000 : undefined,
});

export async function get(path) {
  if (typeof WebAssembly !== 'object') throw new ApiError(t('web.no-wasm'), 0);
  about ??= await file('about.json');
  models ??= (await file('models.json')).map((model) => ({
    ...model,
    state: 'cold',
    colours: about.labels.map(({ colour }) => colour),
  }));
  if (path === 'api/about') return { ...about, device };
  return { models: models.map(shown), default: models[0].id, device };
}

export async function post(path, values, signal) {
  const model = await known(values.model);
  const kind = path.slice('api/'.length);
  if (kind === 'load') {
    load(model);
    return shown(model);
  }
  if (kind === 'generate' || kind === 'interpolate') {
    const given =
      kind === 'generate'
        ? values
        : { a: code(values.a), b: code(values.b), at: String(values.t).split(',').map(Number) };
    const { result, seconds } = await ask(kind, { ...given, model }, signal);
    Object.assign(model, { state: 'ready' });
    return { model: model.id, device, seconds: { waiting: 0, loading: 0, network: seconds }, pictures: result };
  }
  const { result } = await ask(
    'prepare',
    { kind, image: values.image, prefer: values.prefer, colours: model.colours },
    signal,
  );
  return { size: 256, sure: true, ...result };
}

const code = (base64) => new Blob([bytesOf(base64)]);
