// What Python's round and numpy's percentile and median give.

export const roundHalfEven = (x) => (Math.abs(x % 1) === 0.5 ? 2 * Math.round(x / 2) : Math.round(x));

/** How many of each value there are among bytes. */
export function histogram(values) {
  const counts = new Uint32Array(256);
  for (const value of values) counts[value] += 1;
  return counts;
}

/** The value of a rank (0 is the smallest) of a histogram. */
export function ranked(counts, rank) {
  for (let value = 0, sum = 0; value < 256; value += 1) if ((sum += counts[value]) > rank) return value;
  return 255;
}

/** The value at a share of `size` of them, between two in proportion; at(rank) gives that of a rank. */
const between = (at, size, share) => {
  const place = share * (size - 1);
  const low = at(Math.floor(place));
  return low + (at(Math.ceil(place)) - low) * (place % 1);
};

export const percentile = (counts, size, share) => between((rank) => ranked(counts, rank), size, share);

/** The same of numbers of any kind, which are sorted already. */
export const quantile = (sorted, share) => between((rank) => sorted[rank], sorted.length, share);

export const median = (values) => quantile(Float64Array.from(values).sort(), 0.5);
