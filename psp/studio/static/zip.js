// Zip files, written and read: enough of the format for what this page saves and for what other programs pack again.
import { joined, size, through, unpacked } from './bytes.js';
import { crc } from './png.js';

const WIDE = 0x0800; // names are UTF-8
export const MOST = 400e6; // bytes that an archive may unpack to

/** files: [[name, Uint8Array], ...]. Returns the archive as a Uint8Array; text is packed, pictures are stored. */
export async function zip(files) {
  const parts = [];
  const directory = [];
  let at = 0;
  for (const [name, bytes] of files) {
    const label = new TextEncoder().encode(name);
    const packs = !/\.(png|npy)$/.test(name);
    const body = packs ? await through(bytes, new CompressionStream('deflate-raw')) : bytes;
    const common = new DataView(new ArrayBuffer(26));
    // the time is not kept: equal work, equal file
    [20, WIDE, packs ? 8 : 0, 0, 0x5c21].forEach((value, k) => common.setUint16(2 * k, value, true));
    [crc(bytes), body.length, bytes.length].forEach((value, k) => common.setUint32(10 + 4 * k, value, true));
    common.setUint16(22, label.length, true);
    const shared = new Uint8Array(common.buffer);
    const end = new DataView(new ArrayBuffer(14)); // comment, disk, attributes, offset
    end.setUint32(10, at, true);
    directory.push(Uint8Array.of(80, 75, 1, 2, 20, 0), shared, new Uint8Array(end.buffer), label);
    const local = [Uint8Array.of(80, 75, 3, 4), shared, label, body];
    parts.push(...local);
    at += size(local);
  }
  const closing = new DataView(new ArrayBuffer(22));
  closing.setUint32(0, 0x06054b50, true);
  closing.setUint16(8, files.length, true);
  closing.setUint16(10, files.length, true);
  closing.setUint32(12, size(directory), true);
  closing.setUint32(16, at, true);
  return joined([...parts, ...directory, new Uint8Array(closing.buffer)]);
}

/**
 * The files of an archive: Map of name -> Uint8Array. Throws for what is no zip, is damaged, or unpacks to too much.
 */
export async function unzip(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let end = bytes.length - 22;
  while (end >= 0 && view.getUint32(end, true) !== 0x06054b50) end -= 1;
  if (end < 0) throw new Error('no zip file');
  const files = new Map();
  let at = view.getUint32(end + 16, true);
  let sum = 0;
  for (let k = view.getUint16(end + 10, true); k > 0; k -= 1) {
    if (view.getUint32(at, true) !== 0x02014b50) throw new Error('damaged zip file');
    const [packs, check, packed, length] = [
      view.getUint16(at + 10, true),
      view.getUint32(at + 16, true),
      view.getUint32(at + 20, true),
      view.getUint32(at + 24, true),
    ];
    const [label, extra, comment, start] = [
      view.getUint16(at + 28, true),
      view.getUint16(at + 30, true),
      view.getUint16(at + 32, true),
      view.getUint32(at + 42, true),
    ];
    const name = new TextDecoder().decode(bytes.subarray(at + 46, at + 46 + label));
    const from = start + 30 + view.getUint16(start + 26, true) + view.getUint16(start + 28, true);
    if ((sum += length) > MOST) throw new Error('the zip file unpacks to too much');
    const body = bytes.subarray(from, from + packed);
    const content = packs === 8 ? await unpacked(body, 'deflate-raw', length) : body;
    if (content.length !== length || crc(content) !== check) throw new Error('damaged zip file');
    files.set(name, content);
    at += 46 + label + extra + comment;
  }
  return files;
}
