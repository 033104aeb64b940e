// A pinhole camera (x right, y down, z ahead) that orbits about a point in front of it.

const dot = (a, b) => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
const plus = (a, b, factor = 1) => a.map((value, i) => value + factor * b[i]);
const cross = (a, b) => [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];

/** `vector` turned about a unit `axis`. */
function turnedAbout(axis, angle, vector) {
  const c = Math.cos(angle), s = Math.sin(angle), along = dot(axis, vector) * (1 - c);
  const across = cross(axis, vector);
  return vector.map((value, i) => c * value + s * across[i] + along * axis[i]);
}

class Camera {
  constructor(header) {
    this.up = header.up;
    this.focus = header.focus;
    this.jump(header.cameras[0]);
  }

  /** Goes to one of the cameras of the data set; the orbit's centre lies on its optical axis. */
  jump(own) {
    this.own = own;
    [this.right, this.down, this.ahead] = own.axes;
    this.position = own.position;
    const depth = dot(this.ahead, plus(this.focus, this.position, -1));
    this.distance = depth > 0.2 * own.depth ? depth : own.depth;
  }

  get centre() {
    return plus(this.position, this.ahead, this.distance);
  }

  orbit(yaw, pitch) {
    const centre = this.centre;
    const turn = (vector) => turnedAbout(this.right, pitch, turnedAbout(this.up, yaw, vector));
    const ahead = turn(this.ahead);
    if (Math.abs(dot(ahead, this.up)) > 0.995 && pitch !== 0) return;
    [this.right, this.down, this.ahead] = [turn(this.right), turn(this.down), ahead];
    this.position = plus(centre, this.ahead, -this.distance);
  }

  zoom(factor) {
    const centre = this.centre;
    this.distance *= factor;
    this.position = plus(centre, this.ahead, -this.distance);
  }

  /** By fractions of the picture's height. */
  pan(x, y) {
    const scale = (this.distance * this.own.height) / this.own.focal[1];
    this.position = plus(plus(this.position, this.right, -x * scale), this.down, -y * scale);
  }

  /** World to camera, column by column. */
  viewMatrix() {
    const rows = [this.right, this.down, this.ahead];
    const columns = [0, 1, 2].flatMap((axis) => [...rows.map((row) => row[axis]), 0]);
    return new Float32Array([...columns, ...rows.map((row) => -dot(row, this.position)), 1]);
  }

  /** Focal lengths and principal point in pixels, so that the whole image of the camera is seen. */
  lens(width, height) {
    const own = this.own, scale = Math.min(width / own.width, height / own.height);
    return new Float32Array([
      own.focal[0] * scale, own.focal[1] * scale,
      width / 2 + (own.centre[0] - own.width / 2) * scale,
      height / 2 + (own.centre[1] - own.height / 2) * scale,
    ]);
  }
}
