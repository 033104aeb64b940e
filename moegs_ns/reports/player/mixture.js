// Draws a mixture: every expert into textures of its own, then one picture of them by the gates.

/** Formats of textures that may be drawn into and blended, the best first. */
function floatFormats(gl) {
  const any = gl.getExtension("EXT_color_buffer_float");
  const all = any && gl.getExtension("EXT_float_blend");
  const half = any || gl.getExtension("EXT_color_buffer_half_float");
  return [...(all ? ["RGBA32F"] : []), ...(half ? ["RGBA16F"] : [])];
}

class Mixture {
  /** The mixture's drawing; null where the browser or its graphics card has no such textures. */
  static made(gl, clip) {
    for (const format of floatFormats(gl)) {
      const mixture = new Mixture(gl, clip, format);
      if (mixture.resize(1, 1)) return mixture;
    }
    return null;
  }

  constructor(gl, clip, format) {
    const { header } = clip;
    Object.assign(this, { gl, header, format });
    this.count = header.experts.length;
    this.layers = featureLayers(clip.numFeatures);
    this.splats = new Program(gl, splatVertexShader(this.layers), splatFragmentShader(this.layers));
    this.gates = new Program(gl, QUAD_SHADER, gatesShader(header.gates, clip.numFeatures));
    this.targets = header.experts.map(() => gl.createFramebuffer());
  }

  /** Makes textures of a size: layers of one array, first all of the first expert.
   *  @returns whether they can be drawn into */
  resize(width, height) {
    const gl = this.gl, each = 1 + this.layers;
    if (width === this.width && height === this.height) return true;
    if (each > gl.getParameter(gl.MAX_DRAW_BUFFERS)) return false;
    gl.deleteTexture(this.maps);
    this.maps = gl.createTexture();
    Object.assign(this, { width, height });
    gl.activeTexture(gl.TEXTURE0 + UNITS.maps);
    gl.bindTexture(gl.TEXTURE_2D_ARRAY, this.maps);
    gl.texStorage3D(gl.TEXTURE_2D_ARRAY, 1, gl[this.format], width, height, this.count * each);
    for (const filter of [gl.TEXTURE_MIN_FILTER, gl.TEXTURE_MAG_FILTER])
      gl.texParameteri(gl.TEXTURE_2D_ARRAY, filter, gl.NEAREST);
    const places = Array.from({ length: each }, (_, layer) => gl.COLOR_ATTACHMENT0 + layer);
    const isComplete = this.targets.map((target, expert) => {
      gl.bindFramebuffer(gl.FRAMEBUFFER, target);
      places.forEach((place, layer) =>
        gl.framebufferTextureLayer(gl.FRAMEBUFFER, place, this.maps, 0, expert * each + layer));
      gl.drawBuffers(places);
      return gl.checkFramebufferStatus(gl.FRAMEBUFFER) === gl.FRAMEBUFFER_COMPLETE;
    });
    gl.bindFramebuffer(gl.FRAMEBUFFER, null);
    return isComplete.every(Boolean);
  }

  /** @param look see `Renderer.draw`; @param splat draws the Gaussians of one expert */
  draw(look, splat) {
    const gl = this.gl, { canvas } = gl;
    this.resize(canvas.width, canvas.height);
    const only = look.show >= 0 ? look.show : null;
    this.targets.forEach((target, expert) => {
      if (only === null ? !look.shown[expert] : only !== expert) return;
      gl.bindFramebuffer(gl.FRAMEBUFFER, target);
      for (let layer = 0; layer <= this.layers; layer++)
        gl.clearBufferfv(gl.COLOR, layer, [0, 0, 0, 0]);
      splat(this.splats, expert);
    });
    gl.bindFramebuffer(gl.FRAMEBUFFER, null);
    gl.disable(gl.BLEND);
    this.blend(look);
    gl.enable(gl.BLEND);
  }

  /** The last step: one picture of what has been drawn. */
  blend(look) {
    const gl = this.gl, { gates, experts, background } = this.header;
    const program = this.gates;
    const span = gates.lastFrame - gates.firstFrame;
    gl.useProgram(program.own);
    setCamera(gl, program, look.camera);
    gl.uniform1i(program.place("maps"), UNITS.maps);
    const { position } = look.camera;
    gl.uniform3fv(program.place("origin"), position.map((v, i) => (v - gates.center[i]) / gates.extent));
    gl.uniform1f(program.place("time"), (look.frame - gates.firstFrame) / span);
    gl.uniform1i(program.place("show"), look.show);
    gl.uniform1iv(program.place("takesPart"), look.shown.map(Number));
    gl.uniform3fv(program.place("tints"), experts.flatMap((expert) => expert.color.slice(0, 3)));
    gl.uniform3fv(program.place("nothing"), background);
    gl.drawArrays(gl.TRIANGLE_STRIP, 0, 4);
  }
}
