// Draws sorted Gaussians as quads with WebGL 2: their covariance is projected as in EWA splatting.

const PER_ROW = 512; // Gaussians in a row of the textures
const MAX_KINDS = 16;

const VERTEX_SHADER = `#version 300 es
precision highp float;
precision highp int;
layout(location = 0) in vec2 corner;
layout(location = 1) in uint row;
uniform highp sampler2D state;
uniform highp sampler2D slopes;
uniform mat4 view;
uniform vec4 lens;
uniform vec2 size;
uniform vec3 eye;
uniform vec4 kinds[${MAX_KINDS}];
uniform vec4 tints[${MAX_KINDS}];
uniform vec3 slopeLow[3];
uniform vec3 slopeStep[3];
uniform bool byExpert;
out vec2 deviation;
flat out vec4 color;

const float SMALLEST_ALPHA = 1.0 / 255.0;
const float MARGIN = 0.15;  // of the field of view, beyond which the projection is not linearised
const float LINEAR = 0.4886025119029199;

vec3 seenColor(vec3 base, vec3 centre, ivec2 place) {
  vec3 d = normalize(centre - eye);
  vec3 found = base;
  for (int k = 0; k < 3; k++) {
    vec3 code = texelFetch(slopes, ivec2(place.x * 3 + k, place.y), 0).rgb * 255.0;
    vec3 slope = slopeLow[k] + slopeStep[k] * code;
    found += LINEAR * (k == 1 ? d.z : k == 0 ? -d.y : -d.x) * slope;
  }
  return max(found, 0.0);
}

void main() {
  gl_Position = vec4(0.0, 0.0, 2.0, 1.0);  // outside, for all that is not drawn
  ivec2 place = ivec2(int(row) % ${PER_ROW}, int(row) / ${PER_ROW});
  ivec2 texel = ivec2(place.x * 4, place.y);
  vec4 centre = texelFetch(state, texel, 0);
  vec4 q = texelFetch(state, texel + ivec2(1, 0), 0);
  vec4 scaleKind = texelFetch(state, texel + ivec2(2, 0), 0);
  vec3 base = texelFetch(state, texel + ivec2(3, 0), 0).rgb;
  vec4 kind = kinds[int(scaleKind.w + 0.5)];  // near plane, eps2d, antialiased, shown
  vec4 tint = tints[int(scaleKind.w + 0.5)];
  vec3 p = (view * vec4(centre.xyz, 1.0)).xyz;
  if (p.z <= kind.x || kind.w < 0.5) return;

  q /= length(q);
  float w = q.x, x = q.y, y = q.z, z = q.w;
  mat3 spread = mat3(
    scaleKind.x * vec3(1.0 - 2.0 * (y * y + z * z), 2.0 * (x * y + w * z), 2.0 * (x * z - w * y)),
    scaleKind.y * vec3(2.0 * (x * y - w * z), 1.0 - 2.0 * (x * x + z * z), 2.0 * (y * z + w * x)),
    scaleKind.z * vec3(2.0 * (x * z + w * y), 2.0 * (y * z - w * x), 1.0 - 2.0 * (x * x + y * y)));
  vec2 least = -lens.zw / lens.xy - MARGIN * size / lens.xy;
  vec2 most = (size - lens.zw) / lens.xy + MARGIN * size / lens.xy;
  vec2 slope = clamp(p.xy / p.z, least, most);
  mat3 rotation = mat3(view);
  vec3 rowX = vec3(lens.x / p.z, 0.0, -slope.x * lens.x / p.z) * rotation * spread;
  vec3 rowY = vec3(0.0, lens.y / p.z, -slope.y * lens.y / p.z) * rotation * spread;
  float xx = dot(rowX, rowX), xy = dot(rowX, rowY), yy = dot(rowY, rowY);
  float before = xx * yy - xy * xy;
  xx += kind.y;
  yy += kind.y;
  float after = xx * yy - xy * xy;
  if (!(after > 0.0)) return;
  float opacity = centre.w;
  if (kind.z > 0.5) opacity *= sqrt(max(before / after, 1e-12));
  if (opacity < SMALLEST_ALPHA) return;

  float mean = 0.5 * (xx + yy);
  float difference = sqrt(max(mean * mean - after, 0.0));
  vec2 axis = abs(xy) > 1e-6 * mean ? normalize(vec2(xy, mean + difference - xx))
    : xx >= yy ? vec2(1.0, 0.0) : vec2(0.0, 1.0);
  float reach = sqrt(2.0 * log(opacity / SMALLEST_ALPHA));
  deviation = reach * corner;
  vec2 offset = deviation.x * sqrt(mean + difference) * axis
    + deviation.y * sqrt(max(mean - difference, 0.0)) * vec2(-axis.y, axis.x);
  vec2 pixel = lens.xy * p.xy / p.z + lens.zw + offset;
  gl_Position = vec4(2.0 * pixel.x / size.x - 1.0, 1.0 - 2.0 * pixel.y / size.y, 0.0, 1.0);
  vec3 seen = seenColor(base, centre.xyz, place);
  float light = dot(seen, vec3(0.299, 0.587, 0.114));
  color = vec4(byExpert ? tint.rgb * (0.25 + 0.75 * light) : seen, opacity);
}`;

const FRAGMENT_SHADER = `#version 300 es
precision highp float;
in vec2 deviation;
flat in vec4 color;
out vec4 result;
void main() {
  float alpha = min(0.999, color.a * exp(-0.5 * dot(deviation, deviation)));
  if (alpha < 1.0 / 255.0) discard;
  result = vec4(color.rgb * alpha, alpha);
}`;

class Renderer {
  constructor(canvas, clip) {
    const gl = canvas.getContext("webgl2", { alpha: false, antialias: false });
    if (!gl) throw new Error("This page needs WebGL 2, which this browser does not offer.");
    this.canvas = canvas;
    this.gl = gl;
    this.clip = clip;
    this.numSorted = 0;
    this.program = this.link();
    this.places = {};
    this.makeQuads();
    this.makeTextures();
    gl.useProgram(this.program);
    gl.uniform1i(this.place("state"), 0);
    gl.uniform1i(this.place("slopes"), 1);
    const { low, step } = clip.header.codes.slopes;
    gl.uniform3fv(this.place("slopeLow"), low);
    gl.uniform3fv(this.place("slopeStep"), step);
    gl.enable(gl.BLEND);
    gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
    gl.clearColor(...clip.header.background, 1);
  }

  link() {
    const gl = this.gl, program = gl.createProgram();
    for (const [kind, source] of [[gl.VERTEX_SHADER, VERTEX_SHADER], [gl.FRAGMENT_SHADER, FRAGMENT_SHADER]]) {
      const shader = gl.createShader(kind);
      gl.shaderSource(shader, source);
      gl.compileShader(shader);
      if (!gl.getShaderParameter(shader, gl.COMPILE_STATUS)) throw new Error(gl.getShaderInfoLog(shader));
      gl.attachShader(program, shader);
    }
    gl.linkProgram(program);
    if (!gl.getProgramParameter(program, gl.LINK_STATUS)) throw new Error(gl.getProgramInfoLog(program));
    return program;
  }

  place(name) {
    return (this.places[name] ??= this.gl.getUniformLocation(this.program, name));
  }

  makeQuads() {
    const gl = this.gl;
    gl.bindBuffer(gl.ARRAY_BUFFER, gl.createBuffer());
    gl.bufferData(gl.ARRAY_BUFFER, new Float32Array([-1, -1, 1, -1, -1, 1, 1, 1]), gl.STATIC_DRAW);
    gl.enableVertexAttribArray(0);
    gl.vertexAttribPointer(0, 2, gl.FLOAT, false, 0, 0);
    this.order = gl.createBuffer();
    gl.bindBuffer(gl.ARRAY_BUFFER, this.order);
    gl.enableVertexAttribArray(1);
    gl.vertexAttribIPointer(1, 1, gl.UNSIGNED_INT, 0, 0);
    gl.vertexAttribDivisor(1, 1);
  }

  makeTextures() {
    const gl = this.gl, clip = this.clip;
    const rows = Math.max(1, Math.ceil(clip.count / PER_ROW));
    const most = gl.getParameter(gl.MAX_TEXTURE_SIZE);
    if (rows > most || 4 * PER_ROW > most) throw new Error("These are more Gaussians than the graphics card takes.");
    const make = (unit, width, internal, type, content) => {
      gl.activeTexture(gl.TEXTURE0 + unit);
      gl.bindTexture(gl.TEXTURE_2D, gl.createTexture());
      for (const filter of [gl.TEXTURE_MIN_FILTER, gl.TEXTURE_MAG_FILTER])
        gl.texParameteri(gl.TEXTURE_2D, filter, gl.NEAREST);
      gl.texImage2D(gl.TEXTURE_2D, 0, internal, width, rows, 0, gl.RGBA, type, content);
    };
    const slopes = new Uint8Array(rows * PER_ROW * 12);
    slopes.set(clip.slopes);
    make(1, 3 * PER_ROW, gl.RGBA8, gl.UNSIGNED_BYTE, slopes);
    this.state = new Float32Array(rows * PER_ROW * FLOATS);
    this.state.set(clip.state);
    clip.state = this.state;
    make(0, 4 * PER_ROW, gl.RGBA32F, gl.FLOAT, this.state);
  }

  /** After `clip.seek`: updates the rows that hold moving Gaussians, in place. */
  uploadMoving() {
    const gl = this.gl, rows = Math.ceil(this.clip.numMoving / PER_ROW);
    if (rows === 0) return;
    gl.activeTexture(gl.TEXTURE0);
    gl.texSubImage2D(gl.TEXTURE_2D, 0, 0, 0, 4 * PER_ROW, rows, gl.RGBA, gl.FLOAT, this.state);
  }

  uploadOrder(order) {
    const gl = this.gl;
    gl.bindBuffer(gl.ARRAY_BUFFER, this.order);
    gl.bufferData(gl.ARRAY_BUFFER, order, gl.DYNAMIC_DRAW);
    this.numSorted = order.length;
  }

  /** @param camera see `Camera`; @param shown whether each expert is drawn */
  draw(camera, byExpert, shown) {
    const gl = this.gl, header = this.clip.header;
    const { width, height } = this.canvas;
    const kinds = new Float32Array(4 * MAX_KINDS), tints = new Float32Array(4 * MAX_KINDS);
    header.kinds.forEach(([expert, near, eps2d, antialiased], i) => {
      kinds.set([near, eps2d, antialiased ? 1 : 0, shown[expert] ? 1 : 0], 4 * i);
      tints.set(header.experts[expert].color, 4 * i);
    });
    gl.viewport(0, 0, width, height);
    gl.clear(gl.COLOR_BUFFER_BIT);
    gl.uniformMatrix4fv(this.place("view"), false, camera.viewMatrix());
    gl.uniform4fv(this.place("lens"), camera.lens(width, height));
    gl.uniform2f(this.place("size"), width, height);
    gl.uniform3fv(this.place("eye"), camera.position);
    gl.uniform4fv(this.place("kinds"), kinds);
    gl.uniform4fv(this.place("tints"), tints);
    gl.uniform1i(this.place("byExpert"), byExpert ? 1 : 0);
    gl.drawArraysInstanced(gl.TRIANGLE_STRIP, 0, 4, this.numSorted);
  }
}
