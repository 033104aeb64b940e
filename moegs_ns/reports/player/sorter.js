// Sorts Gaussians from the farthest to the nearest, in a thread of its own, by counting.

let centres = new Float32Array(0);
let experts = new Uint8Array(0);
const BUCKETS = 1 << 18;
const counts = new Uint32Array(BUCKETS + 1);

onmessage = ({ data }) => {
  if (data.all) [centres, experts] = [data.all, data.experts];
  if (data.moved) centres.set(data.moved);
  const together = sorted(data.axis, data.offset);
  const { order, starts } = data.apart ? apart(together, data.apart) : { order: together, starts: [0, together.length] };
  postMessage({ order, starts, version: data.version }, [order.buffer]);
};

/** The same order for each of `count` experts, one after the other, and where each begins. */
function apart(order, count) {
  const starts = new Array(count + 1).fill(0);
  for (const row of order) starts[experts[row] + 1]++;
  for (let expert = 0; expert < count; expert++) starts[expert + 1] += starts[expert];
  const next = [...starts], parted = new Uint32Array(order.length);
  for (const row of order) parted[next[experts[row]]++] = row;
  return { order: parted, starts };
}

/** Rows in front of the camera; depth is the product with `axis` plus `offset`. */
function sorted(axis, offset) {
  const count = centres.length / 3;
  const depths = new Float32Array(count);
  // Positive floats are in the order of their bits, so buckets are fine near the camera.
  const bits = new Uint32Array(depths.buffer);
  let least = 0xffffffff, most = 0, visible = 0;
  for (let i = 0; i < count; i++) {
    const at = 3 * i;
    const depth = axis[0] * centres[at] + axis[1] * centres[at + 1] + axis[2] * centres[at + 2] + offset;
    depths[i] = depth > 0 ? depth : 0;
    if (!(depth > 0)) continue;
    visible++;
    if (bits[i] < least) least = bits[i];
    if (bits[i] > most) most = bits[i];
  }
  let shift = 0;
  while (most - least >= BUCKETS * 2 ** shift) shift++;
  counts.fill(0);
  for (let i = 0; i < count; i++) if (bits[i] > 0) counts[((most - bits[i]) >>> shift) + 1]++;
  for (let bucket = 0; bucket < BUCKETS; bucket++) counts[bucket + 1] += counts[bucket];
  const order = new Uint32Array(visible);
  for (let i = 0; i < count; i++) if (bits[i] > 0) order[counts[(most - bits[i]) >>> shift]++] = i;
  return order;
}
