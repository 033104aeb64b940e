// The Gaussians of the clip: decoded once, and put together for any instant.

const FLOATS = 16; // of a Gaussian: centre, opacity; rotation; size, kind; colour, share
const INSTANT = { before: 0, after: 0, weight: 0 }; // the first key frame, or the only one

/** The bytes that base64 text holds, uncompressed. */
async function unpacked(text) {
  const binary = atob(text.trim());
  const bytes = new Uint8Array(binary.length);
  for (let i = 0; i < binary.length; i++) bytes[i] = binary.charCodeAt(i);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/** Reads one group, all still or all moving Gaussians: an array [frame * count + row] per channel. */
class Group {
  constructor(header, bytes, offset, count, numFrames) {
    this.count = count;
    this.numFrames = numFrames;
    this.codes = header.codes;
    this.values = {};
    for (const [name, bits, channels, isTimed] of header.attributes) {
      const frames = isTimed ? numFrames : 1;
      this.values[name] = [];
      for (let channel = 0; channel < channels; channel++) {
        const column = new Uint32Array(frames * count);
        for (let shift = 0; shift < bits; shift += 8)
          for (let i = 0; i < column.length; i++) column[i] += bytes[offset++] * 2 ** shift;
        const mask = 2 ** bits - 1;
        for (let i = count; i < column.length; i++) column[i] = (column[i] + column[i - count]) & mask;
        this.values[name].push(column);
      }
    }
    this.end = offset;
  }

  /** Writes one channel between two key frames to every `stride`-th number of `target`. */
  fill(name, channel, between, target, start, stride) {
    const column = this.values[name][channel];
    const { low, step } = this.codes[name];
    const last = column.length / Math.max(1, this.count) - 1;
    const a = Math.min(between.before, last) * this.count;
    const b = Math.min(between.after, last) * this.count;
    const base = low[channel], scale = step[channel], weight = between.weight;
    for (let i = 0, at = start; i < this.count; i++, at += stride) {
      const from = column[a + i];
      target[at] = base + scale * (from + (column[b + i] - from) * weight);
    }
  }

  /** Writes all Gaussians at an instant, FLOATS numbers each. */
  write(between, target, first) {
    const start = first * FLOATS;
    const put = (name, channel, place) =>
      this.fill(name, channel, between, target, start + place, FLOATS);
    for (let axis = 0; axis < 3; axis++) {
      put("means", axis, axis);
      put("log_scales", axis, 8 + axis);
      put("colors", axis, 12 + axis);
    }
    put("opacities", 0, 3);
    for (let part = 0; part < 4; part++) put("quats", part, 4 + part);
    put("kind_of", 0, 11);
    put("shares", 0, 15);
    for (let i = 0, at = start + 8; i < this.count; i++, at += FLOATS)
      for (let axis = 0; axis < 3; axis++) target[at + axis] = Math.exp(target[at + axis]);
  }
}

/** Moving Gaussians come first, so that only the beginning of `state` changes with time. */
class Clip {
  constructor(header, bytes) {
    this.header = header;
    const still = new Group(header, bytes, 0, header.still, 1);
    this.moving = new Group(header, bytes, still.end, header.moving, header.frames.length);
    this.numMoving = header.moving;
    this.count = header.still + header.moving;
    this.state = new Float32Array(this.count * FLOATS);
    still.write(INSTANT, this.state, this.numMoving);
    this.slopes = this.readSlopes([this.moving, still]);
    this.numFeatures = still.values.features.length;
    this.features = this.readFeatures([this.moving, still]);
  }

  /** What gates are computed from, in texels of three numbers and one that is unused. */
  readFeatures(groups) {
    const each = 4 * Math.ceil(this.numFeatures / 3);
    const features = new Float32Array(this.count * each);
    let first = 0;
    for (const group of groups) {
      for (let k = 0; k < this.numFeatures; k++)
        group.fill("features", k, INSTANT, features, first * each + 4 * Math.floor(k / 3) + (k % 3), each);
      first += group.count;
    }
    return features;
  }

  /** The number of each Gaussian's expert. */
  experts() {
    const found = new Uint8Array(this.count);
    for (let i = 0; i < this.count; i++)
      found[i] = this.header.kinds[Math.round(this.state[i * FLOATS + 11])][0];
    return found;
  }

  /** Bytes of the nine coefficients of degree 1, three texels of four each. */
  readSlopes(groups) {
    const slopes = new Uint8Array(this.count * 12);
    let first = 0;
    for (const group of groups) {
      for (let k = 0; k < 9; k++) {
        const column = group.values.slopes[k];
        const place = 4 * Math.floor(k / 3) + (k % 3);
        for (let i = 0; i < group.count; i++) slopes[(first + i) * 12 + place] = column[i];
      }
      first += group.count;
    }
    return slopes;
  }

  /** The key frames around a frame, and how far it is from the first to the second. */
  between(frame) {
    const frames = this.header.frames;
    let after = frames.findIndex((key) => key >= frame);
    if (after < 0) after = frames.length - 1;
    const before = frames[after] === frame ? after : Math.max(0, after - 1);
    const gap = frames[after] - frames[before];
    const weight = gap > 0 ? (frame - frames[before]) / gap : 0;
    if (this.header.blend) return { before, after, weight };
    const nearest = weight < 0.5 ? before : after;
    return { before: nearest, after: nearest, weight: 0 };
  }

  /** Moves to a frame, which may lie between two. */
  seek(frame) {
    this.moving.write(this.between(frame), this.state, 0);
  }

  /** Centres of some Gaussians, three numbers each. */
  centres(first, count) {
    const found = new Float32Array(count * 3);
    for (let i = 0; i < count; i++)
      for (let axis = 0; axis < 3; axis++)
        found[3 * i + axis] = this.state[(first + i) * FLOATS + axis];
    return found;
  }
}
