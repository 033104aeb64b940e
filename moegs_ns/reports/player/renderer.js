// Draws sorted Gaussians with WebGL 2, as one set or each expert by itself.

const UNITS = { state: 0, slopes: 1, features: 2, maps: 3 }; // of textures
const FUSED = "fused";

/** Covers the picture. */
const QUAD_SHADER = `#version 300 es
layout(location = 0) in vec2 corner;
void main() { gl_Position = vec4(corner, 0.0, 1.0); }`;

/** A linked program and the places of its uniforms. */
class Program {
  constructor(gl, vertexShader, fragmentShader) {
    this.gl = gl;
    this.own = gl.createProgram();
    this.places = {};
    for (const [kind, source] of [[gl.VERTEX_SHADER, vertexShader], [gl.FRAGMENT_SHADER, fragmentShader]]) {
      const shader = gl.createShader(kind);
      gl.shaderSource(shader, source);
      gl.compileShader(shader);
      if (!gl.getShaderParameter(shader, gl.COMPILE_STATUS)) throw new Error(gl.getShaderInfoLog(shader));
      gl.attachShader(this.own, shader);
    }
    gl.linkProgram(this.own);
    if (!gl.getProgramParameter(this.own, gl.LINK_STATUS)) throw new Error(gl.getProgramInfoLog(this.own));
  }

  place(name) {
    return (this.places[name] ??= this.gl.getUniformLocation(this.own, name));
  }
}

/** Where the picture is seen from, for all programs alike. */
function setCamera(gl, program, camera) {
  const { width, height } = gl.canvas;
  gl.uniformMatrix4fv(program.place("view"), false, camera.viewMatrix());
  gl.uniform4fv(program.place("lens"), camera.lens(width, height));
  gl.uniform2f(program.place("size"), width, height);
}

class Renderer {
  constructor(canvas, clip) {
    const gl = canvas.getContext("webgl2", { alpha: false, antialias: false });
    if (!gl) throw new Error("This page needs WebGL 2, which this browser does not offer.");
    this.canvas = canvas;
    this.gl = gl;
    this.clip = clip;
    this.starts = [0, 0];
    this.plain = new Program(gl, splatVertexShader(0), splatFragmentShader(0));
    this.makeQuads();
    this.makeTextures();
    this.mixture = clip.header.gates ? Mixture.made(gl, clip) : null;
    gl.enable(gl.BLEND);
    gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
    gl.clearColor(...clip.header.background, 1);
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
    gl.vertexAttribDivisor(1, 1);
  }

  makeTextures() {
    const gl = this.gl, clip = this.clip;
    const rows = Math.max(1, Math.ceil(clip.count / PER_ROW));
    const most = gl.getParameter(gl.MAX_TEXTURE_SIZE);
    if (rows > most) throw new Error("These are more Gaussians than the graphics card takes.");
    const make = (unit, width, internal, type, content) => {
      if (width > most) throw new Error("These are more Gaussians than the graphics card takes.");
      gl.activeTexture(gl.TEXTURE0 + unit);
      gl.bindTexture(gl.TEXTURE_2D, gl.createTexture());
      for (const filter of [gl.TEXTURE_MIN_FILTER, gl.TEXTURE_MAG_FILTER])
        gl.texParameteri(gl.TEXTURE_2D, filter, gl.NEAREST);
      gl.texImage2D(gl.TEXTURE_2D, 0, internal, width, rows, 0, gl.RGBA, type, content);
    };
    const slopes = new Uint8Array(rows * PER_ROW * 12);
    slopes.set(clip.slopes);
    make(UNITS.slopes, 3 * PER_ROW, gl.RGBA8, gl.UNSIGNED_BYTE, slopes);
    this.state = new Float32Array(rows * PER_ROW * FLOATS);
    this.state.set(clip.state);
    clip.state = this.state;
    make(UNITS.state, 4 * PER_ROW, gl.RGBA32F, gl.FLOAT, this.state);
    const layers = featureLayers(clip.numFeatures);
    if (layers === 0) return;
    const features = new Float32Array(rows * PER_ROW * 4 * layers);
    features.set(clip.features);
    make(UNITS.features, layers * PER_ROW, gl.RGBA32F, gl.FLOAT, features);
  }

  /** After `clip.seek`: updates the rows that hold moving Gaussians, in place. */
  uploadMoving() {
    const gl = this.gl, rows = Math.ceil(this.clip.numMoving / PER_ROW);
    if (rows === 0) return;
    gl.activeTexture(gl.TEXTURE0 + UNITS.state);
    gl.texSubImage2D(gl.TEXTURE_2D, 0, 0, 0, 4 * PER_ROW, rows, gl.RGBA, gl.FLOAT, this.state);
  }

  /** @param starts where the Gaussians of each expert begin in `order`, and where the last ends;
   *  of all as one set [0, length] */
  uploadOrder(order, starts) {
    const gl = this.gl;
    gl.bindBuffer(gl.ARRAY_BUFFER, this.order);
    gl.bufferData(gl.ARRAY_BUFFER, order, gl.DYNAMIC_DRAW);
    this.starts = starts;
  }

  /** @param look what to draw: the camera and the frame; `show`, one of SHOW, the number of an
   *    expert or FUSED; whether each expert is `shown`; whether colours are `byExpert`
   *  @returns whether it is drawn, for which the order must be of all at once or of each expert */
  draw(look) {
    const gl = this.gl, isFused = look.show === FUSED;
    if (this.starts.length !== (isFused ? 2 : this.mixture.count + 1)) return false;
    gl.viewport(0, 0, this.canvas.width, this.canvas.height);
    if (isFused) {
      gl.clear(gl.COLOR_BUFFER_BIT);
      this.splat(this.plain, look, 0);
    } else this.mixture.draw(look, (program, expert) => this.splat(program, look, expert));
    return true;
  }

  /** Draws the Gaussians of one part of the order. */
  splat(program, look, part) {
    const gl = this.gl, { header } = this.clip, isFused = look.show === FUSED;
    const kinds = new Float32Array(4 * MAX_KINDS), tints = new Float32Array(4 * MAX_KINDS);
    header.kinds.forEach(([expert, near, eps2d, antialiased], i) => {
      kinds.set([near, eps2d, antialiased ? 1 : 0, !isFused || look.shown[expert] ? 1 : 0], 4 * i);
      tints.set(header.experts[expert].color, 4 * i);
    });
    const { low, step } = header.codes.slopes;
    gl.useProgram(program.own);
    setCamera(gl, program, look.camera);
    for (const name of ["state", "slopes", "features"]) gl.uniform1i(program.place(name), UNITS[name]);
    gl.uniform3fv(program.place("slopeLow"), low);
    gl.uniform3fv(program.place("slopeStep"), step);
    gl.uniform3fv(program.place("eye"), look.camera.position);
    gl.uniform4fv(program.place("kinds"), kinds);
    gl.uniform4fv(program.place("tints"), tints);
    gl.uniform1i(program.place("byExpert"), look.byExpert ? 1 : 0);
    gl.uniform1i(program.place("asOneSet"), isFused ? 1 : 0);
    const first = this.starts[part];
    gl.vertexAttribIPointer(1, 1, gl.UNSIGNED_INT, 0, 4 * first);
    gl.drawArraysInstanced(gl.TRIANGLE_STRIP, 0, 4, this.starts[part + 1] - first);
  }
}
