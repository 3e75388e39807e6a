// Bytes: base64, joined, packed and unpacked.
export const bytesOf = (base64) => Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));

export const blobOf = (base64, type) => new Blob([bytesOf(base64)], { type });

export function base64Of(bytes) {
  let text = '';
  for (let k = 0; k < bytes.length; k += 8192) text += String.fromCharCode(...bytes.subarray(k, k + 8192));
  return btoa(text);
}

export const size = (parts) => parts.reduce((sum, part) => sum + part.length, 0);

export function joined(parts) {
  const all = new Uint8Array(size(parts));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}

/** Bytes sent through a stream that packs or unpacks them. */
export const through = async (bytes, stream) =>
  new Uint8Array(await new Response(new Blob([bytes]).stream().pipeThrough(stream)).arrayBuffer());

/** Packed bytes unpacked; throws when there is more in them than `most` bytes. */
export async function unpacked(bytes, format, most) {
  const reader = new Blob([bytes]).stream().pipeThrough(new DecompressionStream(format)).getReader();
  const parts = [];
  let sum = 0;
  for (let { done, value } = await reader.read(); !done; { done, value } = await reader.read()) {
    parts.push(value);
    if ((sum += value.length) > most) {
      reader.cancel();
      throw new Error('the file unpacks to too much');
    }
  }
  return joined(parts);
}
