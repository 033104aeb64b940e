// The shader that blends the experts' pictures: the router's logits, gates and blend at each pixel.

const SHOW = { mixture: -1, gates: -2, strongest: -3 }; // or the number of an expert
const TERMS = 16; // of a sum in one expression, which browsers allow few of

const literal = (value) => value.toExponential();
const literals = (values) => `float[${values.length}](${values.map(literal).join(", ")})`;

/** Textures that hold the router's features of one expert, three in each. */
const featureLayers = (count) => Math.ceil(count / 3);

/** Φ as straight-line code: linear layers from x to y, with ReLU between them. */
function phiCode(layers) {
  let names = layers[0].rows[0].map((_, i) => `x[${i}]`);
  const lines = layers.flatMap(({ rows, bias }, depth) => {
    const own = rows.map((_, j) => (depth === layers.length - 1 ? `y[${j}]` : `h${depth}_${j}`));
    const sums = rows.flatMap((row, j) => {
      const terms = row.map((weight, i) => `${literal(weight)} * ${names[i]}`);
      const sum = [`${own[j].startsWith("h") ? "float " : ""}${own[j]} = ${literal(bias[j])};`];
      while (terms.length) sum.push(`${own[j]} += ${terms.splice(0, TERMS).join(" + ")};`);
      if (depth < layers.length - 1) sum.push(`${own[j]} = max(${own[j]}, 0.0);`);
      return sum;
    });
    names = own;
    return sums;
  });
  return lines.map((line) => `  ${line}`).join("\n");
}

/** Φ's inputs; what a Gaussian's weights of time were multiplied by is the same for all of them. */
function phiInputs({ inputs, weights }) {
  const vector = (name) => ["x", "y", "z"].map((axis) => `${name}.${axis}`);
  return inputs.flatMap((name) => {
    if (name === "ray") return [...vector("origin"), ...vector("direction")];
    if (name === "time") return ["time"];
    const feature = `f[${weights.indexOf(name)}]`;
    return [name === "w_time" ? `time * ${feature}` : feature];
  });
}

/** Logits without Φ, with a Φ of each expert's features, or with one Φ of all experts' logits. */
function logitCode(gates) {
  if (gates.phi.length === 0) return { before: "", own: "f[0]" };
  const call = `float y[OUTPUTS]; phi(float[INPUTS](${phiInputs(gates).join(", ")}), y);`;
  if (gates.weights.length === 0) return { before: call, own: "y[k]" };
  return { before: "", inLoop: call, own: "f[0] + y[0]" };
}

/** Logits are linear in the router's, the opacity and the mean evidence of what is seen. */
function correctionCode({ correction, weights }) {
  if (!correction) return "";
  const [ofLogit, ofOpacity, ...ofEvidence] = correction.slopes.map(literal);
  const evidence = ofEvidence.map((slope, i) => `${slope} * f[${weights.length + i}]`).join(" + ");
  return `
    const float biases[EXPERTS] = ${literals(correction.bias)};
    float opacity = texelFetch(maps, ivec3(place, k * LAYERS), 0).a;
    logit = ${ofLogit} * logit + ${ofOpacity} * opacity + biases[k]
      + (${evidence}) / max(opacity, ${literal(correction.minOpacity)});`;
}

/** @param count features of the router in the textures */
function gatesShader(gates, count) {
  const experts = gates.backgrounds.length, last = gates.phi.at(-1);
  const { before, inLoop = "", own } = logitCode(gates);
  const feature = (i) => `    f[${i}] = texelFetch(maps, ivec3(place, k * LAYERS + ${1 + Math.floor(i / 3)}), 0)[${i % 3}];`;
  const phi = last ? `
const int INPUTS = ${gates.phi[0].rows[0].length}, OUTPUTS = ${last.rows.length};
void phi(float x[INPUTS], out float y[OUTPUTS]) {
${phiCode(gates.phi)}
}` : "";
  return `#version 300 es
precision highp float;
precision highp int;
uniform highp sampler2DArray maps;  // of each expert in turn: colour and opacity, then features
uniform mat4 view;
uniform vec4 lens;
uniform vec2 size;
uniform vec3 origin;
uniform float time;
uniform int show;
uniform bool takesPart[${experts}];
uniform vec3 tints[${experts}];
uniform vec3 nothing;
out vec4 result;

const int EXPERTS = ${experts}, LAYERS = ${1 + featureLayers(count)};
const float TEMPERATURE = ${literal(gates.temperature)}, UNIFORM = ${literal(gates.uniform)};
const vec3 BACKGROUNDS[EXPERTS] = vec3[EXPERTS](${gates.backgrounds.map((c) => `vec3(${c.map(literal).join(", ")})`).join(", ")});
${phi}

void findLogits(ivec2 place, out float logits[EXPERTS]) {
  vec2 pixel = vec2(gl_FragCoord.x, size.y - gl_FragCoord.y);
  vec3 direction = normalize(vec3((pixel - lens.zw) / lens.xy, 1.0) * mat3(view));
  ${before}
  for (int k = 0; k < EXPERTS; k++) {
    float f[${Math.max(1, count)}];
${upTo(count, feature)}
    ${inLoop}
    float logit = ${own};
    ${correctionCode(gates)}
    logits[k] = logit / TEMPERATURE;
  }
}

/** The softmax over the experts that take part; false if none does. */
bool findGates(ivec2 place, out float gates[EXPERTS]) {
  float logits[EXPERTS], largest = -1e38, sum = 0.0, number = 0.0;
  findLogits(place, logits);
  for (int k = 0; k < EXPERTS; k++) if (takesPart[k]) largest = max(largest, logits[k]);
  for (int k = 0; k < EXPERTS; k++) {
    gates[k] = takesPart[k] ? exp(logits[k] - largest) : 0.0;
    sum += gates[k];
    number += takesPart[k] ? 1.0 : 0.0;
  }
  for (int k = 0; k < EXPERTS; k++)
    gates[k] = (1.0 - UNIFORM) * gates[k] / sum + (takesPart[k] ? UNIFORM / number : 0.0);
  return number > 0.0;
}

vec3 picture(ivec2 place, int k) {
  vec4 seen = texelFetch(maps, ivec3(place, k * LAYERS), 0);
  return seen.rgb + (1.0 - seen.a) * BACKGROUNDS[k];
}

void main() {
  ivec2 place = ivec2(gl_FragCoord.xy);
  float gates[EXPERTS];
  vec3 found = vec3(0.0);
  int strongest = 0;
  if (show >= 0) found = picture(place, show);
  else if (!findGates(place, gates)) found = nothing;
  else {
    for (int k = 0; k < EXPERTS; k++) {
      if (takesPart[k]) found += gates[k] * (show == ${SHOW.gates} ? tints[k] : picture(place, k));
      if (gates[k] > gates[strongest]) strongest = k;
    }
    if (show == ${SHOW.strongest}) found = tints[strongest];
  }
  result = vec4(found, 1.0);
}`;
}
