// Requests to the server this page came from. Every failure is an ApiError with one sentence.
import { ApiError } from './errors.js';
import { t } from './words.js';

/** Requests of one page take each other's place on the server: only the newest is worked on. */
export const session = [...crypto.getRandomValues(new Uint8Array(12))]
  .map((n) => n.toString(16).padStart(2, '0'))
  .join('');

async function answered(promise) {
  let response;
  try {
    response = await promise;
  } catch (error) {
    if (error.name === 'AbortError') throw error;
    throw new ApiError(t('gone'), 0);
  }
  let content = null;
  try {
    content = await response.json();
  } catch (error) {
    if (error.name === 'AbortError') throw error;
  }
  if (!response.ok || content === null) {
    throw new ApiError(
      content?.error ?? t('answered', { status: response.status }),
      response.status,
      Number(response.headers.get('Retry-After')),
    );
  }
  return content;
}

export const get = (path) => answered(fetch(path));

/** POST of a form; values that are null are left out. */
export function post(path, values, signal) {
  const form = new FormData();
  for (const [name, value] of Object.entries(values)) {
    if (value === null || value === undefined) continue;
    if (value instanceof Blob) form.append(name, value, name);
    else form.append(name, String(value));
  }
  return answered(fetch(path, { method: 'POST', body: form, signal }));
}
