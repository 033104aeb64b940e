// The page: time, controls, and what is to be drawn and sorted.

const $ = (id) => document.getElementById(id);

class Player {
  constructor(header, bytes) {
    this.header = header;
    this.frames = header.frames;
    this.canvas = $("picture");
    this.clip = new Clip(header, bytes);
    this.clip.seek(this.frames[0]);
    this.camera = new Camera(header);
    this.renderer = new Renderer(this.canvas, this.clip);
    this.show = this.renderer.mixture ? SHOW.mixture : FUSED;
    this.frame = this.frames[0];
    this.isPlaying = false;
    this.byExpert = false;
    this.shown = header.experts.map(() => true);
    this.version = 1; // of camera and time together
    this.sorted = 0; // the version that the last order belongs to
    this.isSorting = false;
    this.isChanged = true;
    this.startSorter();
    new ResizeObserver(() => this.resize()).observe(this.canvas);
    this.resize();
    this.addControls();
    requestAnimationFrame((now) => this.tick(now));
  }

  startSorter() {
    const source = new Blob([$("sorter").textContent], { type: "text/javascript" });
    this.sorter = new Worker(URL.createObjectURL(source));
    this.sorter.onmessage = ({ data }) => {
      this.last = data;
      this.renderer.uploadOrder(data.order, data.starts);
      this.sorted = data.version;
      this.isSorting = false;
      this.changed();
    };
    this.askForOrder({ all: this.clip.centres(0, this.clip.count), experts: this.clip.experts() });
  }

  askForOrder(content) {
    const { ahead, position } = this.camera;
    this.isSorting = true;
    this.sorter.postMessage({
      ...content, axis: ahead, offset: -dot(ahead, position), version: this.version,
      apart: this.show === FUSED ? 0 : this.header.experts.length,
    });
  }

  resize() {
    const ratio = window.devicePixelRatio || 1;
    this.canvas.width = Math.max(1, Math.round(this.canvas.clientWidth * ratio));
    this.canvas.height = Math.max(1, Math.round(this.canvas.clientHeight * ratio));
    this.changed();
  }

  /** Something is to be drawn anew. */
  changed() {
    this.isChanged = true;
    this.canvas.dataset.drawn = "waiting";
  }

  /** The camera has moved, or time has. */
  moved() {
    this.version++;
    this.changed();
  }

  seek(frame) {
    this.frame = frame;
    this.clip.seek(frame);
    this.renderer.uploadMoving();
    $("timeline").value = Math.round(frame);
    $("frame").textContent = `frame ${Math.round(frame)} of ${this.frames[0]} to ${this.frames.at(-1)}`;
    this.moved();
  }

  step(change) {
    this.pause();
    const [first, last] = [this.frames[0], this.frames.at(-1)];
    this.seek(Math.min(last, Math.max(first, Math.round(this.frame) + change)));
  }

  play() {
    if (this.frames.length < 2) return;
    this.isPlaying = true;
    this.before = null;
    $("play").textContent = "Pause";
  }

  pause() {
    this.isPlaying = false;
    $("play").textContent = "Play";
  }

  /** Time runs by the clock, however long drawing takes; after the last frame comes the first. */
  advance(now) {
    const [first, last] = [this.frames[0], this.frames.at(-1)];
    const seconds = this.before === null ? 0 : (now - this.before) / 1000;
    this.before = now;
    const ahead = this.frame - first + seconds * (this.header.fps || 30) * Number($("speed").value);
    this.seek(first + (ahead > last - first ? 0 : ahead));
  }

  tick(now) {
    requestAnimationFrame((next) => this.tick(next));
    if (this.isPlaying) this.advance(now);
    if (this.sorted !== this.version && !this.isSorting)
      this.askForOrder({ moved: this.clip.centres(0, this.clip.numMoving) });
    if (!this.isChanged) return;
    this.isChanged = false;
    const isDrawn = this.renderer.draw(this);
    this.canvas.dataset.drawn = isDrawn && this.sorted === this.version ? "settled" : "waiting";
  }

  addControls() {
    const timeline = $("timeline");
    Object.assign(timeline, { min: this.frames[0], max: this.frames.at(-1), step: 1 });
    timeline.oninput = () => { this.pause(); this.seek(Number(timeline.value)); };
    $("play").onclick = () => (this.isPlaying ? this.pause() : this.play());
    $("back").onclick = () => this.step(-1);
    $("ahead").onclick = () => this.step(1);
    for (const id of ["play", "back", "ahead", "timeline"]) $(id).disabled = this.frames.length < 2;
    this.header.cameras.forEach((camera, i) => $("camera").add(new Option(camera.name, i)));
    $("camera").onchange = () => {
      this.camera.jump(this.header.cameras[Number($("camera").value)]);
      this.moved();
    };
    $("colours").onchange = () => {
      this.byExpert = $("colours").value === "expert";
      this.changed();
    };
    this.addShow();
    this.addLegend();
    addGestures(this.canvas, this);
    document.onkeydown = (event) => {
      if (event.target.matches?.("select, input, button")) return;
      const act = { " ": () => $("play").click(), ArrowLeft: () => this.step(-1), ArrowRight: () => this.step(1) }[event.key];
      if (act) { event.preventDefault(); act(); }
    };
    this.seek(this.frame);
    this.play();
  }

  /** What of a mixture is drawn; the gates have the colours of the legend. */
  addShow() {
    if (!this.header.gates) return;
    if (!this.renderer.mixture) {
      $("about").append(" This browser cannot draw into textures of floats, which gates need, so the fused set is shown.");
      return;
    }
    const choices = [
      ["mixture", SHOW.mixture], ["gates", SHOW.gates], ["strongest gate", SHOW.strongest],
      ...this.header.experts.map(({ name }, expert) => [`${name} alone`, expert]),
      ["fused set", FUSED],
    ];
    choices.forEach(([text], i) => $("show").add(new Option(text, i)));
    $("show").onchange = () => {
      this.show = choices[Number($("show").value)][1];
      this.moved();
    };
    $("shows").hidden = false;
  }

  addLegend() {
    this.header.experts.forEach((expert, i) => {
      const label = document.createElement("label"), box = document.createElement("input"), patch = document.createElement("i");
      Object.assign(box, { type: "checkbox", checked: true });
      box.onchange = () => { this.shown[i] = box.checked; this.changed(); };
      patch.style.background = `rgb(${expert.color.slice(0, 3).map((value) => Math.round(255 * value))})`;
      label.append(box, patch, expert.name);
      $("legend").append(label);
    });
  }
}

/** One finger or the left button orbits; two fingers, the right button or shift pan and zoom. */
function addGestures(canvas, player) {
  const fingers = new Map();
  const camera = player.camera;
  canvas.oncontextmenu = (event) => event.preventDefault();
  canvas.onpointerdown = (event) => {
    canvas.setPointerCapture(event.pointerId);
    fingers.set(event.pointerId, [event.clientX, event.clientY]);
  };
  canvas.onpointerup = canvas.onpointercancel = (event) => fingers.delete(event.pointerId);
  canvas.onpointermove = (event) => {
    const last = fingers.get(event.pointerId);
    if (!last) return;
    const now = [event.clientX, event.clientY];
    const [x, y] = [(now[0] - last[0]) / canvas.clientHeight, (now[1] - last[1]) / canvas.clientHeight];
    if (fingers.size === 2) {
      const other = [...fingers].find(([id]) => id !== event.pointerId)[1];
      const apart = (point) => Math.hypot(point[0] - other[0], point[1] - other[1]) + 1;
      camera.zoom(apart(last) / apart(now));
      camera.pan(x / 2, y / 2);
    } else if (event.buttons === 2 || event.shiftKey) camera.pan(x, y);
    else camera.orbit(-3 * x, -3 * y);
    fingers.set(event.pointerId, now);
    player.moved();
  };
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    camera.zoom(Math.exp(0.001 * event.deltaY));
    player.moved();
  }, { passive: false });
}

async function start() {
  try {
    if (!window.DecompressionStream) throw new Error("This page needs a browser of 2023 or later.");
    const header = JSON.parse($("header").textContent);
    const bytes = await unpacked($("payload").textContent);
    $("payload").remove();
    window.player = new Player(header, bytes);
  } catch (error) {
    $("about").textContent = error.message;
    throw error;
  }
}
start();
