// Sorts Gaussians from the farthest to the nearest, in a thread of its own, by counting.

let centres = new Float32Array(0);
const BUCKETS = 1 << 18;
const counts = new Uint32Array(BUCKETS + 1);

onmessage = ({ data }) => {
  if (data.all) centres = data.all;
  if (data.moved) centres.set(data.moved);
  const order = sorted(data.axis, data.offset);
  postMessage({ order, version: data.version }, [order.buffer]);
};

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
